//! Events of pauses: what the provider has said that holds calls back.

use jiff::Timestamp;
use quotakeeper_engine::PauseStatus;
use quotakeeper_engine::event::Callers;
use quotakeeper_wire::status::AccountReport;

use super::{PlannedEvent, seconds, targets};
use crate::event_reason::EventReason;
use crate::status::{Subject, words};

/// An end of a pause that is later by more than this many seconds gets a new Event.
const LATER_SECONDS: i64 = 30;

/// The pause that is under way at a quota, and has had its Event.
#[derive(Clone, Debug)]
pub(super) struct Pause {
    since: Timestamp,
    refused: u64,
    /// The provider refuses until a person acts.
    stopped: bool,
    /// The end that the last Event told.
    until: Timestamp,
    /// The last Event's reason and note.
    pub(super) reason: EventReason,
    pub(super) note: String,
}

impl Pause {
    /// The pause that is under way, as if it had had its Event.
    pub(super) fn of(quota: &str, subject: &Subject<'_>) -> Option<Pause> {
        let (report, now) = (subject.report()?, subject.now);
        let pause = main_pause(subject, report)?;
        Some(Pause {
            since: now,
            refused: report.totals.refused,
            stopped: pause.stopped,
            until: end(pause, now),
            reason: reason(pause),
            note: note(quota, report, pause, now),
        })
    }

    /// Whether another of the same quota is no news: it ends about when this one was told to end.
    fn is_same(&self, other: &Pause) -> bool {
        self.stopped == other.stopped && seconds(self.until, other.until) <= LATER_SECONDS
    }

    fn over(self, quota: &str, report: &AccountReport, now: Timestamp) -> String {
        let lasted = seconds(self.since, now);
        let refused = report.totals.refused.saturating_sub(self.refused);
        let calls = words::counted(i64::try_from(refused).unwrap_or(i64::MAX), "call");
        format!("{quota}: calls go again after {lasted}s, {calls} refused meanwhile")
    }
}

/// A pause has an Event when it begins, when it becomes a stop, and when its end is put off. `passing`: calls pass
/// although the provider has said so.
pub(super) fn next(
    known: &mut Option<Pause>,
    quota: &str,
    subject: &Subject<'_>,
    passing: bool,
) -> Vec<PlannedEvent> {
    let (Some(report), now) = (subject.report(), subject.now) else { return Vec::new() };
    let pause = Pause::of(quota, subject).filter(|_| !passing);
    match (pause, known.take()) {
        (Some(pause), Some(before)) if before.is_same(&pause) => {
            *known = Some(before);
            Vec::new()
        }
        (Some(pause), before) => {
            let events = targets(true, pause.reason, &pause.note).collect();
            let (since, refused) = before.map_or((now, pause.refused), |it| (it.since, it.refused));
            *known = Some(Pause { since, refused, ..pause });
            events
        }
        (None, Some(before)) => {
            targets(true, EventReason::Resumed, &before.over(quota, report, now)).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// The pause that the status tells of, else that which holds some calls back the longest.
fn main_pause<'a>(subject: &Subject<'a>, report: &'a AccountReport) -> Option<&'a PauseStatus> {
    let of_all = subject.stopped_all().or_else(|| subject.pause());
    of_all.or_else(|| report.status.pauses.iter().max_by_key(|pause| (pause.stopped, pause.remaining)))
}

/// When a pause ends, in whole seconds.
fn end(pause: &PauseStatus, now: Timestamp) -> Timestamp {
    let seconds = i64::try_from(pause.remaining.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now)
}

/// The word of the state that a pause of all calls has.
fn reason(pause: &PauseStatus) -> EventReason {
    match (pause.stopped, pause.overloaded) {
        _ if pause.by_hand => EventReason::PausedByHand,
        (true, _) => EventReason::ProviderStopped,
        (false, true) => EventReason::ProviderOverloaded,
        (false, false) => EventReason::ProviderPaused,
    }
}

/// What is paused and for how long, or refused until when one call asks again.
fn note(quota: &str, report: &AccountReport, pause: &PauseStatus, now: Timestamp) -> String {
    let end = words::until_utc(end(pause, now), now);
    let calls = match pause.callers {
        Callers::All => {
            format!("{} of {}", pause.scope, words::counted(report.proxies.connected.into(), "pod"))
        }
        _ => format!("{}{}", pause.scope, pause.callers),
    };
    let what = match pause.stopped {
        true => format!(
            "refused until a person sees to the account at the provider; one call asks again at {end}"
        ),
        false => format!("paused until {end}, then sent by themselves"),
    };
    format!("{quota}: {}; {calls} {what}", pause.reason)
}
