//! A pod that means harm, beside five that do not: they keep their shares, and nothing is over.

use std::time::Duration;

use quotakeeper_engine::config::CountedAs;

use super::{Story, Window, calm, ms, seconds, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Forged, Headers, Others, Reset, Rounding, Scenario, Shared};

pub(super) const STORIES: &[Story] = &[
    story("hostile", "a pod makes up whatever a limiter may be told, beside five honest workloads", anything),
    story("hostile-figures", "it says that nothing is left; honest answers say how much is", figures),
    story("hostile-pauses", "it says that the provider rejects all calls for a minute", pauses),
    story(
        "hostile-credentials",
        "it says that the provider refuses credentials, each another one",
        credentials,
    ),
];

const WINDOWS: [Window; 3] =
    [(100, seconds(10), ms(300)), (300, seconds(60), ms(1000)), (40, seconds(4), ms(300))];

/// Ten minutes, three of which one workload's word may stop everyone for.
const LENGTH: Duration = seconds(10 * 60);

fn hostile(random: &mut Random, forged: Option<Forged>) -> Scenario {
    let window = *random.pick(&WINDOWS);
    let mut scenario = calm(random, window);
    scenario.pods = (0..5).map(|pod| format!("team/job-{pod}")).collect();
    scenario.workload.arrivals = Arrivals::Backlog(12);
    // A share of the places is more than an honest workload's backlog.
    scenario.account.queue.max_calls = 120;
    scenario.account.limits[0].counted_as = *random.pick(&[CountedAs::Unknown, CountedAs::SlidingWindow]);
    scenario.upstream.thinks = ms(100);
    scenario.length = LENGTH;
    scenario.hostile = Some(forged);
    scenario.expects.share_at_least = Some(55);
    scenario
}

fn anything(random: &mut Random) -> Scenario {
    hostile(random, None)
}

fn pauses(random: &mut Random) -> Scenario {
    hostile(random, Some(Forged::Pause))
}

fn credentials(random: &mut Random) -> Scenario {
    hostile(random, Some(Forged::Terminal))
}

fn figures(random: &mut Random) -> Scenario {
    let mut scenario = hostile(random, Some(Forged::Figures));
    let window = scenario.account.limits[0].window;
    let nobody = Others { percent: 0, burst_percent: 0, bursts_every: Duration::ZERO };
    let headers = Headers {
        reset: *random.pick(&[Reset::Untold, Reset::Seconds]),
        rounding: Rounding::Nearest,
        clock_ahead: 0,
        reset_is_late_by: Duration::ZERO,
    };
    let phase = random.within(Duration::ZERO, window);
    scenario.upstream.shared = Some(Shared { others: nobody, phase, headers });
    scenario
}
