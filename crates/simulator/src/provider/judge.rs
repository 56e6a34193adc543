//! How providers count, written apart from the engine: each judge looks at arrivals alone.
//!
//! Nobody tells us how a provider counts, so one stream of arrivals is put before all of them: a
//! sliding window, fixed windows in thirteen phases, a bucket. A call that a judge would reject is
//! over; it is not counted by that judge, as a provider that rejects does not process.

use std::collections::VecDeque;
use std::time::Duration;

use crate::random::nanos;

/// Phases in which fixed windows are tried.
const PHASES: u64 = 13;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) amount: u64,
    pub(crate) window: Duration,
    pub(crate) burst: u64,
}

/// N in every stretch of W, (t − W, t].
#[derive(Clone, Debug)]
pub(crate) struct Sliding {
    allowed: Allowed,
    /// What was allowed before it changed, and when.
    before: Option<(u64, u64)>,
    counted: VecDeque<u64>,
    pub(crate) over: u64,
}

impl Sliding {
    pub(crate) fn new(allowed: Allowed) -> Sliding {
        Sliding { allowed, before: None, counted: VecDeque::new(), over: 0 }
    }

    /// A stretch that reaches back before the change is held to the larger amount, and what
    /// came since to the new one.
    pub(crate) fn change(&mut self, at: u64, allowed: Allowed) {
        self.before = Some((at, self.allowed.amount.max(allowed.amount)));
        self.allowed = allowed;
    }

    pub(crate) fn count_at(&mut self, at: u64) -> u64 {
        let window = nanos(self.allowed.window);
        while self.counted.front().is_some_and(|&first| first + window <= at) {
            self.counted.pop_front();
        }
        self.counted.len() as u64
    }

    pub(crate) fn arrives(&mut self, at: u64) -> bool {
        let in_window = self.count_at(at) + 1;
        let window = nanos(self.allowed.window);
        let mut accepts = in_window <= self.allowed.amount;
        if let Some((change, larger)) = self.before
            && at < change + window
        {
            let since = self.counted.iter().rev().take_while(|&&counted| counted >= change).count() as u64;
            accepts = in_window <= larger && since < self.allowed.amount;
        }
        if accepts {
            self.counted.push_back(at);
        } else {
            self.over += 1;
        }
        accepts
    }
}

/// N in each window of one phase.
#[derive(Clone, Debug)]
struct Fixed {
    phase: u64,
    current: u64,
    counted: u64,
    over: u64,
}

/// Fixed windows in all phases.
#[derive(Clone, Debug)]
pub(crate) struct FixedPhases {
    allowed: Allowed,
    before: Option<(u64, u64)>,
    phases: Vec<Fixed>,
}

impl FixedPhases {
    pub(crate) fn new(allowed: Allowed) -> FixedPhases {
        let window = nanos(allowed.window);
        let phases = (0..PHASES)
            .map(|phase| Fixed { phase: window * phase / PHASES, current: u64::MAX, counted: 0, over: 0 })
            .collect();
        FixedPhases { allowed, before: None, phases }
    }

    pub(crate) fn change(&mut self, at: u64, allowed: Allowed) {
        self.before = Some((at, self.allowed.amount.max(allowed.amount)));
        self.allowed = allowed;
    }

    pub(crate) fn arrives(&mut self, at: u64) {
        let window = nanos(self.allowed.window);
        for fixed in &mut self.phases {
            let current = (at + fixed.phase) / window;
            if current != fixed.current {
                fixed.current = current;
                fixed.counted = 0;
            }
            let amount = match self.before {
                Some((change, larger)) if (change + fixed.phase) / window == current => larger,
                _ => self.allowed.amount,
            };
            if fixed.counted < amount {
                fixed.counted += 1;
            } else {
                fixed.over += 1;
            }
        }
    }

    /// The most that one phase would have rejected.
    pub(crate) fn over(&self) -> u64 {
        self.phases.iter().map(|fixed| fixed.over).max().unwrap_or(0)
    }
}

/// What a bucket keeps when its limit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// What remains: a raise does not fill it.
    Rest,
    /// What is in it: a cut leaves less room.
    Level,
}

/// A bucket of `burst` that refills at N/W.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    keeps: Keeps,
    allowed: Allowed,
    /// In N-ths of a nanosecond of refill: a token is W of them, a nanosecond refills N.
    tokens: u128,
    at: u64,
    pub(crate) over: u64,
}

impl Tokens {
    pub(crate) fn new(allowed: Allowed, keeps: Keeps) -> Tokens {
        let tokens = u128::from(allowed.burst) * u128::from(nanos(allowed.window));
        Tokens { keeps, allowed, tokens, at: 0, over: 0 }
    }

    fn refill(&mut self, at: u64) {
        let full = u128::from(self.allowed.burst) * u128::from(nanos(self.allowed.window));
        let refilled = u128::from(at.saturating_sub(self.at)) * u128::from(self.allowed.amount);
        self.tokens = (self.tokens + refilled).min(full);
        self.at = self.at.max(at);
    }

    pub(crate) fn change(&mut self, at: u64, allowed: Allowed) {
        self.refill(at);
        let full = |allowed: Allowed| u128::from(allowed.burst) * u128::from(nanos(allowed.window));
        let level = full(self.allowed) - self.tokens;
        self.allowed = allowed;
        if self.keeps == Keeps::Level {
            self.tokens = full(allowed).saturating_sub(level);
        }
        self.refill(at);
    }

    pub(crate) fn arrives(&mut self, at: u64) {
        self.refill(at);
        let token = u128::from(nanos(self.allowed.window));
        if self.tokens >= token {
            self.tokens -= token;
        } else {
            self.over += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn allowed(amount: u64) -> Allowed {
        Allowed { amount, window: Duration::from_secs(1), burst: 2 }
    }

    #[test]
    fn sliding_counts_the_last_window_only() {
        let mut sliding = Sliding::new(allowed(2));
        assert!(sliding.arrives(0));
        assert!(sliding.arrives(1));
        assert!(!sliding.arrives(SECOND - 1));
        assert!(sliding.arrives(SECOND));
        assert_eq!(sliding.over, 1);
    }

    #[test]
    fn some_phase_of_fixed_windows_sees_a_burst_that_others_split() {
        let mut fixed = FixedPhases::new(allowed(2));
        for at in [SECOND - 2, SECOND - 1, SECOND, SECOND + 1] {
            fixed.arrives(at);
        }
        assert_eq!(fixed.phases[0].over, 0);
        assert_eq!(fixed.over(), 2);
    }

    #[test]
    fn tokens_come_back_at_the_rate() {
        let mut tokens = Tokens::new(allowed(10), Keeps::Rest);
        for at in [0, 0, 0, SECOND / 10, SECOND / 10] {
            tokens.arrives(at);
        }
        assert_eq!(tokens.over, 2);
    }

    #[test]
    fn a_cut_leaves_what_remained_or_what_was_in_it() {
        for (keeps, over) in [(Keeps::Rest, 0), (Keeps::Level, 1)] {
            let large = Allowed { burst: 4, ..allowed(1) };
            let mut tokens = Tokens::new(large, keeps);
            for at in [0, 0, 0] {
                tokens.arrives(at);
            }
            tokens.change(1, Allowed { burst: 2, ..large });
            tokens.arrives(1);
            assert_eq!(tokens.over, over, "{keeps:?}");
        }
    }

    #[test]
    fn a_cut_holds_for_what_comes_after_it() {
        let mut sliding = Sliding::new(allowed(4));
        for at in 0..3 {
            assert!(sliding.arrives(at));
        }
        sliding.change(10, allowed(2));
        assert!(sliding.arrives(11), "the stretch reaches back before the change");
        assert!(!sliding.arrives(12), "four in the stretch");
        assert!(sliding.arrives(SECOND + 5));
        assert!(!sliding.arrives(SECOND + 6), "two since the change, both in the window");
    }
}
