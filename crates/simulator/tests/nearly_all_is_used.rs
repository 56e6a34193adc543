//! On a quiet day the engine uses what can be used of a quota, to within half a point: for each kind of limit that the
//! table of `simulate use` shows, with the bound between wire and count that is shipped for it.

use std::time::Duration;

use quotakeeper_simulator::utilisation::{ANSWERS, LIMITS, measure};

/// In hundredths of a percent.
const HALF_A_POINT: u64 = 50;

#[test]
fn to_within_half_a_point_of_the_ceiling() {
    for (amount, seconds) in LIMITS {
        let window = Duration::from_secs(seconds);
        let delivery = Duration::from_millis(if seconds <= 10 { 300 } else { 1000 });
        for answer in ANSWERS {
            let report = measure(amount, window, delivery, Duration::from_millis(answer), 1);
            let (used, ceiling) = (report.used, report.ceiling);
            assert!(
                used + HALF_A_POINT >= ceiling && report.over_beyond_promise() == 0,
                "{amount} in {seconds} s, answers after {answer} ms: {used} of {ceiling}; {report}"
            );
        }
    }
}
