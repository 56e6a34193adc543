//! Which of our charges the provider can have counted when it answers, and in which of its windows.

use super::{AtGrant, OthersSeen, WindowCounter};
use crate::cost::Amount;
use crate::time::Time;

/// What an answer tells of others' use of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// At least so much.
    pub(crate) others: Amount,
    /// That is more than was known.
    pub(crate) more: bool,
}

/// When a provider's window ends, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowEnd {
    /// Not before this time.
    pub(crate) earliest: Time,
    /// What was counted before the end is back by this time.
    pub(crate) latest: Time,
}

/// What an answer says of a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) remaining: Amount,
    pub(crate) end: Option<WindowEnd>,
    /// When the call was granted that it is the answer to.
    pub(crate) granted: Time,
    /// What that call was charged.
    pub(crate) cost: Amount,
}

/// The fixed window that is under way, as far as answers tell when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Period {
    end: Option<WindowEnd>,
    begun: Option<Begun>,
}

/// The beginning of a window.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// It began by then.
    latest: Time,
    /// What was charged and counted before it began.
    charged_before: Amount,
}

impl Period {
    /// Notes what was charged and counted when a window ends and another begins. Returns whether one does.
    pub(super) fn advance(&mut self, now: Time, counted: Amount) -> bool {
        let Some(end) = self.end.filter(|end| end.earliest <= now) else { return false };
        self.begun = Some(Begun { latest: end.latest, charged_before: counted });
        self.end = None;
        true
    }

    /// When the window that is under way ends at the earliest; [`Time::NEVER`]: that is not known.
    pub(super) fn next_end(&self) -> Time {
        self.end.map_or(Time::NEVER, |end| end.earliest)
    }

    /// Takes in when a window ends that began after the one whose beginning is known, if any.
    fn ends(&mut self, end: WindowEnd, now: Time) {
        if end.earliest > now {
            self.end = Some(end);
        }
    }
}

impl WindowCounter {
    /// Takes in what remains of a limit whose calls' costs are only estimated. Whose use that is is not known. A bucket
    /// is at least as full as that says, as far as calls that have been counted since do not explain it; only the
    /// answer to the newest of the answered calls counts. A log is charged what ours do not explain, for a window.
    pub(crate) fn raise(&mut self, now: Time, at_grant: AtGrant, left: Left) -> Told {
        if !self.asks_bucket {
            return self.learn_of_others(now, at_grant, left);
        }
        if !self.others.is_newest(left.granted) {
            return Told::default();
        }
        let (size, since) = (self.bucket.size(), self.landed - at_grant.landed);
        let told = (size - left.remaining + since).min(size);
        let missing = told - self.bucket.level();
        self.pour_others(now, missing);
        Told { others: missing, more: !missing.is_zero() }
    }

    /// Takes in what the provider said of the limit when it answered a call that stood so at its grant.
    pub(crate) fn learn_of_others(&mut self, now: Time, at_grant: AtGrant, left: Left) -> Told {
        let Left { remaining, end, granted, cost } = left;
        if self.calendar.is_stale(granted) {
            return Told::default();
        }
        let since = self.charged - at_grant.charged;
        if !self.asks_log {
            let poured = self.poured_for_others - at_grant.poured_for_others;
            let ours = at_grant.level + at_grant.in_flight + since + poured;
            let others = self.bucket.size() - remaining - ours;
            self.pour_others(now, others);
            return Told { others, more: !others.is_zero() };
        }
        // Of ours the provider can have counted what was in the log when this call was granted and what was granted
        // since; a stale answer therefore accuses nobody.
        let mut ours = at_grant.logged + since;
        if let Some(end) = end {
            let begun = self.period.begun.filter(|begun| begun.latest + self.window / 2 < end.latest);
            ours = begun.map_or(ours, |begun| ours.min(self.charged - begun.charged_before));
            self.period.ends(end, now);
        }
        let room = remaining - (at_grant.in_flight - cost + since);
        let amount = self.amount - remaining - ours;
        let seen = OthersSeen { amount, end: end.map(|end| end.latest), granted, room };
        Told { others: amount, more: self.charge_others(now, seen) }
    }
}
