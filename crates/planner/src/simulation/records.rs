//! Which call each worker makes next: it works through one record after the other.

use crate::campaign::{Step, WHOLE, times};

/// A worker's record.
#[derive(Clone, Copy, Debug, Default)]
struct AtWork {
    step: usize,
    /// Calls of the step that it has still to make.
    left: u64,
}

/// The records, and who works on them.
#[derive(Debug)]
pub(super) struct Records {
    all: u64,
    begun: u64,
    done: u64,
    /// Records that have come to each step so far, and that have left it.
    reached: Vec<(u64, u64)>,
    workers: Vec<Option<AtWork>>,
}

impl Records {
    pub(super) fn new(all: u64, steps: usize, workers: u64) -> Records {
        let workers = vec![None; usize::try_from(workers).unwrap_or(usize::MAX)];
        Records { all, begun: 0, done: 0, reached: vec![(0, 0); steps], workers }
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn are_done(&self) -> bool {
        self.done == self.all
    }

    /// The step of the worker's next call; none: there is nothing left to do.
    pub(super) fn next_call(&mut self, worker: usize, steps: &[Step]) -> Option<usize> {
        let mut at = match self.workers[worker].take() {
            Some(at) => at,
            None => self.begin(steps)?,
        };
        while at.left == 0 {
            let left = &mut self.reached[at.step].1;
            *left += 1;
            let goes_on = part(*left, steps[at.step].go_on, 100) > 0 && at.step + 1 < steps.len();
            at = match goes_on {
                true => self.reach(at.step + 1, steps),
                false => {
                    self.done += 1;
                    self.begin(steps)?
                }
            };
        }
        self.workers[worker] = Some(AtWork { left: at.left - 1, ..at });
        Some(at.step)
    }

    fn begin(&mut self, steps: &[Step]) -> Option<AtWork> {
        if self.begun == self.all {
            return None;
        }
        self.begun += 1;
        Some(self.reach(0, steps))
    }

    fn reach(&mut self, step: usize, steps: &[Step]) -> AtWork {
        let reached = &mut self.reached[step].0;
        *reached += 1;
        AtWork { step, left: part(*reached, steps[step].calls, WHOLE) }
    }
}

/// What the last of `count` adds to their sum, each of which is `part` of `whole`: 0.6 of each is none of the first, one
/// of the second, …
fn part(count: u64, part: u64, whole: u64) -> u64 {
    times(count, part, whole) - times(count - 1, part, whole)
}
