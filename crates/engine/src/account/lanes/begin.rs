//! What a meter begins with: whatever may have been drawn before it was made.

use super::{Counter, Lanes};
use crate::config::{AccountConfig, LimitConfig, Unit};
use crate::event::Reserve;
use crate::meter::{Meter, guarded};
use crate::mutant::{self, Mutant};
use crate::slots::Slots;
use crate::time::Time;
use crate::units::Origin;

/// What a meter that is made begins with.
#[derive(Clone, Copy, Debug)]
pub(in crate::account) enum Start {
    /// Nothing was drawn.
    Fresh,
    /// All of a window may have been drawn by `since`.
    UnknownPast { since: Time },
    /// A predecessor may have granted all that the limit allows, until `since`.
    Predecessor { since: Time },
    /// Nothing in the ledger as of a commit, and a reserve.
    Ledger { reserve: Reserve },
}

impl Lanes {
    /// A new meter, with whatever may have been drawn before it was made.
    pub(super) fn begin(&self, config: &AccountConfig, limit: &LimitConfig, now: Time) -> Counter {
        let start = self.starts.get(&limit.name).copied().unwrap_or(self.start);
        let amount = limit.amount;
        if limit.unit == Unit::ConcurrentRequests {
            let mut slots = Slots::new(amount, config.pause.max_call);
            match start {
                Start::Fresh | Start::UnknownPast { .. } => {}
                Start::Predecessor { since } => {
                    slots.hold_unknown(amount, since + guarded(config.validity + limit.delivery));
                }
                Start::Ledger { reserve } => {
                    // As long as a call may last whose proxy has not come back: others would be beside it.
                    let last_sent = reserve.horizon + guarded(config.validity + limit.delivery);
                    slots.hold_unknown(reserve.calls, last_sent + config.pause.max_call);
                }
            }
            return Counter::Slots(slots);
        }
        let mut meter = match start {
            Start::Ledger { reserve } => Meter::restored(limit, amount, None, reserve.as_of).0,
            _ => Meter::new(limit, amount, now),
        };
        match start {
            Start::Fresh => {}
            // What was sent until then may be counted J later.
            Start::UnknownPast { since } => meter.fill_with_past(since + guarded(limit.delivery), amount),
            Start::Predecessor { since } if !mutant::active(Mutant::EmptyTakeover) => {
                meter.fill_with_predecessor(since, since + guarded(config.validity + limit.delivery));
            }
            Start::Predecessor { .. } => {}
            Start::Ledger { reserve } => hold_reserve(&mut meter, config, limit, reserve),
        }
        meter.advance(now);
        Counter::Window(meter)
    }
}

/// Holds what an earlier incarnation may have granted after the commit.
pub(in crate::account) fn hold_reserve(
    meter: &mut Meter,
    config: &AccountConfig,
    limit: &LimitConfig,
    reserve: Reserve,
) {
    if mutant::active(Mutant::NoReserve) {
        return;
    }
    let settles = reserve.horizon + guarded(config.validity + limit.delivery);
    for _ in 0..reserve.calls.min(limit.amount) {
        meter.charge(reserve.as_of, settles, Origin::Reserve);
    }
}
