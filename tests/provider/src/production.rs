//! Answers as they are produced: a model writes at its own pace, whether or not its client reads, and what it writes
//! is counted then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::book::{Decision, Ticket};
use crate::rules::AfterHangUp;
use crate::shared::Shared;

/// An answer that isn't streamed is produced in so many steps until it is sent.
const STEPS: u64 = 8;

/// How an answer is produced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Hidden output that comes before the rest.
    reasoning: u64,
    output: u64,
    /// Output of each step.
    step: u64,
    /// Until the first step.
    first: Duration,
    /// Between steps.
    gap: Duration,
}

impl Schedule {
    /// That of an answer that is streamed, or sent as a whole.
    pub(crate) fn new(decision: &Decision, streamed: bool, choices: u64) -> Self {
        let (usage, first) = (decision.usage, Duration::from_nanos(decision.answer_nanos));
        if streamed {
            let step = decision.tokens_per_chunk.saturating_mul(choices.max(1));
            let gap = Duration::from_nanos(decision.stream_nanos);
            return Self { reasoning: usage.reasoning, output: usage.output, step, first, gap };
        }
        let gap = first / STEPS as u32;
        Self {
            reasoning: 0,
            output: usage.output,
            step: usage.output.div_ceil(STEPS).max(1),
            first: gap,
            gap,
        }
    }
}

/// Produces an answer in a task of its own. The token that it returns is for the client's leaving.
pub(crate) fn start(
    shared: Arc<Shared>,
    ticket: Ticket,
    schedule: Schedule,
    after_hang_up: AfterHangUp,
) -> CancellationToken {
    let hung_up = CancellationToken::new();
    let stop = match after_hang_up {
        AfterHangUp::Stops => hung_up.clone(),
        AfterHangUp::GoesOn => CancellationToken::new(),
    };
    tokio::spawn(async move {
        let mut at = Instant::now() + schedule.first;
        let produced = |output, over| shared.book().produced(&ticket, output, over, shared.now());
        let mut came = 0_u64;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return produced(came, true),
                () = sleep_until(at) => (),
            }
            came = came.max(schedule.reasoning).saturating_add(schedule.step).min(schedule.output);
            let over = came == schedule.output;
            produced(came, over);
            if over {
                return;
            }
            at += schedule.gap;
        }
    });
    hung_up
}
