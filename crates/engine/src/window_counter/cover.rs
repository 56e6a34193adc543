//! How much a counter may grant before the next checkpoint of its long window is stored.
//!
//! A checkpoint holds what was counted and in flight when it was taken, and a block beyond that. Whatever comes back
//! of what was in flight may be granted again: a limiter that begins from the checkpoint takes it for granted too.

use std::time::Duration;

use super::WindowCounter;
use crate::checkpoint::LimitIdentity;
use crate::cost::Amount;
use crate::time::{Time, nanos};

/// A block is at most this part of what a window allows, so that a lost ledger costs no more; …
const LARGEST_PART: u64 = 16;
/// … where use is in bursts, at most this part, or what the limit's own rate allows; …
const BURST_PART: u64 = 128;
/// … and at least this part, so that few checkpoints are written.
const SMALLEST_PART: u64 = 1024;

/// What may be granted of a limit before its next checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    /// Of which limit checkpoints tell.
    identity: LimitIdentity,
    /// What may still be granted whichever checkpoint is stored; below zero where more was drawn than was foreseen.
    left: i128,
    /// The same by the checkpoint that is being stored.
    next: Option<i128>,
    /// The block of the newest checkpoint.
    block: Amount,
    /// Drawn since the newest checkpoint was taken.
    drawn: Amount,
    /// When that was.
    taken: Time,
    /// A call waits that draws so much.
    missing: Amount,
}

/// What the size of a block follows from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockNeed {
    /// N.
    pub(crate) amount: Amount,
    /// W.
    pub(crate) window: Duration,
    /// What can be granted until the block is used up, if that lasts as long as it should.
    pub(crate) room: Amount,
    /// How long it should last.
    pub(crate) horizon: Duration,
    /// The block before.
    pub(crate) previous: Amount,
    /// Drawn since then …
    pub(crate) drawn: Amount,
    /// … within this time.
    pub(crate) elapsed: Duration,
    /// What a single call needs that waits for it.
    pub(crate) missing: Amount,
}

impl BlockNeed {
    /// How much is granted ahead: what is used within the horizon, at least what the limit's own rate allows in it, and
    /// at most twice as much as before.
    pub(crate) fn block(self) -> Amount {
        let within = |amount: Amount, time: Duration| {
            let amount = u128::from(amount.0) * self.horizon.as_nanos() / u128::from(nanos(time).max(1));
            Amount(u64::try_from(amount).unwrap_or(u64::MAX))
        };
        let smallest = Amount(self.amount.0.div_ceil(SMALLEST_PART));
        let usual = within(self.amount, self.window).max(smallest);
        let burst = usual.max(Amount(self.amount.0.div_ceil(BURST_PART)));
        let largest = burst.min(Amount(self.amount.0.div_ceil(LARGEST_PART)));
        let grown = usual.max(self.previous + self.previous);
        let used = within(self.drawn, self.elapsed.max(Duration::from_millis(1)));
        let wanted = used.max(usual).min(grown).min(largest);
        wanted.min(self.room).max(self.missing)
    }
}

impl Cover {
    fn closed(identity: LimitIdentity, now: Time) -> Cover {
        Cover {
            identity,
            left: 0,
            next: None,
            block: Amount::ZERO,
            drawn: Amount::ZERO,
            taken: now,
            missing: Amount::ZERO,
        }
    }

    fn draw(&mut self, amount: Amount) {
        self.drawn += amount;
        self.change(-i128::from(amount.0));
    }

    fn change(&mut self, by: i128) {
        self.left += by;
        if let Some(next) = &mut self.next {
            *next += by;
        }
    }

    /// What may be granted now.
    fn allowed(&self) -> i128 {
        self.next.map_or(self.left, |next| next.min(self.left))
    }

    fn is_low(&self) -> bool {
        !self.missing.is_zero() || self.left.saturating_mul(2) < i128::from(self.block.0)
    }
}

impl WindowCounter {
    /// From now on it grants what checkpoints cover, and nothing before the first one. One that is required already
    /// goes on, unless the limit is another.
    pub(crate) fn require_cover(&mut self, identity: LimitIdentity, now: Time) {
        if self.cover.as_ref().is_none_or(|cover| cover.identity != identity) {
            self.cover = Some(Cover::closed(identity, now));
        }
    }

    /// No checkpoint is required any more.
    pub(crate) fn drop_cover(&mut self) {
        self.cover = None;
    }

    /// No checkpoint has this counter yet: it is a copy of another.
    pub(crate) fn close_cover(&mut self, now: Time) {
        self.cover = self.cover.take().map(|cover| Cover::closed(cover.identity, now));
    }

    /// Whether so much may be granted as far as checkpoints are concerned. Where it may not, a checkpoint is wanted.
    pub(crate) fn covers(&mut self, cost: Amount) -> bool {
        let Some(cover) = &mut self.cover else { return true };
        let covered = cost.is_zero() || i128::from(cost.0) <= cover.allowed();
        if !covered {
            cover.missing = cover.missing.max(cost);
        }
        covered
    }

    /// Whether a checkpoint is wanted before what is covered is used up.
    pub(crate) fn cover_is_low(&self) -> bool {
        self.cover.as_ref().is_some_and(Cover::is_low)
    }

    /// A checkpoint is taken now whose block should last for `horizon`. Returns the block.
    pub(crate) fn take_block(&mut self, now: Time, horizon: Duration) -> Amount {
        let until = now + horizon;
        let soon = self.leaving.by(until) + self.slots.by(until) + self.bulk.left_by(until);
        let free = if self.asks_log { self.amount - self.logged() + soon } else { self.amount };
        let (amount, window) = (self.amount, self.window);
        let Some(cover) = &mut self.cover else { return Amount::ZERO };
        let block = BlockNeed {
            amount,
            window,
            room: free.min(amount),
            horizon,
            previous: cover.block,
            drawn: cover.drawn,
            elapsed: now.since(cover.taken),
            missing: cover.missing,
        };
        let block = if horizon.is_zero() { Amount::ZERO } else { block.block() };
        cover.left = cover.allowed();
        cover.next = Some(i128::from(block.0));
        (cover.block, cover.drawn, cover.taken, cover.missing) = (block, Amount::ZERO, now, Amount::ZERO);
        block
    }

    /// The checkpoint that was taken last is stored.
    pub(crate) fn cover_stored(&mut self) {
        if let Some(cover) = &mut self.cover
            && let Some(next) = cover.next.take()
        {
            cover.left = next;
        }
    }

    /// Nobody knows whether the checkpoint that was taken last is stored.
    pub(crate) fn cover_failed(&mut self) {
        if let Some(cover) = &mut self.cover {
            cover.left = cover.allowed();
            cover.next = None;
        }
    }

    /// So much more counts than the newest checkpoint has.
    pub(super) fn draw(&mut self, amount: Amount) {
        if let Some(cover) = &mut self.cover {
            cover.draw(amount);
        }
    }

    /// So much of what is in flight is not drawn.
    pub(super) fn give_back(&mut self, amount: Amount) {
        if let Some(cover) = &mut self.cover {
            cover.change(i128::from(amount.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn need(amount: u64) -> BlockNeed {
        BlockNeed {
            amount: Amount(amount),
            window: DAY,
            room: Amount(amount),
            horizon: Duration::from_secs(600),
            previous: Amount(u64::MAX / 2),
            drawn: Amount::ZERO,
            elapsed: Duration::from_secs(600),
            missing: Amount::ZERO,
        }
    }

    #[test]
    fn a_block_lasts_for_its_horizon_and_is_bounded() {
        assert_eq!(need(86_400).block(), Amount(600), "the limit's own rate");
        let busy = BlockNeed { drawn: Amount(3000), elapsed: Duration::from_secs(400), ..need(86_400) };
        assert_eq!(busy.block(), Amount(675), "faster use, up to a bound");
        let burst = BlockNeed { drawn: Amount(430), ..busy };
        assert_eq!(burst.block(), Amount(645), "the rate of use");
        assert_eq!(BlockNeed { previous: Amount(301), ..burst }.block(), Amount(602), "twice the one before");
        let hourly = BlockNeed { window: Duration::from_secs(3600), ..busy };
        assert_eq!(hourly.block(), Amount(5400), "a sixteenth");
        assert_eq!(BlockNeed { room: Amount(7), ..burst }.block(), Amount(7), "no more than is left");
        assert_eq!(BlockNeed { missing: Amount(9000), ..burst }.block(), Amount(9000), "a single large call");
        assert_eq!(need(50).block(), Amount(1));
        assert_eq!(need(0).block(), Amount::ZERO);
        assert_eq!(BlockNeed { horizon: DAY * 365, ..need(u64::MAX) }.block(), Amount(1 << 60));
    }
}
