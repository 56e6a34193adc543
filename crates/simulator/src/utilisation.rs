//! How much of a quota is used on a quiet day with a backlog, beside what could be.

use std::fmt::Write;
use std::time::Duration;

use crate::report::Report;
use crate::scenario::Scenario;
use crate::stories::quiet_day;
use crate::world::World;

/// N, W in seconds.
pub const LIMITS: [(u64, u64); 6] = [(100, 10), (600, 60), (6000, 60), (100, 60), (19, 1), (60, 60)];
/// J in milliseconds.
const DELIVERIES: [u64; 3] = [100, 300, 1000];
/// Until the answer begins, in milliseconds.
pub const ANSWERS: [u64; 4] = [20, 300, 5_000, 30_000];

/// A quiet day with a backlog: N in W, J, and how long the provider thinks.
pub fn scenario(amount: u64, window: Duration, delivery: Duration, thinks: Duration, seed: u64) -> Scenario {
    quiet_day((amount, window, delivery), thinks, seed)
}

/// What such a day comes to.
pub fn measure(amount: u64, window: Duration, delivery: Duration, thinks: Duration, seed: u64) -> Report {
    World::new(scenario(amount, window, delivery, thinks, seed), seed).run()
}

/// The table of `simulate use`: used of ceiling, in percent.
pub fn table() -> String {
    let mut table = format!("{:14} {:>6} ", "limit", "J");
    for answer in ANSWERS {
        let _ = write!(table, "{:>19}", format!("answers {} s", answer as f64 / 1000.0));
    }
    table.push('\n');
    for (amount, window) in LIMITS {
        for delivery in DELIVERIES {
            let _ =
                write!(table, "{:14} {:>6} ", format!("{amount} in {window} s"), delivery as f64 / 1000.0);
            for answer in ANSWERS {
                let (window, delivery) = (Duration::from_secs(window), Duration::from_millis(delivery));
                let report = measure(amount, window, delivery, Duration::from_millis(answer), 1);
                let (used, ceiling) = (report.used as f64 / 100.0, report.ceiling as f64 / 100.0);
                let _ = write!(table, "{:>19}", format!("{used:.1} of {ceiling:.1}"));
            }
            table.push('\n');
        }
    }
    table
}
