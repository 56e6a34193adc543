//! The count of one limit, whatever it counts: what the account asks of each of its counters.

use std::time::Duration;

use crate::concurrency_counter::ConcurrencyCounter;
use crate::config::LimitConfig;
use crate::cost::Amount;
use crate::event::Attempt;
use crate::time::Time;
use crate::window_counter::WindowCounter;

/// The counter of a limit, in one partition.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are windows, and each entry is boxed")]
pub(super) enum Counter {
    /// Calls in a window.
    Window(WindowCounter),
    /// Calls that are under way at the same time.
    Concurrency(ConcurrencyCounter),
}

/// How much of a limit is used, for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) amount: Amount,
    pub(super) used: Amount,
    pub(super) reserved: Amount,
    pub(super) used_by_others: Amount,
    pub(super) assumed: Amount,
    pub(super) resets_in: Duration,
}

impl Counter {
    /// Lets everything happen whose time has come.
    pub(super) fn advance(&mut self, now: Time) {
        match self {
            Counter::Window(window) => window.advance(now),
            Counter::Concurrency(slots) => slots.advance(now),
        }
    }

    /// The same where nothing else happens by `now` than draining.
    pub(super) fn drain(&mut self, now: Time) {
        if let Counter::Window(window) = self {
            window.drain(now);
        }
    }

    /// When a further call of this cost may fit at the earliest, `kept` being for others; `None`: now. To be
    /// asked after [`Counter::advance`].
    pub(super) fn blocked_until(&self, now: Time, cost: Amount, kept: Amount) -> Option<Time> {
        match self {
            Counter::Window(window) => window.blocked_until(now, cost, kept),
            Counter::Concurrency(slots) => slots.blocked_until(cost, kept),
        }
    }

    /// When [`Counter::advance`] next changes more than what drains evenly, which is foreseen. To be asked after it;
    /// `now`: that is not looked up.
    pub(super) fn next_change(&self, now: Time) -> Time {
        match self {
            Counter::Window(window) => window.next_event(now),
            Counter::Concurrency(slots) => slots.next_change(),
        }
    }

    /// The same of what was charged, or became known of charges, since [`Counter::advance`].
    pub(super) fn soonest(&self) -> Time {
        match self {
            Counter::Window(window) => window.soonest(),
            Counter::Concurrency(_) => Time::NEVER,
        }
    }

    /// About how long until so much more has been granted. To be asked after [`Counter::advance`].
    pub(super) fn wait_for(&self, now: Time, amount: Amount) -> Duration {
        match self {
            Counter::Window(window) => window.wait_for(now, amount),
            Counter::Concurrency(slots) => slots.wait_for(amount),
        }
    }

    /// How much may be used.
    pub(super) fn amount(&self) -> Amount {
        match self {
            Counter::Window(window) => window.amount(),
            Counter::Concurrency(slots) => slots.amount(),
        }
    }

    /// Takes on a changed limit.
    pub(super) fn reconfigure(&mut self, limit: &LimitConfig, amount: Amount, now: Time) {
        match self {
            Counter::Window(window) => window.reconfigure(limit, amount, now),
            Counter::Concurrency(slots) => slots.resize(amount),
        }
    }

    /// The count of a window; a limit of concurrent calls has none.
    pub(super) fn window(&self) -> Option<&WindowCounter> {
        match self {
            Counter::Window(window) => Some(window),
            Counter::Concurrency(_) => None,
        }
    }

    /// The slots of a limit of concurrent calls; a window has none.
    pub(super) fn slots(&self) -> Option<&ConcurrencyCounter> {
        match self {
            Counter::Window(_) => None,
            Counter::Concurrency(slots) => Some(slots),
        }
    }

    /// The same, to charge and correct.
    pub(super) fn window_mut(&mut self) -> Option<&mut WindowCounter> {
        match self {
            Counter::Window(window) => Some(window),
            Counter::Concurrency(_) => None,
        }
    }

    /// Gives the call its slots. Windows have none, here and below.
    pub(super) fn hold_slots(&mut self, attempt: Attempt, cost: Amount, now: Time, longest: Duration) {
        if let Counter::Concurrency(slots) = self {
            slots.hold(attempt, cost, now, longest);
        }
    }

    /// Gives the call some of the slots that an earlier incarnation may have given away.
    pub(super) fn claim_slots(&mut self, attempt: Attempt, cost: Amount, now: Time, longest: Duration) {
        if let Counter::Concurrency(slots) = self {
            slots.claim(attempt, cost, now, longest);
        }
    }

    /// Takes the call's slots back.
    pub(super) fn free_slots(&mut self, attempt: Attempt, now: Time) {
        if let Counter::Concurrency(slots) = self {
            slots.free(attempt, now);
        }
    }

    /// Whether it counts what is drawn in a window, not what is under way.
    pub(super) fn is_a_window(&self) -> bool {
        matches!(self, Counter::Window(_))
    }

    /// Whether it still counts grants of an earlier incarnation that no proxy has named.
    pub(super) fn holds_reserve(&mut self, now: Time) -> bool {
        self.advance(now);
        match self {
            Counter::Window(window) => window.holds_reserve(),
            Counter::Concurrency(slots) => slots.holds_unknown(),
        }
    }

    /// Lets go of what no proxy has named: it was never granted.
    pub(super) fn release_reserve(&mut self, now: Time) {
        match self {
            Counter::Window(window) => {
                window.advance(now);
                window.release_reserve();
            }
            Counter::Concurrency(slots) => slots.release_unknown(),
        }
    }

    /// How much is used as of `now`. To be asked after [`Counter::advance`].
    pub(super) fn usage(&self, now: Time) -> Usage {
        match self {
            Counter::Window(window) => Usage {
                amount: window.amount(),
                used: window.used(),
                reserved: window.in_flight(),
                used_by_others: window.used_by_others(),
                assumed: window.assumed(),
                resets_in: window.free_at(now).since(now),
            },
            Counter::Concurrency(slots) => Usage {
                amount: slots.amount(),
                used: slots.used(),
                reserved: Amount::ZERO,
                used_by_others: Amount::ZERO,
                assumed: Amount::ZERO,
                resets_in: Duration::ZERO,
            },
        }
    }
}
