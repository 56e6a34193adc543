//! Accounts that others use as well, and what answers say of them.

use std::time::Duration;

use quotakeeper_engine::config::CountedAs;

use super::demands::{change_at, edit_repeatedly};
use super::{Story, WINDOWS, Window, calm, ms, seconds, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Headers, Others, Reset, Rounding, Scenario, Shared};

pub(super) const STORIES: &[Story] = &[
    story("others-sliding", "others use a sliding window, steadily and in bursts", sliding),
    story("others-fixed", "others use a fixed window whose end is told", fixed),
    story(
        "others-late-reset",
        "the end that is told of a fixed window is more than a window away",
        late_reset,
    ),
    story("others-bucket", "others draw on a bucket", bucket),
    story("others-reordered", "answers come in another order than they were written", reordered),
    story("others-edits", "the limit is edited again and again while others use it", edited),
    story("others-renamed", "the limit gets another name while others use it", renamed),
];

/// A calm day on an account that others use as well.
pub(super) fn shared(random: &mut Random, window: Window, counted_as: CountedAs) -> Scenario {
    let mut scenario = calm(random, window);
    scenario.account.limits[0].counted_as = counted_as;
    let others = match random.below(3) {
        0 => Others { percent: random.between(5, 40), burst_percent: 0, bursts_every: Duration::ZERO },
        1 => Others { percent: 0, burst_percent: random.between(10, 60), bursts_every: window.1 * 2 },
        _ => Others {
            percent: random.between(5, 20),
            burst_percent: random.between(10, 40),
            bursts_every: window.1 * 2,
        },
    };
    let headers = Headers {
        reset: *random.pick(&[Reset::Untold, Reset::Seconds, Reset::Epoch]),
        rounding: *random.pick(&[Rounding::Down, Rounding::Nearest, Rounding::Up]),
        clock_ahead: random.between(0, 600) as i64 - 300,
        reset_is_late_by: Duration::ZERO,
    };
    scenario.upstream.shared =
        Some(Shared { others, phase: random.within(Duration::ZERO, window.1), headers });
    scenario.upstream.thinks = *random.pick(&[ms(20), ms(200), seconds(1)]);
    if random.chance(300_000) {
        scenario.workload.arrivals = Arrivals::Percent(random.between(30, 120));
    } else {
        scenario.expects.used_at_least = Some(7_500);
    }
    scenario.length = scenario.length.max(window.1 * 10);
    scenario
}

/// Windows in which a second, to which resets are rounded, is a part.
const LONG_ENOUGH: [Window; 3] = [WINDOWS[0], WINDOWS[3], WINDOWS[4]];

pub(super) fn some_window(random: &mut Random) -> Window {
    *random.pick(&LONG_ENOUGH)
}

fn sliding(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let counted_as = *random.pick(&[CountedAs::Unknown, CountedAs::SlidingWindow]);
    shared(random, window, counted_as)
}

fn fixed(random: &mut Random) -> Scenario {
    let window = some_window(random);
    shared(random, window, CountedAs::FixedWindow)
}

/// Others use nearly all of a window now and then. What they use is back a window later, whatever is told.
fn late_reset(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = shared(random, window, CountedAs::FixedWindow);
    scenario.workload.arrivals = Arrivals::Percent(30);
    scenario.upstream.thinks = ms(20);
    scenario.length = window.1 * 20;
    if let Some(shared) = &mut scenario.upstream.shared {
        shared.others = Others { percent: 0, burst_percent: 90, bursts_every: window.1 * 8 };
        shared.headers.reset = *random.pick(&[Reset::Seconds, Reset::Epoch]);
        shared.headers.reset_is_late_by = window.1 + random.within(window.1 / 3, window.1 / 2);
    }
    scenario.expects.used_at_least = None;
    scenario.expects.longest_wait_at_most = Some(window.1 * 5 / 4);
    scenario
}

fn bucket(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let counted_as = *random.pick(&[CountedAs::TokenBucket, CountedAs::LeakyBucket]);
    let mut scenario = shared(random, window, counted_as);
    scenario.account.limits[0].burst = Some(window.0 / random.between(1, 4));
    scenario
}

fn reordered(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let counted_as = *random.pick(&[CountedAs::Unknown, CountedAs::SlidingWindow, CountedAs::FixedWindow]);
    let mut scenario = shared(random, window, counted_as);
    // What is known of others is that old.
    scenario.upstream.thinks = window.1 / 4;
    scenario.expects.used_at_least = scenario.expects.used_at_least.map(|_| 5_000);
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn edited(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = shared(random, window, CountedAs::SlidingWindow);
    // It is measured against the last amount.
    scenario.expects.used_at_least = None;
    let amount = |random: &mut Random| random.between(window.0 / 2 + 1, window.0 * 2);
    edit_repeatedly(random, &mut scenario, window, amount);
    scenario
}

fn renamed(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let counted_as = *random.pick(&[CountedAs::SlidingWindow, CountedAs::FixedWindow]);
    let mut scenario = shared(random, window, counted_as);
    let from = scenario.length / 3;
    change_at(&mut scenario, from, window.0, true, ms(1));
    for change in &mut scenario.changes {
        change.account.limits[0].name = "renamed".to_owned();
    }
    scenario
}
