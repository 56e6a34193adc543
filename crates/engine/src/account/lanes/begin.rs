//! What a counter begins with: whatever may have been drawn before it was made.

use super::{Counter, Lanes};
use crate::concurrency_counter::ConcurrencyCounter;
use crate::config::{AccountConfig, LimitConfig, Unit};
use crate::event::Reserve;
use crate::mutant::{self, Mutant};
use crate::time::Time;
use crate::units::Origin;
use crate::window_counter::{WindowCounter, guarded};

/// What a counter that is made begins with.
#[derive(Clone, Copy, Debug)]
pub(in crate::account) enum InitialState {
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
    /// A new counter, with whatever may have been drawn before it was made.
    pub(super) fn begin(&self, config: &AccountConfig, limit: &LimitConfig, now: Time) -> Counter {
        let start = self.starts.get(&limit.name).copied().unwrap_or(self.start);
        let amount = limit.amount;
        if limit.unit == Unit::ConcurrentRequests {
            let mut slots = ConcurrencyCounter::new(amount, config.pause.max_call);
            match start {
                InitialState::Fresh | InitialState::UnknownPast { .. } => {}
                InitialState::Predecessor { since } => {
                    slots.hold_unknown(amount, since + guarded(config.validity + limit.delivery));
                }
                InitialState::Ledger { reserve } => {
                    // As long as a call may last whose proxy has not come back: others would be beside it.
                    let last_sent = reserve.horizon + guarded(config.validity + limit.delivery);
                    slots.hold_unknown(reserve.calls, last_sent + config.pause.max_call);
                }
            }
            return Counter::ConcurrencyCounter(slots);
        }
        let mut counter = match start {
            InitialState::Ledger { reserve } => WindowCounter::restored(limit, amount, None, reserve.as_of).0,
            _ => WindowCounter::new(limit, amount, now),
        };
        match start {
            InitialState::Fresh => {}
            // What was sent until then may be counted J later.
            InitialState::UnknownPast { since } => {
                counter.fill_with_past(since + guarded(limit.delivery), amount)
            }
            InitialState::Predecessor { since } if !mutant::active(Mutant::EmptyTakeover) => {
                counter.fill_with_predecessor(since, since + guarded(config.validity + limit.delivery));
            }
            InitialState::Predecessor { .. } => {}
            InitialState::Ledger { reserve } => hold_reserve(&mut counter, config, limit, reserve),
        }
        counter.advance(now);
        Counter::Window(counter)
    }
}

/// Holds what an earlier incarnation may have granted after the commit.
pub(in crate::account) fn hold_reserve(
    counter: &mut WindowCounter,
    config: &AccountConfig,
    limit: &LimitConfig,
    reserve: Reserve,
) {
    if mutant::active(Mutant::NoReserve) {
        return;
    }
    let settles = reserve.horizon + guarded(config.validity + limit.delivery);
    for _ in 0..reserve.calls.min(limit.amount) {
        counter.charge(reserve.as_of, settles, Origin::Reserve);
    }
}
