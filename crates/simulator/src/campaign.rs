//! Many worlds at once: which story and seed is next, on how many cores, until when.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::stories::Story;
use crate::world::World;

/// One run of a campaign.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The story's name.
    pub story: &'static str,
    /// The seed.
    pub seed: u64,
    /// What it came to.
    pub report: Report,
}

impl Outcome {
    /// The run that this is, for people: what is wrong, and how to see it again.
    pub fn complaint(&self) -> Option<String> {
        let faults = self.report.faults();
        if faults.is_empty() {
            return None;
        }
        let (story, seed) = (self.story, self.seed);
        Some(format!(
            "{story} with seed {seed}: {}\n{}\n  again: cargo run -p quotakeeper-simulator -- replay {story} {seed}",
            faults.join("; "),
            self.report
        ))
    }
}

/// One world, from its beginning to its end.
pub fn run(story: Story, seed: u64) -> Outcome {
    let report = World::new(story.scenario(seed), seed).run();
    Outcome { story: story.name, seed, report }
}

/// Runs seeds `from..from + count` of the stories, each seed with the next story, on `cores` threads and no
/// longer than `limit`; `each` hears of every run as it ends. Returns how many ran.
pub fn campaign(
    stories: &[Story],
    seeds: std::ops::Range<u64>,
    cores: usize,
    limit: Option<Duration>,
    each: impl FnMut(Outcome) + Send,
) -> u64 {
    let begun = Instant::now();
    let (next, ran) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let over = AtomicBool::new(stories.is_empty());
    let each = Mutex::new(each);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || limit.is_some_and(|limit| begun.elapsed() > limit) {
                        over.store(true, Ordering::Relaxed);
                        break;
                    }
                    let outcome = run(stories[(seed % stories.len() as u64) as usize], seed);
                    ran.fetch_add(1, Ordering::Relaxed);
                    if let Ok(mut each) = each.lock() {
                        each(outcome);
                    }
                }
            });
        }
    });
    ran.into_inner()
}
