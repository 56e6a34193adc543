//! The right to be the active limiter: how the Lease is held, and when another may take it.
//!
//! ```text
//! holder   asks ──► renewed at the API server ──► answered      may grant until asked + 70 % of the length
//! others             └─ seen unchanged for the whole length, from when they have read it ──► take it
//! ```
//! Each counts on its own clock, which does not stand still while the machine is suspended: the holder from before its
//! request, the others from after their answer. So the holder has stopped before another can have begun, whatever the
//! requests take. Times that are written in a Lease are never compared: nodes' clocks differ.

use std::time::Duration;

use quotakeeper_engine::time::Time;

use crate::mutant::{self, Mutant};

/// The part of the length for which a renewal lets its holder grant, in percent. What is left is more than two clocks
/// can part by, and lets a request that is on its way come to its end.
const GRANTS_PERCENT: u32 = 70;

/// How a Lease is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// It is free when it was not renewed for so long.
    pub length: Duration,
}

impl Terms {
    /// Until when a holder may grant whose renewal was asked for at `asked` and answered at `answered`.
    pub fn grants_until(self, asked: Time, answered: Time) -> Time {
        let from = if mutant::active(Mutant::LeaseFromAnswer) { answered } else { asked };
        from + self.length * GRANTS_PERCENT / 100
    }

    /// How often it is renewed, and looked at by the others.
    pub fn every(self) -> Duration {
        self.length / 5
    }

    /// How long a request about it is waited for: the next one may still come in time.
    pub fn patience(self) -> Duration {
        self.length * 2 / 5
    }
}

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// Differs after each renewal.
    pub renewal: String,
    /// The epoch of its last holder.
    pub epoch: u64,
    /// It is free when it was not renewed for so long; none: its holder does not renew it.
    pub length: Option<Duration>,
}

/// Who may be active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whoever takes it now.
    Free,
    /// Its reader, or an earlier process of its reader's name.
    Ours,
    /// Another, until then at least.
    Theirs {
        /// On the reader's clock.
        until: Time,
    },
    /// Another that does not renew it: for as long as it runs.
    WhileItRuns,
}

/// What was seen of a Lease: since when, and until when it was looked at.
#[derive(Clone, Debug)]
struct Seen {
    held: Held,
    since: Time,
    looked: Time,
}

/// What one that is not active sees of the Lease. Time in which it could not look does not count: the API server may have
/// been away for the holder too, which is to be the first to renew it then.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: Option<Seen>,
}

impl Watch {
    /// The Lease as it was read, `now` read after that; `None`: there is none. `me`: the reader's name.
    pub fn sees(&mut self, now: Time, found: Option<&Held>, me: &str) -> Verdict {
        let Some(found) = found.filter(|found| !found.holder.is_empty()) else { return Verdict::Free };
        if found.holder == me {
            return Verdict::Ours;
        }
        let Some(length) = found.length else { return Verdict::WhileItRuns };
        let since = match &self.seen {
            Some(Seen { held, since, looked }) if held == found && now.since(*looked) <= length / 2 => *since,
            _ => now,
        };
        self.seen = Some(Seen { held: found.clone(), since, looked: now });
        let until = since + length;
        if now > until { Verdict::Free } else { Verdict::Theirs { until } }
    }
}

#[cfg(test)]
mod tests {
    use quotakeeper_engine::time::stretched;

    use super::*;

    const TERMS: Terms = Terms { length: Duration::from_secs(5) };

    fn at(milliseconds: u64) -> Time {
        Time(0) + Duration::from_millis(milliseconds)
    }

    fn held(holder: &str, renewal: u64) -> Held {
        Held { holder: holder.to_owned(), renewal: renewal.to_string(), epoch: 7, length: Some(TERMS.length) }
    }

    #[test]
    fn a_lease_is_free_when_it_was_seen_unchanged_for_its_whole_length() {
        let mut watch = Watch::default();
        let theirs = |until| Verdict::Theirs { until: at(until) };
        assert_eq!(watch.sees(at(1000), Some(&held("a", 1)), "b"), theirs(6000));
        assert_eq!(watch.sees(at(3500), Some(&held("a", 1)), "b"), theirs(6000));
        assert_eq!(watch.sees(at(5000), Some(&held("a", 1)), "b"), theirs(6000));
        assert_eq!(watch.sees(at(6000), Some(&held("a", 2)), "b"), theirs(11_000), "it was renewed");
        assert_eq!(watch.sees(at(8500), Some(&held("a", 2)), "b"), theirs(11_000));
        assert_eq!(watch.sees(at(11_000), Some(&held("a", 2)), "b"), theirs(11_000));
        assert_eq!(watch.sees(at(11_001), Some(&held("a", 2)), "b"), Verdict::Free);
    }

    #[test]
    fn a_lease_that_its_holder_does_not_renew_is_held_while_it_runs() {
        let mut watch = Watch::default();
        let found = Held { length: None, ..held("a", 1) };
        for milliseconds in [1000, 2000, 600_000] {
            assert_eq!(watch.sees(at(milliseconds), Some(&found), "b"), Verdict::WhileItRuns);
        }
        assert_eq!(watch.sees(at(600_001), Some(&found), "a"), Verdict::Ours);
    }

    /// Its holder could not renew it either.
    #[test]
    fn a_lease_is_not_free_because_the_api_server_was_away() {
        let mut watch = Watch::default();
        watch.sees(at(1000), Some(&held("a", 1)), "b");
        let theirs = |until| Verdict::Theirs { until: at(until) };
        assert_eq!(watch.sees(at(60_000), Some(&held("a", 1)), "b"), theirs(65_000));
        assert_eq!(watch.sees(at(62_500), Some(&held("a", 1)), "b"), theirs(65_000));
        assert_eq!(watch.sees(at(65_000), Some(&held("a", 1)), "b"), theirs(65_000));
        assert_eq!(watch.sees(at(65_001), Some(&held("a", 1)), "b"), Verdict::Free);
    }

    #[test]
    fn a_lease_that_nobody_holds_is_free_at_once_and_ones_own_is_ours() {
        let mut watch = Watch::default();
        assert_eq!(watch.sees(at(0), None, "b"), Verdict::Free);
        assert_eq!(watch.sees(at(0), Some(&held("", 3)), "b"), Verdict::Free);
        assert_eq!(watch.sees(at(0), Some(&held("b", 4)), "b"), Verdict::Ours);
    }

    /// Whatever the request takes, and although the holder's clock is slow and the other's is fast.
    #[test]
    fn a_holder_has_stopped_before_another_may_begin() {
        for takes in [0, 10, 1990, 4000, 60_000].map(Duration::from_millis) {
            let (asked, stored) = (at(0), at(0));
            let stops = TERMS.grants_until(asked, asked + takes).since(asked);
            let mut watch = Watch::default();
            watch.sees(stored, Some(&held("a", 1)), "b");
            let begins = stored + TERMS.length;
            watch.sees(stored + TERMS.length / 2, Some(&held("a", 1)), "b");
            assert_eq!(watch.sees(begins, Some(&held("a", 1)), "b"), Verdict::Theirs { until: begins });
            assert!(stretched(stretched(stops)) < TERMS.length, "{takes:?}: {stops:?}");
        }
        assert!(TERMS.every() + TERMS.patience() < TERMS.grants_until(at(0), at(0)).since(at(0)));
    }
}
