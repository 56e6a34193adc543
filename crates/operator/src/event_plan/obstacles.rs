//! What keeps all calls of a quota from going, apart from pauses and waits: each with the remedy.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use quotakeeper_api::quota::ApiQuotaStatus;

use crate::conditions::{FALSE, TRUE, find, reasons, types, with_reason};
use crate::event_reason::EventReason;
use crate::reconcile::Verdict;
use crate::status::{Limiter, Subject, limiter_is_lost, words};

/// The kinds; of each there is at most one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ObstacleKind {
    /// The newest spec is refused.
    Refused,
    /// The limiter does not report.
    Limiter,
    /// The newest configuration does not reach the limiter, or it can't apply it.
    NotApplied,
    /// A budget is used up.
    Exhausted,
    /// What counts in long windows can't be stored.
    NotStored,
    /// A budget is closed, because it is not known what was used of it.
    UsageUnknown,
}

impl ObstacleKind {
    /// The condition that tells of it, if one does.
    fn condition(self, conditions: &[Condition]) -> Option<&Condition> {
        let with = |type_: &str, reason: &str| with_reason(conditions, type_, reason);
        match self {
            ObstacleKind::Refused => find(conditions, types::ACCEPTED).filter(|it| it.status == FALSE),
            ObstacleKind::Limiter => {
                find(conditions, types::LIMITER_AVAILABLE).filter(|it| it.status == FALSE)
            }
            ObstacleKind::NotApplied => with(types::PROGRAMMED, reasons::NOT_WRITTEN)
                .or_else(|| with(types::PROGRAMMED, reasons::REFUSED)),
            ObstacleKind::Exhausted => with(types::THROTTLED, reasons::BUDGET_EXHAUSTED),
            ObstacleKind::NotStored => with(types::THROTTLED, reasons::CHECKPOINTS_UNAVAILABLE),
            ObstacleKind::UsageUnknown => with(types::THROTTLED, reasons::USAGE_UNKNOWN),
        }
    }

    /// Its reason, as the condition tells it.
    fn reason(self, condition: &Condition) -> EventReason {
        match self {
            ObstacleKind::Refused => EventReason::Invalid,
            ObstacleKind::Limiter => EventReason::LimiterUnavailable,
            ObstacleKind::NotApplied if condition.reason == reasons::REFUSED => EventReason::Refused,
            ObstacleKind::NotApplied => EventReason::NotWritten,
            ObstacleKind::Exhausted => EventReason::BudgetExhausted,
            ObstacleKind::NotStored => EventReason::CheckpointsUnavailable,
            ObstacleKind::UsageUnknown => EventReason::UsageUnknown,
        }
    }

    /// Whether all calls wait for it, as the condition tells it.
    fn holds_calls(self, condition: &Condition, status: &ApiQuotaStatus) -> bool {
        match self {
            ObstacleKind::Refused => status.limits.is_empty(),
            ObstacleKind::Limiter => condition.reason != reasons::BEING_REPLACED,
            ObstacleKind::NotApplied => condition.message.ends_with(words::CALLS_WAIT),
            ObstacleKind::NotStored => condition.status == TRUE,
            ObstacleKind::Exhausted | ObstacleKind::UsageUnknown => true,
        }
    }

    /// Calls go in spite of it while the gate is open or the quota is disabled.
    pub(super) fn is_passed(self) -> bool {
        matches!(self, ObstacleKind::Exhausted | ObstacleKind::NotStored | ObstacleKind::UsageUnknown)
    }

    /// One of it is like another: its text holds times.
    fn is_singular(self) -> bool {
        matches!(self, ObstacleKind::Limiter | ObstacleKind::NotStored | ObstacleKind::UsageUnknown)
    }

    /// What has happened when it is gone.
    pub(super) fn over(self) -> &'static str {
        match self {
            ObstacleKind::Refused => "its spec is accepted,",
            ObstacleKind::Limiter => "the limiter reports again,",
            ObstacleKind::NotApplied => "the limiter has applied its configuration,",
            ObstacleKind::Exhausted => "its budget has room again,",
            ObstacleKind::NotStored => "its use is stored again,",
            ObstacleKind::UsageUnknown => "its budget is open again,",
        }
    }
}

/// An obstacle that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// Why: the word of the state.
    pub(super) reason: EventReason,
    /// What is wrong and what to do.
    pub(super) note: String,
    /// Calls wait for it, long enough that their authors are told.
    pub(super) holds_calls: bool,
    /// Distinguishes it from others of its kind: the condition's message, unless that holds times.
    cause: String,
}

impl Obstacle {
    fn new(reason: EventReason, note: String, cause: impl Into<String>) -> Obstacle {
        Obstacle { reason, note, holds_calls: true, cause: cause.into() }
    }

    /// Whether another of the same kind is no news.
    pub(super) fn is_same(&self, other: &Obstacle) -> bool {
        (self.reason, &self.cause) == (other.reason, &other.cause)
    }
}

/// Whether an obstacle stands.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    /// That can't be seen now.
    Unknown,
    /// It does not.
    Clear,
    /// It does.
    Stands(Obstacle),
}

/// All kinds, as they are seen now.
pub(super) fn sights(quota: &str, subject: &Subject<'_>) -> [(ObstacleKind, Sight); 6] {
    [
        (ObstacleKind::Refused, refused(quota, subject)),
        (ObstacleKind::Limiter, limiter(quota, subject)),
        (ObstacleKind::NotApplied, not_applied(quota, subject)),
        (ObstacleKind::Exhausted, exhausted(quota, subject)),
        (ObstacleKind::NotStored, not_stored(quota, subject)),
        (ObstacleKind::UsageUnknown, usage_unknown(quota, subject)),
    ]
}

/// An obstacle that the status of an earlier leader tells of.
pub(super) struct Published {
    pub(super) kind: ObstacleKind,
    pub(super) obstacle: Obstacle,
    pub(super) since: Timestamp,
}

/// Those that the status of an earlier leader tells of, whether they still stand or not.
pub(super) fn published(quota: &str, subject: &Subject<'_>) -> Vec<Published> {
    let conditions = &subject.view.status.conditions;
    let all = sights(quota, subject).into_iter().filter_map(|(kind, sight)| {
        let condition = kind.condition(conditions)?;
        let obstacle = match sight {
            // Another than the one before is news.
            Sight::Stands(new) if kind == ObstacleKind::Refused && new.cause != condition.message => {
                return None;
            }
            Sight::Stands(same) => same,
            // Its text is as the leader before has published it.
            Sight::Clear | Sight::Unknown => Obstacle {
                reason: kind.reason(condition),
                note: format!("{quota}: {}", condition.message),
                holds_calls: kind.holds_calls(condition, &subject.view.status),
                cause: if kind.is_singular() { String::new() } else { without_waits(&condition.message) },
            },
        };
        Some(Published { kind, obstacle, since: condition.last_transition_time.0 })
    });
    all.collect()
}

fn refused(quota: &str, subject: &Subject<'_>) -> Sight {
    let Verdict::Refused { reason, message, in_force } = subject.verdict else { return Sight::Clear };
    let waits = if in_force.is_none() { " Calls wait until then." } else { "" };
    let note = format!("{quota} is refused: {message}{waits}");
    let obstacle = Obstacle::new((*reason).into(), note, message.as_str());
    Sight::Stands(Obstacle { holds_calls: in_force.is_none(), ..obstacle })
}

fn limiter(quota: &str, subject: &Subject<'_>) -> Sight {
    match subject.limiter {
        Limiter::Unknown => Sight::Unknown,
        Limiter::Connected { .. } => Sight::Clear,
        Limiter::Lost { since, replaced, .. } => {
            let note = format!("{quota}: {}", limiter_is_lost(since, replaced, subject));
            let obstacle = Obstacle::new(EventReason::LimiterUnavailable, note, "");
            // An ordinary upgrade of the limiter is over before a client gives up: its absence is told at the quota
            // alone.
            Sight::Stands(Obstacle { holds_calls: !replaced, ..obstacle })
        }
    }
}

fn not_applied(quota: &str, subject: &Subject<'_>) -> Sight {
    if matches!(subject.verdict, Verdict::Refused { in_force: None, .. }) {
        return Sight::Clear;
    }
    // Without a report it is not known whether calls wait.
    let Limiter::Connected { account, .. } = subject.limiter else { return Sight::Unknown };
    let waits = subject.has_nothing_in_force();
    let stands = |reason, message: String| {
        let obstacle = Obstacle::new(reason, format!("{quota}: {message}"), without_waits(&message));
        Sight::Stands(Obstacle { holds_calls: waits, ..obstacle })
    };
    if let Some(why) = subject.unwritten {
        return stands(EventReason::NotWritten, words::unwritten(why, subject.namespace, waits));
    }
    match account.and_then(|report| report.problem.as_ref()) {
        Some(problem) => stands(EventReason::Refused, words::inapplicable(problem, waits)),
        None => Sight::Clear,
    }
}

/// Whether calls wait depends on the limiter's report: the cause is the same.
fn without_waits(message: &str) -> String {
    message.strip_suffix(words::CALLS_WAIT).unwrap_or(message).to_owned()
}

/// As the status in the cluster says: there it is decided which budget it is.
fn exhausted(quota: &str, subject: &Subject<'_>) -> Sight {
    of_budget(subject, reasons::BUDGET_EXHAUSTED, &[], |condition| {
        let limits = subject.view.status.limits.iter();
        let used_up = limits.filter(|limit| limit.remaining == Some(0));
        let free = used_up.filter_map(|limit| limit.reset_time.as_ref()).map(|time| time.0).max();
        let free = free.map(|at| format!(" It is free again by {}.", words::until_utc(at, subject.now)));
        let remedy = "Calls wait or are refused until then; a higher tier or fewer calls help.";
        let note = format!("{quota}: {}{} {remedy}", condition.message, free.unwrap_or_default());
        Obstacle::new(EventReason::BudgetExhausted, note, condition.message.as_str())
    })
}

fn not_stored(quota: &str, subject: &Subject<'_>) -> Sight {
    of_budget(subject, reasons::CHECKPOINTS_UNAVAILABLE, &[reasons::USAGE_UNKNOWN], |condition| {
        let note = format!("{quota}: {}", condition.message);
        let obstacle = Obstacle::new(EventReason::CheckpointsUnavailable, note, "");
        Obstacle { holds_calls: condition.status == TRUE, ..obstacle }
    })
}

fn usage_unknown(quota: &str, subject: &Subject<'_>) -> Sight {
    of_budget(subject, reasons::USAGE_UNKNOWN, &[reasons::BUDGET_EXHAUSTED], |condition| {
        let note = format!("{quota}: {}", condition.message);
        Obstacle::new(EventReason::UsageUnknown, note, "")
    })
}

/// What the condition `Throttled` says of a budget with this reason. Those of its reasons that are decided before say
/// nothing of it; `other` are those that deny it.
fn of_budget(
    subject: &Subject<'_>,
    reason: &str,
    other: &[&str],
    obstacle: impl FnOnce(&Condition) -> Obstacle,
) -> Sight {
    const FREE: [&str; 4] =
        [reasons::QUEUEING, reasons::NOT_THROTTLED, reasons::GATE_OPEN, reasons::DISABLED];
    let throttled = find(&subject.view.status.conditions, types::THROTTLED);
    let Some(throttled) = throttled.filter(|_| subject.report().is_some()) else { return Sight::Unknown };
    match throttled.reason.as_str() {
        stands if stands == reason => Sight::Stands(obstacle(throttled)),
        free if FREE.contains(&free) || other.contains(&free) => Sight::Clear,
        _ => Sight::Unknown,
    }
}
