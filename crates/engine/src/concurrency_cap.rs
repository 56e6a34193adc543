//! How many calls a provider takes at the same time, where only its rejections say so.
//!
//! A call that is rejected for this was one too many: what else is under way is what the provider takes. From then on
//! no more are, until as many calls have been accepted: then one more is tried, and so on. Once that one was rejected,
//! another is tried only from time to time, the more rarely the more often it was rejected.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::concurrency_counter::ConcurrencyCounter;
use crate::cost::Amount;
use crate::event::{Attempt, Scope};
use crate::time::Time;

/// How many calls of a scope the provider takes at the same time, as its rejections show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedConcurrency {
    /// Which calls.
    pub scope: Scope,
    /// About how many at the same time.
    pub calls: u64,
    /// How long after a rejection one more is tried.
    pub raise_after: Duration,
}

/// How long after a rejection one more is tried whatever was accepted, at first …
const RAISE_AFTER: Duration = Duration::from_secs(10);
/// … and after many attempts that were rejected.
const LONGEST_RAISE_AFTER: Duration = Duration::from_secs(600);

/// The calls of one scope that are under way, and how many may be.
#[derive(Debug)]
pub(crate) struct ConcurrencyCap {
    counter: ConcurrencyCounter,
    /// No call lasts longer.
    longest: Duration,
    raised: Time,
    raise_at: Time,
    raise_after: Duration,
    /// The last one more was rejected.
    tried_in_vain: bool,
    /// How many calls were accepted, with as many under way as may be, of those granted since then.
    accepted: u64,
    since: Time,
}

impl ConcurrencyCap {
    /// The cap of a scope of which these calls are under way, since these times. `longest`: no call lasts longer.
    pub(crate) fn new(under_way: impl Iterator<Item = (Attempt, Time)>, longest: Duration) -> ConcurrencyCap {
        let mut counter = ConcurrencyCounter::new(Amount(u64::MAX));
        under_way.for_each(|(attempt, since)| counter.hold(attempt, Amount::ONE, since, longest));
        ConcurrencyCap {
            counter,
            longest,
            raised: Time(0),
            raise_at: Time(0),
            raise_after: RAISE_AFTER,
            tried_in_vain: false,
            accepted: 0,
            since: Time(0),
        }
    }

    /// The cap as of a snapshot. No more is tried before as long as after its last rejection.
    pub(crate) fn restored(
        under_way: impl Iterator<Item = (Attempt, Time)>,
        longest: Duration,
        learned: &LearnedConcurrency,
        now: Time,
    ) -> ConcurrencyCap {
        let mut cap = ConcurrencyCap::new(under_way, longest);
        cap.counter.resize(Amount(learned.calls.max(1)));
        cap.raise_after = learned.raise_after.clamp(RAISE_AFTER, LONGEST_RAISE_AFTER);
        cap.raise_at = now + cap.raise_after;
        cap.tried_in_vain = true;
        cap
    }

    /// What has been learned: without the one more that is being tried.
    pub(crate) fn learned(&self, scope: &Scope) -> LearnedConcurrency {
        let tried = u64::from(self.raised > Time(0));
        let calls = self.counter.amount().0.saturating_sub(tried).max(1);
        LearnedConcurrency { scope: scope.clone(), calls, raise_after: self.raise_after }
    }

    /// This call, granted at `granted`, was one too many. Returns whether others are under way: otherwise only time
    /// helps.
    pub(crate) fn rejected(&mut self, now: Time, attempt: Attempt, granted: Time) -> bool {
        self.counter.free(attempt, now);
        self.counter.advance(now);
        let under_way = self.counter.used();
        self.counter.resize(under_way.min(self.counter.amount()).max(Amount::ONE));
        if self.raised > Time(0) && granted >= self.raised {
            self.raise_after = self.raise_after.saturating_mul(2).min(LONGEST_RAISE_AFTER);
            self.raised = Time(0);
            self.tried_in_vain = true;
        }
        self.raise_at = now + self.raise_after;
        // What was granted in the same instant is of the same burst.
        self.count_accepted_since(now + Duration::from_nanos(1));
        !under_way.is_zero()
    }

    fn count_accepted_since(&mut self, since: Time) {
        self.since = since;
        self.accepted = 0;
    }

    /// A call, granted at `granted`, was accepted. When as many were as may be under way, the one more that was tried
    /// is what the provider takes, and another may be tried.
    pub(crate) fn accepted(&mut self, now: Time, attempt: Attempt, granted: Time) {
        let all_are_under_way = self.counter.used() >= self.counter.amount();
        if granted < self.since || !all_are_under_way || !self.counter.holds(attempt) {
            return;
        }
        self.accepted += 1;
        if self.accepted < self.counter.amount().0 {
            return;
        }
        self.tried_in_vain &= self.raised == Time(0);
        self.raised = Time(0);
        self.accepted = 0;
        if !self.tried_in_vain {
            self.raise_at = now;
        }
    }

    pub(crate) fn granted(&mut self, now: Time, attempt: Attempt) {
        self.counter.hold(attempt, Amount::ONE, now, self.longest);
    }

    pub(crate) fn ended(&mut self, now: Time, attempt: Attempt) {
        self.counter.free(attempt, now);
    }

    /// When one more call may be granted at the earliest; `None`: now.
    pub(crate) fn blocked_until(&mut self, now: Time) -> Option<Time> {
        self.counter.advance(now);
        let until = self.counter.blocked_until(Amount::ONE, Amount::ZERO)?;
        if now < self.raise_at {
            return Some(until.min(self.raise_at));
        }
        self.counter.resize(self.counter.amount() + Amount::ONE);
        self.raised = now;
        self.raise_at = now + self.raise_after;
        self.count_accepted_since(now);
        None
    }

    /// About how long until so many more calls have been granted.
    pub(crate) fn wait_for(&self, calls: u64) -> Duration {
        self.counter.wait_for(Amount(calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CallId, SessionId};

    const SECOND: Duration = Duration::from_secs(1);

    fn attempt(call: u64) -> Attempt {
        Attempt { session: SessionId(1), call: CallId(call), number: 1 }
    }

    fn at(seconds: u64) -> Time {
        Time(0) + SECOND * seconds as u32
    }

    fn of_twelve_four() -> ConcurrencyCap {
        let mut cap = ConcurrencyCap::new((1..=12).map(|call| (attempt(call), at(10))), SECOND * 600);
        (5..=12).for_each(|call| assert!(cap.rejected(at(11), attempt(call), at(10))));
        cap
    }

    #[test]
    fn it_shrinks_to_what_was_not_rejected() {
        let mut cap = of_twelve_four();
        assert!(cap.blocked_until(at(11)).is_some(), "four are under way");
        cap.ended(at(12), attempt(1));
        assert_eq!(cap.blocked_until(at(12)), None);
        cap.granted(at(12), attempt(13));
        assert!(cap.blocked_until(at(12)).is_some());
    }

    #[test]
    fn one_more_is_tried_the_more_rarely_the_more_often_it_is_rejected() {
        let mut cap = of_twelve_four();
        let mut now = 11;
        for (call, seconds) in [(20, 10), (21, 20), (22, 40)] {
            assert!(cap.blocked_until(at(now + seconds - 1)).is_some());
            now += seconds;
            assert_eq!(cap.blocked_until(at(now)), None, "one more");
            cap.granted(at(now), attempt(call));
            assert!(cap.rejected(at(now), attempt(call), at(now)));
        }
    }

    /// All that are under way are accepted.
    fn round(cap: &mut ConcurrencyCap, now: u64, calls: std::ops::RangeInclusive<u64>) {
        calls.for_each(|call| cap.accepted(at(now), attempt(call), at(now)));
    }

    #[test]
    fn one_more_is_tried_after_each_round_of_accepted_calls_until_it_is_rejected() {
        let mut cap =
            ConcurrencyCap::new([(attempt(1), at(10)), (attempt(2), at(10))].into_iter(), SECOND * 600);
        assert!(cap.rejected(at(11), attempt(2), at(10)));
        round(&mut cap, 11, 1..=1);
        assert!(cap.blocked_until(at(11)).is_some(), "what was granted before the rejection shows nothing");
        for calls in 1..4 {
            let now = 11 + calls;
            (1..=calls).for_each(|call| cap.ended(at(now), attempt(call)));
            (1..=calls).for_each(|call| cap.granted(at(now), attempt(call)));
            round(&mut cap, now, 1..=calls);
            assert_eq!(cap.blocked_until(at(now)), None, "one more than {calls}");
            assert_eq!(cap.learned(&Scope::account()).calls, calls);
            cap.granted(at(now), attempt(calls + 1));
        }
        assert!(cap.rejected(at(15), attempt(4), at(14)));
        (1..=3).for_each(|call| cap.ended(at(16), attempt(call)));
        (1..=3).for_each(|call| cap.granted(at(16), attempt(call)));
        round(&mut cap, 16, 1..=3);
        assert!(cap.blocked_until(at(34)).is_some(), "the fourth was rejected");
        assert_eq!(cap.blocked_until(at(35)), None);
    }

    #[test]
    fn a_restart_remembers_it_and_how_rarely_one_more_is_tried() {
        let mut cap = of_twelve_four();
        assert_eq!(cap.blocked_until(at(21)), None, "one more");
        cap.granted(at(21), attempt(20));
        assert_eq!(cap.learned(&Scope::account()).calls, 4, "it is not known of the one more");
        assert!(cap.rejected(at(21), attempt(20), at(21)));
        let learned = cap.learned(&Scope::account());
        let under_way = (1..=4).map(|call| (attempt(call), at(10)));
        let mut cap = ConcurrencyCap::restored(under_way, SECOND * 600, &learned, at(30));
        assert_eq!(cap.learned(&Scope::account()), learned);
        assert!(cap.blocked_until(at(49)).is_some());
        assert_eq!(cap.blocked_until(at(50)), None);
    }

    #[test]
    fn where_nothing_else_is_under_way_only_time_helps() {
        let mut cap = ConcurrencyCap::new([(attempt(1), at(10))].into_iter(), SECOND * 600);
        assert!(!cap.rejected(at(11), attempt(1), at(10)));
        assert_eq!(cap.blocked_until(at(11)), None, "one at a time may be tried");
    }
}
