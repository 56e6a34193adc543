//! Events of single workloads: their calls wait, their clients hang up, their proxies have seen something.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::ConsumerHangUps;
use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::status::{AccountReport, ConsumerNotice};

use super::{PlannedEvent, Target, seconds};
use crate::event_reason::EventReason;
use crate::status::words;

/// A workload whose calls have waited this long gets an Event.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// Clients that hang up sooner than this were not waiting.
const NOTICED_WAIT: Duration = Duration::from_secs(1);
/// After this many seconds without waiting calls a workload gets a new Event the next time.
const QUIET_SECONDS: i64 = 60;
/// So many hang-ups of a workload get an Event, and another after so many seconds.
const HANG_UPS: u64 = 3;
const HANG_UPS_SECONDS: i64 = 600;
/// A notice that no proxy has repeated for this many seconds gets a new Event the next time: pods come and go.
const NOTICE_QUIET_SECONDS: i64 = 3600;
/// The most workloads of a quota that get an Event of a kind at a time; others get theirs in the next round.
const MOST_CONSUMERS: usize = 50;

/// What the workloads of a quota have been told.
#[derive(Clone, Debug, Default)]
pub(super) struct ConsumerEvents {
    /// When calls of a workload were last seen to wait.
    waiting: BTreeMap<String, Timestamp>,
    /// When a notice of a workload was last in a report.
    notices: BTreeMap<(String, NoticeKind), Timestamp>,
    /// How many hang-ups of a workload have had an Event, and when.
    hang_ups: BTreeMap<String, (u64, Timestamp)>,
}

/// What a look at a quota works from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round<'r> {
    /// The quota: `namespace/name`.
    pub(super) quota: &'r str,
    /// What the limiter reports of its account.
    pub(super) report: &'r AccountReport,
    /// The time of day.
    pub(super) now: Timestamp,
}

impl ConsumerEvents {
    /// All that a report says has been told.
    pub(super) fn told(report: &AccountReport, now: Timestamp) -> ConsumerEvents {
        let hang_ups = report.status.hang_ups.iter();
        ConsumerEvents {
            waiting: waiters(report).map(|(consumer, _)| (consumer.to_owned(), now)).collect(),
            notices: report.notices.iter().map(|notice| (key(notice), now)).collect(),
            hang_ups: hang_ups.map(|of_one| (of_one.consumer.to_string(), (of_one.calls, now))).collect(),
        }
    }

    /// The Events that are due now.
    pub(super) fn next(&mut self, round: Round<'_>) -> Vec<PlannedEvent> {
        let mut events = self.waits(round);
        events.extend(self.hang_ups(round));
        events.extend(self.notices(round));
        events
    }

    fn waits(&mut self, round: Round<'_>) -> Vec<PlannedEvent> {
        let Round { quota, report, now } = round;
        let mut new = Vec::new();
        for (consumer, calls) in waiters(report) {
            match self.waiting.get_mut(consumer) {
                Some(seen) => *seen = now,
                None => {
                    let note = format!("{calls} for {quota}");
                    new.push((consumer.to_owned(), now, on(consumer, EventReason::WaitingForQuota, note)));
                }
            }
        }
        let events = tell(new, &mut self.waiting);
        self.waiting.retain(|_, seen| seconds(*seen, now) < QUIET_SECONDS);
        events
    }

    /// Clients that hang up while their calls wait: their timeout is shorter than the wait.
    fn hang_ups(&mut self, round: Round<'_>) -> Vec<PlannedEvent> {
        let Round { quota, report, now } = round;
        let mut new = Vec::new();
        for of_one in report.status.hang_ups.iter().filter(|it| it.longest >= NOTICED_WAIT) {
            let (told, at) = self.hang_ups.get(of_one.consumer.as_str()).copied().unzip();
            // A limiter that has restarted counts from 0.
            let told = told.filter(|told| *told <= of_one.calls).unwrap_or(0);
            let calls = of_one.calls - told;
            if calls >= HANG_UPS && at.is_none_or(|at| seconds(at, now) >= HANG_UPS_SECONDS) {
                let note = hang_ups_note(quota, of_one, calls);
                let event = on(&of_one.consumer, EventReason::ClientsGiveUp, note);
                new.push((of_one.consumer.to_string(), (of_one.calls, now), event));
            }
        }
        let events = tell(new, &mut self.hang_ups);
        let reported = |consumer: &str| report.status.hang_ups.iter().any(|it| it.consumer == *consumer);
        self.hang_ups.retain(|consumer, _| reported(consumer));
        events
    }

    fn notices(&mut self, round: Round<'_>) -> Vec<PlannedEvent> {
        let Round { quota, report, now } = round;
        let mut new = Vec::new();
        for notice in &report.notices {
            let key = key(notice);
            match self.notices.get_mut(&key) {
                Some(seen) => *seen = now,
                None => new.extend(notice_event(quota, notice).map(|event| (key, now, event))),
            }
        }
        let events = tell(new, &mut self.notices);
        self.notices.retain(|_, seen| seconds(*seen, now) < NOTICE_QUIET_SECONDS);
        events
    }
}

/// The Events of as many workloads as get one at a time; remembers what they have been told.
pub(super) fn tell<K: Ord, V>(
    new: Vec<(K, V, PlannedEvent)>,
    known: &mut BTreeMap<K, V>,
) -> Vec<PlannedEvent> {
    let told = new.into_iter().take(MOST_CONSUMERS).map(|(key, value, event)| {
        known.insert(key, value);
        event
    });
    told.collect()
}

fn key(notice: &ConsumerNotice) -> (String, NoticeKind) {
    (notice.consumer.to_string(), notice.kind)
}

pub(super) fn on(consumer: &str, reason: EventReason, note: String) -> PlannedEvent {
    PlannedEvent { target: Target::Consumer(consumer.to_owned()), reason, note }
}

/// The Event of a notice; none: this version does not know its kind.
pub(super) fn notice_event(quota: &str, notice: &ConsumerNotice) -> Option<PlannedEvent> {
    let detail = &notice.detail;
    let said = || format!("{quota}: {detail}.");
    let (reason, note) = match notice.kind {
        NoticeKind::UnreadableRequest => {
            let what = "a request's model is not known, so it waits for all models and is charged to each";
            (EventReason::ModelUnknown, format!("{quota}: {what}. {detail}."))
        }
        NoticeKind::DistrustedCa => (EventReason::ProxyNotTrusted, said()),
        NoticeKind::UnknownCost => {
            let what = "what a call has cost is not known, so it counts with no less than was held for it";
            (EventReason::CostUnknown, format!("{quota}: {what}. {detail}."))
        }
        NoticeKind::AnotherOrganization => {
            let what = "what answers of another account say of limits and rejections is ignored";
            (EventReason::AnotherOrganization, format!("{quota}: {what}. {detail}."))
        }
        // It may have nothing to do yet.
        NoticeKind::NoCalls => (EventReason::NoCalls, said()),
        NoticeKind::Unknown => return None,
    };
    Some(on(&notice.consumer, reason, note))
}

/// How long the calls had waited whose clients hung up, how long they would have waited, and what to do.
fn hang_ups_note(quota: &str, of_one: &ConsumerHangUps, calls: u64) -> String {
    let calls = words::counted(i64::try_from(calls).unwrap_or(i64::MAX), "waiting call");
    let [shortest, longest] = [of_one.shortest, of_one.longest].map(words::rounded_seconds);
    let after =
        if shortest == longest { format!("{longest}s") } else { format!("{shortest}s to {longest}s") };
    let wait = words::rounded_up_seconds(of_one.wait);
    format!(
        "{quota}: the clients of {calls} hung up after {after}, before their turn; a call waits about {wait}s; set the client's timeout above that, or run fewer workers"
    )
}

/// Workloads whose calls have waited for [`LONG_WAIT`], and how many calls for how long.
fn waiters(report: &AccountReport) -> impl Iterator<Item = (&str, String)> {
    report.status.waiting.iter().filter(|waiting| waiting.longest >= LONG_WAIT).map(|waiting| {
        let calls = i64::try_from(waiting.calls).unwrap_or(i64::MAX);
        let verb = words::plural(calls, "waits", "wait");
        let longest = words::longest(words::coarse(waiting.longest.as_secs()));
        (waiting.consumer.as_str(), format!("{} {verb}, {longest},", words::counted(calls, "call")))
    })
}
