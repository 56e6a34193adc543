//! Pauses: closed until a time, then one probe, then a ramp.
//!
//! A rejection closes a scope for all of its calls. When its time has come one call is let
//! through to ask how things stand; if the provider takes it, the number of calls that may be
//! unanswered at the same time grows with each answer until it no longer matters. A rejection in
//! between closes the scope again, each time for longer where the provider names no time.
//!
//! | room | holds |
//! |---|---|
//! | `claim` | long waits that one workload has reported |
//! | `stop` | providers that refuse until a person acts |

mod claim;
mod stop;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::PauseConfig;
use crate::event::{Attempt, Fingerprint, RejectionClass};
use crate::name::Consumer;
use crate::time::{Time, stretched};

pub(crate) use claim::Claim;
use stop::Refusals;

/// Unanswered calls at which a ramp has done its work.
const RAMP_DONE: u32 = 64;
/// The longest that doubling makes a pause for which the provider names no time.
const STRIKES_AT_MOST: u32 = 6;
/// The pause of one scope.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    /// When it was first closed.
    pub(crate) since: Time,
    /// Until when it is closed.
    pub(crate) until: Time,
    /// The provider's word, or who paused.
    pub(crate) reason: String,
    refusals: Refusals,
    /// A call of another credential was accepted since.
    contradicted: bool,
    /// The organisation that was refused.
    organization: Option<Fingerprint>,
    /// The workload that was refused last.
    heard_by: Option<Consumer>,
    /// The provider's last rejection said that it is overloaded.
    pub(crate) overloaded: bool,
    /// It lasts as long as a person said, who may end it at any time.
    pub(crate) by_hand: bool,
    /// When it was last closed anew.
    pub(crate) closed_at: Time,
    strikes: u32,
    phase: Phase,
    /// A long wait that nobody but one workload has seen.
    claim: Option<Claim>,
    /// It holds calls only while a probe asks about the claim.
    only_asks: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Nothing is granted before `until`, and one call after it.
    Closed,
    /// This call asks how things stand, since then.
    Probing { probe: Attempt, since: Time },
    /// As many calls as `width` may be unanswered.
    Ramp { width: u32, unanswered: BTreeMap<Attempt, Time> },
}

/// The reason of a pause that a person has begun.
const BY_HAND: &str = "paused by hand";

/// What an answer did to a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing that anyone has to know.
    None,
    /// The probe was accepted: the pause is over, the ramp begins.
    Opened,
    /// The ramp is done: forget the pause.
    Over,
}

impl Pause {
    /// Closes a scope on account of a rejection that came at `now`. `wait` is what is left of the
    /// provider's time: none where it named none, zero where it passed while the answer was on its way.
    pub(crate) fn closed(
        now: Time,
        class: RejectionClass,
        wait: Option<Duration>,
        reason: String,
        config: &PauseConfig,
    ) -> Pause {
        let mut pause = Pause::by_hand(now, Duration::ZERO);
        pause.reason = reason;
        pause.by_hand = false;
        pause.prolong(now, class, wait, config);
        pause
    }

    /// Whether a person has begun it: of one from a ledger only its reason tells.
    pub(crate) fn is_by_hand(&self) -> bool {
        self.by_hand && self.reason == BY_HAND
    }

    /// Closes a scope because a person says so.
    pub(crate) fn by_hand(now: Time, length: Duration) -> Pause {
        Pause {
            since: now,
            until: now + length,
            reason: BY_HAND.to_owned(),
            refusals: Refusals::None,
            contradicted: false,
            organization: None,
            heard_by: None,
            overloaded: false,
            by_hand: true,
            closed_at: now,
            strikes: 0,
            phase: Phase::Closed,
            claim: None,
            only_asks: false,
        }
    }

    fn prolong(&mut self, now: Time, class: RejectionClass, wait: Option<Duration>, config: &PauseConfig) {
        let unnamed = match class {
            RejectionClass::Terminal => self.refused(),
            _ => {
                self.refusals = Refusals::None;
                self.unnamed(self.strikes, config)
            }
        };
        // Who refuses until a person acts is asked again all the same.
        let wait = wait.filter(|_| class != RejectionClass::Terminal);
        let length = wait.unwrap_or(unnamed).min(config.cap);
        let length = if length.is_zero() { length } else { stretched(length) };
        self.by_hand &= self.until >= now + length;
        self.until = self.until.max(now + length);
        self.overloaded = class == RejectionClass::Capacity;
    }

    fn unnamed(&self, strikes: u32, config: &PauseConfig) -> Duration {
        config.fallback.saturating_mul(1 << strikes.min(STRIKES_AT_MOST))
    }

    /// How long the rejection of a call that was granted then pauses, if the provider names no time.
    pub(crate) fn unnamed_after(&self, granted: Time, config: &PauseConfig) -> Duration {
        self.unnamed(self.strikes + u32::from(self.is_news(granted)), config)
    }

    /// Whether the rejection of a call that was granted then closes it anew; one that was sent before is old news.
    pub(crate) fn is_news(&self, granted: Time) -> bool {
        granted >= self.closed_at && !matches!(self.phase, Phase::Closed)
    }

    /// A rejection of a call that was granted at `granted`. Returns whether the pause is longer
    /// or closed anew; a straggler that was sent before the pause is old news unless its time is later.
    pub(crate) fn rejected(
        &mut self,
        now: Time,
        granted: Time,
        class: RejectionClass,
        wait: Option<Duration>,
        config: &PauseConfig,
    ) -> bool {
        let terminal = class == RejectionClass::Terminal;
        // What was sent before the pause may still say that the provider refuses, or confirm it, but not twice.
        let news = self.is_news(granted) || terminal && !self.stopped();
        if !news && (terminal || wait.is_none_or(|wait| wait.is_zero())) {
            return false;
        }
        let before = self.until;
        if news {
            self.strikes += 1;
            self.closed_at = now;
        }
        self.prolong(now, class, wait, config);
        let later = self.until > before && self.until > now;
        if news || later {
            self.phase = Phase::Closed;
            self.only_asks = false;
        }
        news || later
    }

    /// When a call of the scope may be granted at the earliest; `None`: now.
    pub(crate) fn blocked_until(&self, now: Time, config: &PauseConfig) -> Option<Time> {
        let until = match &self.phase {
            Phase::Closed if self.asks_in_vain(now) => now,
            Phase::Closed => self.until,
            Phase::Probing { since, .. } => *since + config.probe_patience,
            Phase::Ramp { width, unanswered } if unanswered.len() >= *width as usize => {
                unanswered.values().min().map_or(now, |since| *since + config.probe_patience)
            }
            Phase::Ramp { .. } => now,
        };
        (until > now).then_some(until)
    }

    /// How many calls it lets through now.
    pub(crate) fn room(&self, now: Time, config: &PauseConfig) -> usize {
        match &self.phase {
            _ if self.blocked_until(now, config).is_some() => 0,
            Phase::Closed | Phase::Probing { .. } => 1,
            Phase::Ramp { width, unanswered } => (*width as usize).saturating_sub(unanswered.len()).max(1),
        }
    }

    /// A call of the scope is granted: it is the probe, or one of the ramp.
    pub(crate) fn granted(&mut self, now: Time, attempt: Attempt) {
        match &mut self.phase {
            Phase::Closed => self.phase = Phase::Probing { probe: attempt, since: now },
            Phase::Probing { .. } => {}
            Phase::Ramp { unanswered, .. } => {
                unanswered.insert(attempt, now);
            }
        }
    }

    /// A call of the scope was not rejected, for it was answered, or long enough unanswered.
    pub(crate) fn accepted(&mut self, attempt: Attempt) -> Progress {
        match &mut self.phase {
            Phase::Probing { probe, .. } if *probe == attempt => {
                self.claim = None;
                if self.only_asks {
                    return Progress::Over;
                }
                self.phase = Phase::Ramp { width: 2, unanswered: BTreeMap::new() };
                self.strikes = 0;
                self.refusals = Refusals::None;
                self.contradicted = false;
                Progress::Opened
            }
            Phase::Ramp { width, unanswered } => {
                *width += u32::from(unanswered.remove(&attempt).is_some());
                if *width >= RAMP_DONE { Progress::Over } else { Progress::None }
            }
            _ => Progress::None,
        }
    }

    /// A call of the scope was never sent: it has asked nothing.
    pub(crate) fn withdrawn(&mut self, attempt: Attempt) {
        match &mut self.phase {
            Phase::Probing { probe, .. } if *probe == attempt => self.phase = Phase::Closed,
            Phase::Ramp { unanswered, .. } => {
                unanswered.remove(&attempt);
            }
            _ => {}
        }
    }

    /// Calls that have been unanswered for so long that they count as accepted.
    pub(crate) fn patience_ended(&self, now: Time, config: &PauseConfig) -> Vec<Attempt> {
        let over = |since: Time| since + config.probe_patience <= now;
        match &self.phase {
            Phase::Closed => Vec::new(),
            Phase::Probing { probe, since } => over(*since).then_some(*probe).into_iter().collect(),
            Phase::Ramp { unanswered, .. } => {
                unanswered.iter().filter(|(_, since)| over(**since)).map(|(attempt, _)| *attempt).collect()
            }
        }
    }

    /// Whether calls are held for it, rather than only fewer let through at a time.
    pub(crate) fn is_closed(&self) -> bool {
        !matches!(self.phase, Phase::Ramp { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CallId, SessionId};

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> PauseConfig {
        PauseConfig {
            fallback: SECOND,
            cap: SECOND * 300,
            probe_patience: SECOND * 2,
            max_call: SECOND * 600,
        }
    }

    fn attempt(call: u64) -> Attempt {
        Attempt { session: SessionId(1), call: CallId(call), number: 1 }
    }

    fn at(seconds: u64) -> Time {
        Time(0) + SECOND * seconds as u32
    }

    fn closed(wait: Option<Duration>) -> Pause {
        Pause::closed(at(10), RejectionClass::Quota, wait, String::new(), &config())
    }

    #[test]
    fn retry_after_is_a_floor() {
        let pause = closed(Some(SECOND * 8));
        assert!(pause.blocked_until(at(18), &config()).is_some(), "the provider's clock may be slow");
        assert_eq!(pause.blocked_until(at(19), &config()), None);
    }

    #[test]
    fn one_probe_then_a_ramp_then_nothing() {
        let mut pause = closed(Some(SECOND));
        pause.granted(at(12), attempt(1));
        assert!(pause.blocked_until(at(12), &config()).is_some(), "one probe, not two");
        assert_eq!(pause.accepted(attempt(1)), Progress::Opened);
        let mut next = 2;
        let mut rounds = 0;
        loop {
            rounds += 1;
            let mut sent = Vec::new();
            while pause.blocked_until(at(12), &config()).is_none() {
                pause.granted(at(12), attempt(next));
                sent.push(attempt(next));
                next += 1;
            }
            assert!(!sent.is_empty());
            if sent.into_iter().any(|attempt| pause.accepted(attempt) == Progress::Over) {
                break;
            }
        }
        assert!((4..=8).contains(&rounds), "doubles with each round: {rounds}");
    }

    #[test]
    fn a_rejected_probe_closes_for_longer_each_time() {
        let mut pause = closed(None);
        let mut lengths = Vec::new();
        for call in 0..4 {
            let now = pause.until;
            pause.granted(now, attempt(call));
            assert!(pause.rejected(now, now, RejectionClass::Quota, None, &config()));
            lengths.push(pause.until.since(now).as_secs());
        }
        assert_eq!(lengths, [2, 4, 8, 16]);
    }

    #[test]
    fn stragglers_of_before_do_not_prolong_unless_they_name_a_time() {
        let mut pause = closed(Some(SECOND * 5));
        assert!(!pause.rejected(at(11), at(9), RejectionClass::Quota, None, &config()));
        assert!(pause.rejected(at(11), at(9), RejectionClass::Quota, Some(SECOND * 60), &config()));
        assert!(pause.blocked_until(at(70), &config()).is_some());
    }

    #[test]
    fn a_straggler_whose_time_has_passed_makes_no_second_probe() {
        let mut pause = closed(Some(SECOND));
        pause.granted(at(12), attempt(1));
        assert!(!pause.rejected(at(13), at(9), RejectionClass::Quota, Some(Duration::ZERO), &config()));
        assert!(pause.blocked_until(at(13), &config()).is_some(), "the probe is still out");
        assert_eq!(pause.accepted(attempt(1)), Progress::Opened);
    }

    #[test]
    fn a_rejected_probe_whose_time_has_passed_is_followed_by_another() {
        let mut pause = closed(Some(SECOND));
        pause.granted(at(12), attempt(1));
        assert!(pause.rejected(at(13), at(12), RejectionClass::Quota, Some(Duration::ZERO), &config()));
        assert_eq!(pause.blocked_until(at(14), &config()), None);
        pause.granted(at(14), attempt(2));
        assert!(pause.blocked_until(at(14), &config()).is_some(), "one at a time");
    }

    #[test]
    fn a_provider_that_stops_is_believed_the_second_time_and_asked_ever_more_rarely() {
        let refused = |pause: &mut Pause, now: Time, granted: Time| {
            pause.rejected(now, granted, RejectionClass::Terminal, None, &config())
        };
        let mut pause = Pause::closed(at(10), RejectionClass::Terminal, None, String::new(), &config());
        assert!(!pause.stopped());
        assert_eq!(pause.blocked_until(at(10), &config()), None, "one asks again at once");
        pause.granted(at(10), attempt(1));
        assert!(pause.blocked_until(at(10), &config()).is_some(), "and no other");
        assert!(refused(&mut pause, at(10), at(10)) && pause.stopped());
        assert!(!refused(&mut pause, at(11), at(9)), "one that was sent before");
        let mut minutes = Vec::new();
        let mut now = at(10);
        for call in 2..9 {
            minutes.push(pause.until.since(now).as_secs() / 60);
            now = pause.until;
            pause.granted(now, attempt(call));
            assert!(refused(&mut pause, now, now) && pause.stopped());
        }
        let cap = config().cap.as_secs() / 60;
        assert_eq!(minutes, [1, 2, 4, 8, 15, 15, 15].map(|minutes: u64| minutes.min(cap)));
        pause.granted(pause.until, attempt(10));
        assert_eq!(pause.accepted(attempt(10)), Progress::Opened);
        assert!(!pause.stopped());
    }

    #[test]
    fn what_was_under_way_confirms_that_the_provider_stops() {
        let mut pause = Pause::closed(at(10), RejectionClass::Terminal, None, String::new(), &config());
        assert!(pause.rejected(at(11), at(9), RejectionClass::Terminal, None, &config()));
        assert!(pause.stopped() && pause.blocked_until(at(70), &config()).is_some());
    }

    #[test]
    fn no_pause_is_longer_than_the_cap_without_a_probe() {
        let pause = closed(Some(SECOND * 86_400));
        assert_eq!(pause.blocked_until(at(311), &config()), None);
    }

    #[test]
    fn a_probe_that_was_never_sent_is_followed_by_another() {
        let mut pause = closed(Some(SECOND));
        pause.granted(at(12), attempt(1));
        pause.withdrawn(attempt(1));
        assert_eq!(pause.blocked_until(at(12), &config()), None);
    }

    #[test]
    fn a_probe_that_is_answered_late_counts_as_accepted() {
        let mut pause = closed(Some(SECOND));
        pause.granted(at(12), attempt(1));
        assert!(pause.patience_ended(at(13), &config()).is_empty());
        assert_eq!(pause.patience_ended(at(14), &config()), [attempt(1)]);
    }
}
