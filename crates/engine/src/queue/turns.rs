//! Turns: what a consumer, or an allocation, waits for and has had. Start-time fair queueing, with corrections when it
//! is known how long a turn really was.

use crate::mutant::{self, Mutant};

/// The turns of a consumer among those of its allocation, or of an allocation among the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// The virtual time at which its next turn starts.
    pub(super) tag: u64,
    /// Calls that stand in a lane.
    pub(super) calls: u64,
    /// How many turns they take.
    pub(super) waiting: u64,
    /// Calls that have had their turn and whose use is not known yet.
    pub(super) unsettled: u64,
    /// Virtual time that it has paid for calls which used less, and that was too early to give back: it pays for its
    /// next turns.
    credit: u64,
}

/// How long the turns of a call were beside those that it had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correction {
    pub(super) more: u64,
    pub(super) less: u64,
}

impl Turns {
    /// A call comes that takes so many turns, at this virtual time.
    pub(super) fn arrive(&mut self, turns: u32, now: u64) {
        if self.calls == 0 {
            self.tag = self.tag.max(now);
            if self.unsettled == 0 {
                self.credit = 0;
            }
        }
        self.calls += 1;
        self.waiting += u64::from(turns);
    }

    /// A call leaves that would have taken so many turns.
    pub(super) fn leave(&mut self, turns: u32) {
        self.calls -= 1;
        self.waiting -= u64::from(turns);
    }

    /// A turn of this length starts. Returns when, and when the next one will.
    pub(super) fn take(&mut self, length: u64, now: u64) -> Taken {
        let start = self.tag.max(now);
        let paid = self.credit.min(length);
        self.credit -= paid;
        Taken { start, next: start.saturating_add(length - paid) }
    }

    /// A turn was longer or shorter than it was taken for: the next one is later, or earlier, and where it would be in
    /// the past it is credit. Returns when the next one starts.
    pub(super) fn correct(&mut self, correction: Correction, now: u64) -> u64 {
        let Correction { more, less } = correction;
        self.unsettled = self.unsettled.saturating_sub(1);
        let paid = self.credit.min(more);
        let given_back = less.min(self.tag.saturating_sub(now));
        let credit = if mutant::active(Mutant::RefundClipped) { 0 } else { less - given_back };
        self.credit = (self.credit - paid).saturating_add(credit);
        self.tag.saturating_add(more - paid) - given_back
    }

    /// How many turns one of its waiting calls takes in the mean; at least one.
    pub(super) fn mean(&self) -> u64 {
        (self.waiting / self.calls.max(1)).max(1)
    }

    /// Whether nothing would be remembered of it: its next turn could start now.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        self.calls == 0 && self.unsettled == 0 && self.tag <= now
    }
}

/// A turn that has started.
pub(super) struct Taken {
    pub(super) start: u64,
    pub(super) next: u64,
}
