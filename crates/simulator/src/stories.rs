//! The scenarios, by name. Each draws its windows and its luck from the seed.
//!
//! | room | holds |
//! |---|---|
//! | `weather` | what happens on any day: calm, storms, slow answers, odd clocks |
//! | `disasters` | what dies: proxies, connections, limiters, leases |
//! | `two_limiters` | an active limiter and a standby, and what happens between them |
//! | `checkpoints` | windows of an hour, and what of them is stored elsewhere |
//! | `demands` | what is asked for: several limits, shares, changes, rejections |
//! | `sharing` | allocations, priorities, and bounds of single workloads |
//! | `others` | accounts that others use as well, and what answers say of them |
//! | `tokens` | limits of tokens |
//! | `money` | budgets of money |
//! | `hostile` | a pod that means harm |
//! | `learned` | accounts whose quota declares no tier |

mod checkpoints;
mod demands;
mod disasters;
mod hostile;
mod learned;
mod money;
mod others;
mod sharing;
pub(crate) mod tokens;
mod two_limiters;
mod weather;

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::config::{
    AccountConfig, CountedAs, LimitConfig, Mode, OnExceeded, Pacing, PauseConfig, QueueConfig, Unit,
};
use quotakeeper_engine::event::CallClass;

use crate::network::Network;
use crate::random::Random;
use crate::scenario::{
    Arrivals, Clocks, Delivery, Disk, Expects, Faults, Hidden, Scenario, Stalls, Upstream, Workload,
};

/// A scenario by name.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// Its name, for `simulate replay`.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    build: fn(&mut Random) -> Scenario,
}

impl Story {
    /// The scenario with what the seed decides.
    pub fn scenario(&self, seed: u64) -> Scenario {
        (self.build)(&mut Random::new(seed ^ 0x5EED))
    }
}

/// All of them.
pub fn all() -> Vec<Story> {
    [
        weather::STORIES,
        disasters::STORIES,
        two_limiters::STORIES,
        checkpoints::STORIES,
        demands::STORIES,
        others::STORIES,
        sharing::STORIES,
        learned::STORIES,
        hostile::STORIES,
        &tokens::all(),
        money::STORIES,
    ]
    .concat()
}

/// The one of this name.
pub fn named(name: &str) -> Option<Story> {
    all().into_iter().find(|story| story.name == name)
}

const fn story(name: &'static str, about: &'static str, build: fn(&mut Random) -> Scenario) -> Story {
    Story { name, about, build }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// N, W, J.
pub(crate) type Window = (u64, Duration, Duration);

/// Windows as providers have them, with the bounds that go with them.
const WINDOWS: [Window; 6] = [
    (100, seconds(10), ms(300)),
    (19, seconds(1), ms(100)),
    (19, seconds(1), ms(300)),
    (60, seconds(60), ms(1000)),
    (600, seconds(60), ms(300)),
    (1000, seconds(10), ms(100)),
];

/// A limit whose counting is not known.
fn limit(name: &str, (amount, window, delivery): Window) -> LimitConfig {
    LimitConfig {
        name: name.to_owned(),
        unit: Unit::Requests,
        amount,
        declared: None,
        model_amounts: BTreeMap::new(),
        window,
        counted_as: CountedAs::Unknown,
        delivery,
        burst: None,
        pacing: Pacing::TokenBucket,
        endpoint: None,
        except_endpoints: Vec::new(),
        models: Vec::new(),
        per_model: false,
        tokens: None,
        period: None,
    }
}

/// A limit of so much in a window.
#[cfg(test)]
pub(crate) fn a_limit(amount: u64, window: Duration) -> LimitConfig {
    limit("tokens", (amount, window, ms(300)))
}

/// An account on which calls wait as long as they must.
fn account(limits: Vec<LimitConfig>) -> AccountConfig {
    AccountConfig {
        mode: Mode::Enforce,
        on_exceeded: OnExceeded::Queue,
        validity: seconds(2),
        limits,
        assumed: false,
        extent: Default::default(),
        queue: QueueConfig {
            max_wait: seconds(360_000),
            max_absence: None,
            max_budget_wait: None,
            max_calls: 1_000_000,
        },
        pause: PauseConfig {
            fallback: seconds(1),
            cap: seconds(300),
            probe_patience: seconds(10),
            max_call: seconds(600),
        },
        weights: BTreeMap::new(),
        sharing: Default::default(),
        models: Default::default(),
        any_model: Default::default(),
    }
}

/// A calm day with a backlog: every scenario begins with it.
fn calm(random: &mut Random, window: Window) -> Scenario {
    let pods = random.between(3, 25) as usize;
    let first = limit("requests", window);
    let rate = window.0 as f64 / window.1.as_secs_f64();
    let backlog = (4.0f64).max((rate / pods as f64).ceil());
    let backlog = backlog.max((2 * first.effective_burst()).div_ceil(pods as u64) as f64) as u64;
    Scenario {
        account: account(vec![first]),
        tiers: Vec::new(),
        pods: (0..pods).map(|pod| format!("team/job-{}", pod % 3)).collect(),
        shapes: vec![CallClass::default()],
        hidden: Hidden::default(),
        tokens: None,
        workload: Workload {
            arrivals: Arrivals::Backlog(backlog),
            patience: None,
            hang_ups: 0,
            hang_up_after: Duration::ZERO,
            leaves: 0,
            leaves_within: seconds(3_600),
            burst_at: None,
            away: None,
        },
        length: window.1 * windows_of(window),
        clocks: Clocks { drift: 200_000, adverse: false, provider: 0 },
        network: Network {
            least: Duration::from_micros(300),
            more: Duration::from_micros(300),
            tails: 0,
            shortest: ms(100),
            longest: seconds(5),
        },
        upstream: Upstream {
            transit: ms(5),
            retransmissions: 0,
            adverse: false,
            delivery: Delivery::FromCheck,
            thinks: ms(200),
            streams: ms(20),
            closed: Vec::new(),
            allows_percent: None,
            shared: None,
        },
        stalls: Stalls {
            proxy_every: Duration::ZERO,
            limiter_every: Duration::ZERO,
            after_decision: 0,
            before_check: 0,
            before_write: 0,
            shortest: ms(100),
            longest: seconds(5),
        },
        faults: Faults::default(),
        disk: Some(Disk::PERFECT),
        recorded: false,
        checkpoints: None,
        lease: None,
        changes: Vec::new(),
        hostile: None,
        expects: Expects::default(),
    }
}

/// How many windows a day lasts.
fn windows_of(window: Window) -> u32 {
    match window.1.as_secs() {
        0..=1 => 80,
        2..=10 => 12,
        _ => 7,
    }
}

/// A quiet day with these windows and answers, for measurements.
pub(crate) fn quiet_day(window: Window, thinks: Duration, seed: u64) -> Scenario {
    let mut scenario = calm(&mut Random::new(seed), window);
    scenario.upstream.thinks = thinks;
    scenario.upstream.transit = (thinks / 3).clamp(ms(1), ms(30));
    // Enough windows for a count of a thousand.
    let windows = (1_000 / window.0).clamp(10, 60);
    scenario.length = window.1 * u32::try_from(windows).unwrap_or(u32::MAX);
    scenario
}

/// The same with stalls of all kinds and messages that are held up.
fn storm(random: &mut Random, window: Window) -> Scenario {
    let mut scenario = calm(random, window);
    scenario.network.tails = 10_000;
    scenario.upstream.retransmissions = 20_000;
    scenario.stalls = Stalls {
        proxy_every: seconds(15),
        limiter_every: seconds(15),
        after_decision: 2_000,
        before_check: 5_000,
        before_write: 5_000,
        ..scenario.stalls
    };
    scenario
}

fn some_window(random: &mut Random) -> Window {
    *random.pick(&WINDOWS)
}
