//! What happens on any day: calm, storms, slow answers, odd clocks.

use super::{Story, WINDOWS, calm, ms, seconds, some_window, storm, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Delivery, Excused, Scenario};

pub(super) const STORIES: &[Story] = &[
    story("calm", "a backlog on a quiet day", quiet),
    story("slow-answers", "answers that take half a minute", slow_answers),
    story("quick-answers", "answers within milliseconds", quick_answers),
    story("storm", "stalls, retransmissions and messages that are held up", stormy),
    story("alternating", "the way to the provider takes nothing or all of J", alternating),
    story("alternating-storm", "the same with stalls and held-up messages", alternating_storm),
    story("bursts", "about a window's worth of calls at once, now and then", bursts),
    story("steady", "less demand than the quota bears", steady),
    story("drift", "clocks that part by 350 ppm, and alternating transits", drift),
    story("slow-writes", "proxies that stall for up to 5 s between check and wire", slow_writes),
    story("late", "requests that are counted later than J", late),
];

fn quiet(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.expects.below_ceiling_at_most = Some(50);
    scenario.expects.fair_at_least = Some(990_000);
    scenario
}

fn slow_answers(random: &mut Random) -> Scenario {
    let window = *random.pick(&[WINDOWS[0], WINDOWS[3], WINDOWS[4]]);
    let mut scenario = calm(random, window);
    scenario.upstream.thinks = seconds(random.between(2, 30));
    scenario.upstream.streams = seconds(5);
    scenario.expects.below_ceiling_at_most = Some(50);
    scenario
}

fn quick_answers(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.upstream.transit = ms(1);
    scenario.upstream.thinks = ms(5);
    scenario.expects.below_ceiling_at_most = Some(50);
    scenario
}

fn stormy(random: &mut Random) -> Scenario {
    let window = some_window(random);
    storm(random, window)
}

fn alternating(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.upstream.adverse = true;
    scenario.clocks.adverse = true;
    scenario
}

fn alternating_storm(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.adverse = true;
    scenario
}

fn bursts(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.workload.arrivals = Arrivals::Bursts;
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn steady(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.workload.arrivals = Arrivals::Percent(random.between(40, 90));
    scenario
}

fn drift(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.clocks.adverse = true;
    scenario.clocks.provider = 150_000;
    scenario.upstream.adverse = true;
    scenario
}

fn slow_writes(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.stalls.limiter_every = seconds(0);
    scenario.stalls.before_write = 10_000;
    scenario.upstream.thinks = *random.pick(&[ms(20), ms(300), seconds(30)]);
    scenario.upstream.delivery = Delivery::FromWire;
    // A log that is longer than any stall still holds the call when its late write is reported.
    scenario.expects.excused = if window.1 > seconds(8) { Excused::Bucket } else { Excused::All };
    scenario
}

fn late(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.delivery = Delivery::Loose;
    scenario.expects.excused = Excused::All;
    scenario
}
