//! What is asked for: several limits, shares, changes, rejections.

use std::time::Duration;

use quotakeeper_engine::config::{CountedAs, LimitConfig, Pacing, Unit};
use quotakeeper_engine::event::{CallClass, Scope};

use super::{Story, WINDOWS, Window, account, calm, limit, ms, seconds, some_window, storm, story};
use crate::random::Random;
use crate::scenario::{Arrivals, Change, Closed, Hidden, Scenario};

pub(super) const STORIES: &[Story] = &[
    story("cut", "the quota is halved in mid-flight", cut),
    story("raise", "the quota is doubled in mid-flight", raise),
    story("edits", "the quota is edited again and again", edits),
    story(
        "small-edits",
        "the quota is edited by a few percent again and again, of an account with a past",
        small_edits,
    ),
    story("edits-restarts", "the same, and the limiter dies", edits_restarts),
    story("two-limits", "100 in 10 s, and 5 a second of one endpoint", two_limits),
    story("models", "models that are counted apart", models),
    story("hidden-models", "the same, and of some calls only the provider knows the model", hidden_models),
    story("hidden-models-restarts", "the same, and limiter and proxies die", hidden_models_restarts),
    story("concurrency", "calls at the same time, beside a rate", concurrency),
    story("concurrency-crashes", "the same, and proxies die and reconnect", concurrency_crashes),
    story("known-windows", "sliding, fixed and bucket windows whose counting is known", known_windows),
    story("even", "grants that are spread evenly", even),
    story("closed", "the provider rejects all calls for a while and says for how long", closed),
    story("closed-silent", "the same without a word of when", closed_silent),
    story("claimed", "one workload is told to wait for an hour; the others use the quota as before", claimed),
    story("closed-endpoint", "the provider rejects the calls of one endpoint", closed_endpoint),
    story("less-than-declared", "the provider allows three quarters of what was declared", less),
    story("jobs", "finite jobs through a rejection and lost connections", jobs),
    story("hang-ups", "clients that give up while they wait and while they are served", hang_ups),
    story("impatient", "clients that wait 10 s at most", impatient),
    story("fair", "a workload of 20 pods beside one of 1", fair),
    story("weights", "workloads of weights 1 to 4", weights),
    story("many-pods", "500 pods of 500 workloads, skewed weights", many_pods),
];

/// The quota changes after about five windows.
fn change(scenario: &mut Scenario, amount: u64, provider_first: bool, lead: Duration) {
    let middle = scenario.length * 2 / 5 + ms(137);
    change_at(scenario, middle, amount, provider_first, lead);
}

/// The quota changes. The provider is never behind a raise, never ahead of a cut.
pub(super) fn change_at(
    scenario: &mut Scenario,
    from: Duration,
    amount: u64,
    provider_first: bool,
    lead: Duration,
) {
    let change = change_of(scenario, 0, from, amount, provider_first, lead);
    scenario.changes.push(change);
}

/// The same of the limit at this place.
pub(super) fn change_of(
    scenario: &Scenario,
    place: usize,
    from: Duration,
    amount: u64,
    provider_first: bool,
    lead: Duration,
) -> Change {
    let mut account = scenario.account.clone();
    account.limits[place].amount = amount;
    let (at, provider_at) = if provider_first { (from + lead, from) } else { (from, from + lead) };
    Change { at, provider_at, account }
}

/// After so long what was in flight under the limit before has been counted.
fn lead(window: Window) -> Duration {
    seconds(2) + window.2 + ms(100)
}

/// Edits of the amount from the first window on, each at least a window after the one before.
pub(super) fn edit_repeatedly(
    random: &mut Random,
    scenario: &mut Scenario,
    window: Window,
    next_amount: impl Fn(&mut Random) -> u64,
) {
    let lead = lead(window);
    let (mut from, mut amount) = (random.within(ms(1), window.1), window.0);
    while from + lead < scenario.length {
        let next = next_amount(random);
        if next != amount {
            change_at(scenario, from, next, next > amount, lead);
        }
        amount = next;
        from = from + lead + window.1 + random.within(ms(1), window.1);
    }
}

fn edits(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.adverse = true;
    scenario.stalls.limiter_every = Duration::ZERO;
    scenario.stalls.after_decision = 0;
    scenario.account.limits[0].counted_as =
        *random.pick(&[CountedAs::Unknown, CountedAs::SlidingWindow, CountedAs::TokenBucket]);
    let amount = |random: &mut Random| random.between(window.0 / 4 + 1, window.0 * 2);
    edit_repeatedly(random, &mut scenario, window, amount);
    scenario
}

/// Each edit costs next to nothing, also while the past is unknown.
fn small_edits(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.account.limits[0].counted_as =
        *random.pick(&[CountedAs::Unknown, CountedAs::SlidingWindow, CountedAs::FixedWindow]);
    scenario.length = scenario.length.max((window.1 + lead(window)) * 8);
    let amount = |random: &mut Random| window.0 - random.below(window.0.div_ceil(20));
    edit_repeatedly(random, &mut scenario, window, amount);
    scenario.expects.used_at_least = Some(7_500);
    scenario
}

fn edits_restarts(random: &mut Random) -> Scenario {
    let mut scenario = edits(random);
    let window = scenario.account.limits[0].window;
    scenario.disk = Some(super::disasters::DISK);
    scenario.faults.limiter_crash = window * 7 / 10;
    scenario
}

fn cut(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.adverse = true;
    scenario.stalls.limiter_every = Duration::ZERO;
    scenario.stalls.after_decision = 0;
    change(&mut scenario, window.0 / 2, false, lead(window));
    scenario
}

fn raise(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.adverse = true;
    let lead = random.within(ms(1), seconds(1));
    change(&mut scenario, window.0 * 2, true, lead);
    scenario
}

fn endpoint(name: &str) -> CallClass {
    CallClass { endpoint: Some(name.to_owned()), ..CallClass::default() }
}

fn two_limits(random: &mut Random) -> Scenario {
    let mut scenario = storm(random, WINDOWS[0]);
    let search =
        LimitConfig { endpoint: Some("search".to_owned()), ..limit("search", (5, seconds(1), ms(300))) };
    scenario.account = account(vec![limit("requests", WINDOWS[0]), search]);
    scenario.shapes = vec![endpoint("search"), endpoint("contacts")];
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn models(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.account.limits[0].per_model = true;
    let model = |name: &str| CallClass { model: Some(name.to_owned()), ..CallClass::default() };
    scenario.shapes = vec![model("large"), model("small"), model("tiny")];
    scenario
}

fn hidden_models(random: &mut Random) -> Scenario {
    let mut scenario = models(random);
    scenario.shapes = (0..6)
        .map(|number| CallClass { endpoint: None, model: Some(format!("model-{number}")), allocation: None })
        .collect();
    scenario.hidden =
        Hidden { per_million: random.between(50_000, 600_000), seen_later: random.chance(700_000) };
    if random.chance(500_000) {
        scenario.workload.arrivals = Arrivals::Bursts;
    }
    scenario.upstream.adverse = random.chance(500_000);
    scenario
}

fn hidden_models_restarts(random: &mut Random) -> Scenario {
    let mut scenario = hidden_models(random);
    let window = scenario.account.limits[0].window;
    scenario.disk = Some(super::disasters::DISK);
    scenario.faults.limiter_crash = window * 7 / 10;
    scenario.faults.proxy_crash = seconds(5);
    scenario
}

pub(super) fn concurrency(random: &mut Random) -> Scenario {
    let mut scenario = storm(random, WINDOWS[4]);
    let slots = LimitConfig {
        unit: Unit::ConcurrentRequests,
        ..limit("concurrent", (random.between(3, 12), Duration::ZERO, ms(300)))
    };
    scenario.account.limits.push(slots);
    scenario.upstream.thinks = seconds(2);
    scenario.upstream.streams = seconds(2);
    scenario
}

fn concurrency_crashes(random: &mut Random) -> Scenario {
    let mut scenario = concurrency(random);
    scenario.faults.connection_loss = seconds(1);
    scenario.disk = Some(super::disasters::DISK);
    scenario.faults.limiter_crash = seconds(40);
    scenario
}

fn known_windows(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.upstream.adverse = random.chance(500_000);
    scenario.account.limits[0].counted_as = *random.pick(&[
        CountedAs::SlidingWindow,
        CountedAs::FixedWindow,
        CountedAs::TokenBucket,
        CountedAs::LeakyBucket,
    ]);
    scenario
}

fn even(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.account.limits[0].pacing = Pacing::LeakyBucket;
    scenario
}

fn close(scenario: &mut Scenario, scope: Scope, length: Duration, says_when: bool) {
    let from = scenario.length / 3;
    scenario.upstream.closed.push(Closed { from, length, scope, says_when, claimed_by: None });
    scenario.expects.rejections_at_least = 1;
}

/// How long one call of so many is surely rejected: longer than a few of them are apart, and at least so long.
fn long_enough(random: &mut Random, window: Window, one_of: u32, least: Duration) -> Duration {
    let spacing = window.1 / u32::try_from(window.0).unwrap_or(u32::MAX);
    random.within((spacing * 6 * one_of).max(least), seconds(20))
}

fn closed(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    // The processes of a storm stand still for up to five seconds.
    let length = long_enough(random, window, 1, seconds(6));
    close(&mut scenario, Scope::account(), length, true);
    scenario
}

fn closed_silent(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    let length = long_enough(random, window, 1, seconds(3));
    close(&mut scenario, Scope::account(), length, false);
    scenario
}

fn closed_endpoint(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.shapes = vec![endpoint("search"), endpoint("contacts")];
    let length = long_enough(random, window, 2, seconds(3));
    close(&mut scenario, Scope::endpoint("search"), length, true);
    scenario
}

fn claimed(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    // Long enough for the one to come to its end too.
    scenario.length = scenario.length.max(seconds(100));
    scenario.account.pause.cap = seconds(61);
    close(&mut scenario, Scope::account(), seconds(30), true);
    let claims = scenario.upstream.closed.last_mut();
    if let Some(closed) = claims {
        closed.claimed_by = scenario.pods.first().cloned();
    }
    // It is fair that the one takes nothing, and the others take what it leaves.
    scenario.expects.fair_at_least = None;
    scenario.expects.below_ceiling_at_most = Some(1000);
    scenario
}

fn less(random: &mut Random) -> Scenario {
    let window = *random.pick(&[WINDOWS[0], WINDOWS[1], WINDOWS[4]]);
    let mut scenario = calm(random, window);
    scenario.upstream.allows_percent = Some(75);
    scenario.expects.rejections_at_least = 1;
    scenario
}

fn jobs(random: &mut Random) -> Scenario {
    let window = WINDOWS[0];
    let mut scenario = storm(random, window);
    scenario.workload.arrivals = Arrivals::Jobs(random.between(10, 40), random.between(1, 8));
    scenario.faults.connection_loss = seconds(2);
    scenario.length = seconds(60);
    scenario.upstream.closed.push(Closed {
        from: seconds(6),
        length: seconds(7),
        scope: Scope::account(),
        says_when: true,
        claimed_by: None,
    });
    scenario
}

fn hang_ups(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = storm(random, window);
    scenario.workload.arrivals = Arrivals::Bursts;
    scenario.workload.hang_ups = 400_000;
    scenario.workload.hang_up_after = window.1 / 2;
    scenario
}

fn impatient(random: &mut Random) -> Scenario {
    let window = some_window(random);
    let mut scenario = calm(random, window);
    scenario.workload.arrivals = Arrivals::Bursts;
    scenario.workload.patience = Some(seconds(10));
    scenario.expects.refused_at_most = u64::MAX;
    scenario
}

fn fair(random: &mut Random) -> Scenario {
    let window = *random.pick(&[WINDOWS[0], WINDOWS[4], WINDOWS[5]]);
    let mut scenario = calm(random, window);
    scenario.pods =
        (0..21).map(|pod| if pod < 20 { "team/large" } else { "team/small" }.to_owned()).collect();
    let rate = window.0 / window.1.as_secs();
    scenario.workload.arrivals = Arrivals::Backlog(4.max(rate));
    scenario.expects.fair_at_least = Some(999_000);
    scenario
}

fn weights(random: &mut Random) -> Scenario {
    let window = *random.pick(&[WINDOWS[0], WINDOWS[4], WINDOWS[5]]);
    let mut scenario = calm(random, window);
    scenario.pods = (0..8).map(|pod| format!("team/weight-{}", pod % 4 + 1)).collect();
    for weight in 1..=4 {
        scenario.account.weights.insert(format!("team/weight-{weight}").into(), weight);
    }
    let rate = window.0 / window.1.as_secs();
    scenario.workload.arrivals = Arrivals::Backlog(4.max(rate));
    scenario.expects.fair_at_least = Some(999_000);
    scenario
}

fn many_pods(random: &mut Random) -> Scenario {
    let mut scenario = calm(random, (6000, seconds(60), ms(300)));
    scenario.pods = (0..500).map(|pod| format!("team/pod-{pod}")).collect();
    for pod in 0..500u32 {
        scenario.account.weights.insert(format!("team/pod-{pod}").into(), 1 + pod % 3);
    }
    scenario.workload.arrivals = Arrivals::Backlog(3);
    scenario.length = seconds(330);
    scenario.expects.fair_at_least = Some(999_000);
    scenario
}
