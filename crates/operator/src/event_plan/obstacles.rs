//! What keeps all calls of a quota from going, apart from pauses and waits: each with the remedy.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::conditions::{FALSE, find, reasons, types, with_reason};
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
}

impl ObstacleKind {
    /// The condition that tells of it, if one does.
    fn condition(self, conditions: &[Condition]) -> Option<&Condition> {
        let with = |type_: &str, reason: &str| with_reason(conditions, type_, reason);
        match self {
            ObstacleKind::Refused => find(conditions, types::ACCEPTED).filter(|it| it.status == FALSE),
            ObstacleKind::Limiter => with(types::LIMITER_AVAILABLE, reasons::NOT_REPORTING),
            ObstacleKind::NotApplied => with(types::PROGRAMMED, reasons::NOT_WRITTEN)
                .or_else(|| with(types::PROGRAMMED, reasons::REFUSED)),
            ObstacleKind::Exhausted => with(types::THROTTLED, reasons::BUDGET_EXHAUSTED),
        }
    }

    /// Its reason, as far as it does not depend on more.
    fn reason(self) -> &'static str {
        match self {
            ObstacleKind::Refused => reasons::NOT_ACCEPTED,
            ObstacleKind::Limiter => reasons::LIMITER_UNAVAILABLE,
            ObstacleKind::NotApplied => reasons::NOT_WRITTEN,
            ObstacleKind::Exhausted => reasons::BUDGET_EXHAUSTED,
        }
    }

    /// What has happened when it is gone.
    pub(super) fn over(self) -> &'static str {
        match self {
            ObstacleKind::Refused => "its spec is accepted,",
            ObstacleKind::Limiter => "the limiter reports again,",
            ObstacleKind::NotApplied => "the limiter has applied its configuration,",
            ObstacleKind::Exhausted => "its budget has room again,",
        }
    }
}

/// An obstacle that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// Why, in one word: that of the state.
    pub(super) reason: &'static str,
    /// What is wrong and what to do.
    pub(super) note: String,
    /// Calls wait for it: their authors are told.
    pub(super) holds_calls: bool,
    /// Distinguishes it from others of its kind.
    cause: String,
}

impl Obstacle {
    fn new(reason: &'static str, note: String, cause: impl Into<String>) -> Obstacle {
        Obstacle { reason, note, holds_calls: true, cause: cause.into() }
    }

    /// Whether another of the same kind is no news.
    pub(super) fn is_same(&self, other: &Obstacle) -> bool {
        (self.reason, &self.cause, self.holds_calls) == (other.reason, &other.cause, other.holds_calls)
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

impl From<Option<Obstacle>> for Sight {
    fn from(obstacle: Option<Obstacle>) -> Sight {
        obstacle.map_or(Sight::Clear, Sight::Stands)
    }
}

/// All kinds, as they are seen now.
pub(super) fn sights(quota: &str, subject: &Subject<'_>) -> [(ObstacleKind, Sight); 4] {
    [
        (ObstacleKind::Refused, refused(quota, subject)),
        (ObstacleKind::Limiter, limiter(quota, subject)),
        (ObstacleKind::NotApplied, not_applied(quota, subject)),
        (ObstacleKind::Exhausted, exhausted(quota, subject)),
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
            Sight::Clear | Sight::Unknown => Obstacle {
                reason: kind.reason(),
                note: String::new(),
                holds_calls: kind != ObstacleKind::Refused || subject.view.status.limits.is_empty(),
                cause: if kind == ObstacleKind::Limiter { String::new() } else { condition.message.clone() },
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
    let obstacle = Obstacle::new(reason.word(), note, message.as_str());
    Sight::Stands(Obstacle { holds_calls: in_force.is_none(), ..obstacle })
}

fn limiter(quota: &str, subject: &Subject<'_>) -> Sight {
    match subject.limiter {
        Limiter::Unknown => Sight::Unknown,
        Limiter::Connected { .. } => Sight::Clear,
        Limiter::Lost { since, .. } => {
            let note = format!("{quota}: {}", limiter_is_lost(since, subject));
            Sight::Stands(Obstacle::new(reasons::LIMITER_UNAVAILABLE, note, ""))
        }
    }
}

fn not_applied(quota: &str, subject: &Subject<'_>) -> Sight {
    if matches!(subject.verdict, Verdict::Refused { .. }) {
        return Sight::Clear;
    }
    if let Some(why) = subject.unwritten {
        let note = format!("{quota}: the limiter's configuration can't be written: {why}");
        return Sight::Stands(Obstacle::new(reasons::NOT_WRITTEN, note, why));
    }
    let Limiter::Connected { account, .. } = subject.limiter else { return Sight::Unknown };
    let problem = account.and_then(|report| Some((report, report.problem.as_ref()?)));
    let obstacle = problem.map(|(report, problem)| {
        let waits = if report.generation.is_none() { "; calls wait until then" } else { "" };
        let note = format!("{quota}: the limiter can't apply its configuration: {problem}{waits}");
        let obstacle = Obstacle::new(reasons::REFUSED, note, problem.as_str());
        Obstacle { holds_calls: report.generation.is_none(), ..obstacle }
    });
    obstacle.into()
}

/// As the status in the cluster says: there it is decided which budget it is.
fn exhausted(quota: &str, subject: &Subject<'_>) -> Sight {
    if subject.report().is_none() {
        return Sight::Unknown;
    }
    let status = &subject.view.status;
    let spent = with_reason(&status.conditions, types::THROTTLED, reasons::BUDGET_EXHAUSTED);
    // Anything else that holds calls back is told first, and says nothing of budgets.
    let free = [reasons::QUEUEING, reasons::NOT_THROTTLED]
        .iter()
        .any(|reason| with_reason(&status.conditions, types::THROTTLED, reason).is_some());
    if spent.is_none() && !free {
        return Sight::Unknown;
    }
    let obstacle = spent.map(|condition| {
        let used_up = status.limits.iter().filter(|limit| limit.remaining == Some(0));
        let free = used_up.filter_map(|limit| limit.reset_time.as_ref()).map(|time| time.0).max();
        let free = free.map(|at| format!(" It is free again by {}.", words::until(at, subject.now)));
        let remedy = "Calls wait or are refused until then; a higher tier or fewer calls help.";
        let note = format!("{quota}: {}{} {remedy}", condition.message, free.unwrap_or_default());
        Obstacle::new(reasons::BUDGET_EXHAUSTED, note, condition.message.as_str())
    });
    obstacle.into()
}
