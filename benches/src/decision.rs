//! One call's way through the engine, beside limiters that answer yes or no.
//!
//! | room | holds |
//! |---|---|
//! | [`engine`] | the engine, driven as the limiter drives it |
//! | [`peers`] | governor and limitador, in memory |

pub mod engine;
pub mod peers;

use std::time::Duration;

use crate::rounds::{Contestant, Plan, Spread, nanos_each};
use crate::table::{Row, Unit};
use engine::{Account, Heartbeats, Saturated, Uncontended};

/// Long enough that the logs are full before anything is measured.
const PLAN: Plan = Plan { warm_up: 30_000, rounds: 15, times: 10_000 };

/// A name on the command line and what it runs.
type Entry = (&'static str, fn() -> anyhow::Result<Box<dyn Contestant>>);

/// All contestants: the order is the one of the figures.
const ENTRIES: [Entry; 12] = [
    ("uncontended-1", || Ok(Box::new(Uncontended::new(Account::OneLimit)))),
    ("uncontended-4", || Ok(Box::new(Uncontended::new(Account::FourLimits)))),
    ("waiting-1", || Ok(Box::new(Saturated::new(Account::OneLimit)?))),
    ("waiting-4", || Ok(Box::new(Saturated::new(Account::FourLimits)?))),
    ("uncontended-tokens", || Ok(Box::new(Uncontended::new(Account::Tokens)))),
    ("waiting-tokens", || Ok(Box::new(Saturated::new(Account::Tokens)?))),
    ("heartbeat-4", || Ok(Box::new(Heartbeats::new(Account::FourLimits)?))),
    ("clock", || Ok(Box::new(peers::Clock))),
    ("governor-1", || Ok(Box::new(peers::Governor::new(1)))),
    ("governor-4", || Ok(Box::new(peers::Governor::new(4)))),
    ("limitador-1", || Ok(Box::new(peers::Limitador::new(1)))),
    ("limitador-4", || Ok(Box::new(peers::Limitador::new(4)))),
];

/// The names of the contestants.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|(name, _)| *name)
}

/// The contestant of this name, for a profiler.
///
/// # Errors
/// When there is none, or it can't be set up.
pub fn contestant(name: &str) -> anyhow::Result<Box<dyn Contestant>> {
    let entry = ENTRIES.iter().find(|(known, _)| *known == name);
    let Some((_, make)) = entry else {
        anyhow::bail!("no contestant is named {name}; there are {}", names().collect::<Vec<_>>().join(", "));
    };
    make()
}

/// Measures all of them in turn.
///
/// # Errors
/// When a contestant did not do its work.
pub fn measure() -> anyhow::Result<Vec<Row>> {
    let mut contestants = ENTRIES.iter().map(|(_, make)| make()).collect::<anyhow::Result<Vec<_>>>()?;
    let spreads = nanos_each(PLAN, &mut contestants)?;
    let of = |name: &str| {
        let place = names().position(|known| known == name);
        place.and_then(|place| spreads.get(place).copied()).unwrap_or(Spread::of(Vec::new()))
    };
    let row = |what: &str, ours: &str, peer: Option<(&'static str, &str)>, goal: Option<Duration>| Row {
        what: what.to_owned(),
        unit: Unit::Nanos,
        ours: of(ours),
        peer: peer.map(|(name, contestant)| (name, of(contestant))),
        target: goal.map(|goal| format!("≤ {} ns", goal.as_nanos())),
    };
    let governor = |contestant| Some(("governor", contestant));
    let limitador = |contestant| Some(("limitador", contestant));
    let target = |nanos| Some(Duration::from_nanos(nanos));
    Ok(vec![
        row("call, 1 limit, nobody waits", "uncontended-1", governor("governor-1"), None),
        row("call, 1 limit, nobody waits", "uncontended-1", limitador("limitador-1"), None),
        row("call, 4 limits, nobody waits", "uncontended-4", governor("governor-4"), None),
        row("call, 4 limits, nobody waits", "uncontended-4", limitador("limitador-4"), None),
        row("call, 1 limit, 1,000 flows wait", "waiting-1", limitador("limitador-1"), None),
        row("call, 4 limits, 1,000 flows wait", "waiting-4", limitador("limitador-4"), target(1_000)),
        row("call, tokens and money, nobody waits", "uncontended-tokens", None, target(2_000)),
        row("call, tokens and money, 1,000 flows wait", "waiting-tokens", None, target(4_500)),
        row("heartbeat, 4 limits, 1,000 flows wait", "heartbeat-4", None, None),
        row("the clock, read once", "clock", None, None),
    ])
}
