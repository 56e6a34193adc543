//! The conditions of a quota, each with a reason and a whole sentence.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use quotakeeper_api::quota::{ApiQuotaStatus, WaitingStatus};
use quotakeeper_engine::{LearnedConcurrency, PauseStatus};
use quotakeeper_wire::gate;
use quotakeeper_wire::status::ActiveLimiter;
use quotakeeper_wire::tier::{LearnedTier, UndeclaredTier};

use super::figures::Figures;
use super::past::{self, Past};
use super::state::{Inputs, State};
use super::words::{self, clipped, coarse, counted, longest, plural, until_utc};
use super::{Limiter, Subject};
use crate::conditions::{FALSE, TRUE, UNKNOWN, reasons, types};
use crate::reconcile::Verdict;

/// Kubernetes' bound of a condition's message.
const LONGEST_MESSAGE: usize = 32_000;

/// A condition without the time of its last transition.
#[derive(Clone, Debug)]
struct Draft {
    type_: &'static str,
    status: &'static str,
    reason: String,
    message: String,
    /// It depends on the limiter's report: until a new leader has one, the condition stays as it was.
    from_report: bool,
}

/// All conditions of a quota.
#[derive(Debug)]
pub(super) struct Conditions {
    drafts: Vec<Draft>,
    no_report_yet: bool,
}

impl Conditions {
    pub(super) fn of(
        subject: &Subject<'_>,
        inputs: &Inputs,
        figures: &Figures<'_>,
        waiting: Option<&WaitingStatus>,
    ) -> Conditions {
        let mut drafts = vec![
            accepted(subject),
            programmed(subject),
            limiter_available(subject),
            provider_available(subject),
            limits_in_sync(subject, figures),
            usage_known(subject, figures),
            throttled(subject, State::of_calls(inputs), figures, waiting),
        ];
        drafts.push(ready(&drafts));
        Conditions { drafts, no_report_yet: matches!(subject.limiter, Limiter::Unknown) }
    }

    /// With the times of their last transitions.
    pub(super) fn list(self, before: &ApiQuotaStatus, generation: i64, now: Timestamp) -> Vec<Condition> {
        let unchanged = self.no_report_yet && before.observed_generation == Some(generation);
        let mut list: Vec<Condition> = Vec::new();
        for mut draft in self.drafts {
            let known = before.conditions.iter().find(|known| known.type_ == draft.type_);
            if let Some(known) = known.filter(|_| unchanged && draft.from_report) {
                list.push(known.clone());
                continue;
            }
            if draft.type_ == types::READY && unchanged {
                draft = ready(&list);
            }
            let since = known
                .filter(|known| known.status == draft.status)
                .map(|known| known.last_transition_time.clone());
            list.push(Condition {
                type_: draft.type_.to_owned(),
                status: draft.status.to_owned(),
                reason: draft.reason,
                message: clipped(&draft.message, LONGEST_MESSAGE),
                observed_generation: Some(generation),
                // The API server stores times in whole seconds.
                last_transition_time: since
                    .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            });
        }
        list
    }
}

/// A condition that the operator decides by itself.
fn draft(type_: &'static str, status: &'static str, reason: &str, message: impl Into<String>) -> Draft {
    Draft { type_, status, reason: reason.to_owned(), message: message.into(), from_report: false }
}

/// A condition that depends on the limiter's report.
fn reported(type_: &'static str, status: &'static str, reason: &str, message: impl Into<String>) -> Draft {
    Draft { from_report: true, ..draft(type_, status, reason, message) }
}

fn accepted(subject: &Subject<'_>) -> Draft {
    match subject.verdict {
        Verdict::Refused { reason, message, .. } => draft(types::ACCEPTED, FALSE, reason.word(), message),
        Verdict::Accepted(account) => {
            let tier =
                if account.tier.is_empty() { String::new() } else { format!(", tier {}", account.tier) };
            let sentence = format!("The quota is compiled with provider {}{tier}", account.provider());
            let warnings: String = account.warnings.iter().map(|it| format!(" Beware: {it}.")).collect();
            if account.not_enforced.is_empty() {
                return draft(types::ACCEPTED, TRUE, reasons::ACCEPTED, format!("{sentence}.{warnings}"));
            }
            let left = account.not_enforced.join(", ");
            let message = format!("{sentence}; this version does not enforce its limits {left}.{warnings}");
            draft(types::ACCEPTED, TRUE, reasons::PARTLY_ENFORCED, message)
        }
    }
}

fn programmed(subject: &Subject<'_>) -> Draft {
    const TYPE: &str = types::PROGRAMMED;
    let generation = subject.view.generation;
    if let Verdict::Refused { in_force, .. } = subject.verdict {
        let stays = in_force.as_ref().map_or("nothing is in force".to_owned(), |account| {
            format!("generation {} stays in force", account.generation)
        });
        let message = format!("Generation {generation} is not accepted; {stays}.");
        return draft(TYPE, FALSE, reasons::NOT_ACCEPTED, message);
    }
    if let Some(why) = subject.unwritten {
        return draft(
            TYPE,
            FALSE,
            reasons::NOT_WRITTEN,
            words::unwritten(why, subject.namespace, subject.has_nothing_in_force()),
        );
    }
    let pending = || {
        reported(
            TYPE,
            FALSE,
            reasons::PENDING,
            format!("The limiter has not applied generation {generation} yet."),
        )
    };
    match subject.limiter {
        Limiter::Unknown => reported(TYPE, UNKNOWN, reasons::PENDING, "The limiter has not reported yet."),
        Limiter::Lost { .. } => {
            reported(TYPE, UNKNOWN, reasons::LIMITER_UNAVAILABLE, "The limiter does not report.")
        }
        Limiter::Connected { account: None, .. } => pending(),
        Limiter::Connected { account: Some(report), .. } => match &report.problem {
            Some(problem) => reported(
                TYPE,
                FALSE,
                reasons::REFUSED,
                words::inapplicable(problem, subject.has_nothing_in_force()),
            ),
            None if report.generation == u64::try_from(generation).ok() => reported(
                TYPE,
                TRUE,
                reasons::PROGRAMMED,
                format!("The limiter enforces generation {generation}."),
            ),
            None => pending(),
        },
    }
}

fn limiter_available(subject: &Subject<'_>) -> Draft {
    const TYPE: &str = types::LIMITER_AVAILABLE;
    match subject.limiter {
        Limiter::Connected { active: None, .. } => {
            reported(TYPE, TRUE, reasons::CONNECTED, "The limiter reports to the operator.")
        }
        Limiter::Connected { active: Some(ActiveLimiter { name, since, began }), .. } => {
            let sentence =
                format!("The limiter {name} reports to the operator. It is active since {since} ({began}).");
            reported(TYPE, TRUE, reasons::CONNECTED, sentence)
        }
        Limiter::Unknown => reported(TYPE, UNKNOWN, reasons::CONNECTING, "The limiter has not reported yet."),
        Limiter::Lost { since, replaced, .. } => {
            let reason = if replaced { reasons::BEING_REPLACED } else { reasons::NOT_REPORTING };
            reported(TYPE, FALSE, reason, limiter_is_lost(since, replaced, subject))
        }
    }
}

/// Since when the limiter is silent, and what to do; `replaced`: its pod is being replaced.
pub(crate) fn limiter_is_lost(since: Timestamp, replaced: bool, subject: &Subject<'_>) -> String {
    let since = words::since_utc(since, subject.now);
    let namespace = subject.namespace;
    match replaced {
        false => format!(
            "The limiter has not reported since {since}, and calls wait until it is back; look at it with `kubectl get pods -n {namespace}`."
        ),
        true => format!(
            "The limiter's pod is being replaced, as in an upgrade. It has not reported since {since}, and calls wait until it is back; if that takes more than a minute, look at it with `kubectl get pods -n {namespace}`."
        ),
    }
}

/// That the gate is open, and how it is closed.
pub(crate) fn gate_is_open(until: Timestamp, subject: &Subject<'_>) -> String {
    format!(
        "The gate is open until {}: the calls of all workloads pass at once, whatever the limits. To close it now: kubectl -n {} delete configmap {}.",
        until_utc(until, subject.now),
        subject.namespace,
        gate::NAME
    )
}

fn provider_available(subject: &Subject<'_>) -> Draft {
    const TYPE: &str = types::PROVIDER_AVAILABLE;
    match (subject.report(), subject.stopped()) {
        (None, _) => reported(
            TYPE,
            UNKNOWN,
            reasons::UNKNOWN,
            "There is no report of the provider: the limiter does not report.",
        ),
        (Some(_), Some(stopped)) => {
            let message = format!(
                "The provider refuses {}{} until a person acts: {}; see to the account. {}",
                stopped.scope,
                stopped.callers,
                stopped.reason,
                asks_again(stopped)
            );
            reported(TYPE, FALSE, reasons::STOPPED, message)
        }
        (Some(_), None) => match subject.overloaded() {
            Some(pause) => {
                let message = format!(
                    "The provider says that it is overloaded ({}); paused: {}, until a call succeeds again.",
                    pause.reason, pause.scope
                );
                reported(TYPE, FALSE, reasons::OVERLOADED, message)
            }
            None => reported(
                TYPE,
                TRUE,
                reasons::AVAILABLE,
                "No answer of the provider says that it is unavailable.",
            ),
        },
    }
}

/// When a stopped provider is asked again. Coarse: the condition is written anew whenever it changes.
fn asks_again(stopped: &PauseStatus) -> String {
    match stopped.remaining.as_secs() {
        0 => "The next call asks again.".to_owned(),
        seconds => format!("One call asks again in {}.", longest(coarse(seconds))),
    }
}

fn limits_in_sync(subject: &Subject<'_>, figures: &Figures<'_>) -> Draft {
    const TYPE: &str = types::LIMITS_IN_SYNC;
    if subject.report().is_none() {
        return reported(
            TYPE,
            UNKNOWN,
            reasons::UNKNOWN,
            "There is no report of the provider's limits: the limiter does not report.",
        );
    }
    let lowered = figures.lowered();
    let learned = learned_concurrency(subject);
    if let Some((undeclared, tier)) = undeclared_tier(subject).filter(|_| lowered.is_empty()) {
        return match tier.and_then(LearnedTier::sentence) {
            Some(sentence) => {
                let message = format!("No tier is declared; {sentence}.{learned}");
                reported(TYPE, TRUE, reasons::TIER_LEARNED, message)
            }
            None => {
                let message = format!("{}.{learned}", capitalized(&undeclared.question()));
                reported(TYPE, UNKNOWN, reasons::TIER_UNKNOWN, message)
            }
        };
    }
    if lowered.is_empty() {
        let message = format!("No answer of the provider contradicts the declared limits.{learned}");
        return reported(TYPE, TRUE, reasons::IN_SYNC, message);
    }
    let list: Vec<String> = lowered
        .into_iter()
        .map(|(name, reported, declared)| format!("{name} ({reported}, not {declared})"))
        .collect();
    let message = format!(
        "The provider reports lower limits than are declared, and they are enforced: {}; correct the tier or `limits`.{learned}",
        list.join(", ")
    );
    reported(TYPE, FALSE, reasons::LOWER_LIMITS, message)
}

fn usage_known(subject: &Subject<'_>, figures: &Figures<'_>) -> Draft {
    const TYPE: &str = types::USAGE_KNOWN;
    let Some(report) = subject.report() else {
        let message = "There is no report of what is used: the limiter does not report.";
        return reported(TYPE, UNKNOWN, reasons::UNKNOWN, message);
    };
    let Past { known, reason, message } = past::of(subject, report, figures);
    reported(TYPE, if known { TRUE } else { FALSE }, reason, message)
}

/// The tiers of a quota that declares none, and what is known of them.
fn undeclared_tier<'a>(subject: &Subject<'a>) -> Option<(&'a UndeclaredTier, Option<&'a LearnedTier>)> {
    Some((subject.account()?.undeclared.as_ref()?, subject.learned()))
}

fn capitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// How many calls the provider takes at the same time, as its rejections show: of a few scopes, the others are alike.
fn learned_concurrency(subject: &Subject<'_>) -> String {
    let learned = subject.report().map(|report| report.status.concurrency.as_slice()).unwrap_or_default();
    let words = |learned: &LearnedConcurrency| format!("about {} of {}", learned.calls, learned.scope);
    let words: Vec<String> = learned.iter().take(3).map(words).collect();
    if words.is_empty() {
        return String::new();
    }
    clipped(&format!(" Calls that it takes at the same time: {}.", words.join(", ")), 512)
}

fn throttled(
    subject: &Subject<'_>,
    state: State,
    figures: &Figures<'_>,
    waiting: Option<&WaitingStatus>,
) -> Draft {
    const TYPE: &str = types::THROTTLED;
    if subject.report().is_none() {
        return reported(
            TYPE,
            UNKNOWN,
            reasons::UNKNOWN,
            "There is no report of waiting calls: the limiter does not report.",
        );
    }
    let status = match state {
        State::GateOpen | State::Disabled => FALSE,
        // What the last checkpoint covers may not be used up yet.
        State::CheckpointsUnavailable if !subject.queueing() => FALSE,
        _ => TRUE,
    };
    let some = subject.pause_of_some().map(|pause| {
        let (reason, scope, callers) = (&pause.reason, &pause.scope, &pause.callers);
        format!(" The provider has rejected some calls ({reason}); paused: {scope}{callers}.")
    });
    let some = some.unwrap_or_default();
    match holdup(subject, state, figures, waiting) {
        Some(message) => reported(TYPE, status, state.word(None), message + &some),
        None => {
            let message = format!("Calls pass without a noticeable wait.{some}");
            reported(TYPE, FALSE, reasons::NOT_THROTTLED, message)
        }
    }
}

/// What keeps calls from going, or lets all of them pass, as a sentence; none: they take their turns without a
/// noticeable wait.
pub(super) fn holdup(
    subject: &Subject<'_>,
    state: State,
    figures: &Figures<'_>,
    waiting: Option<&WaitingStatus>,
) -> Option<String> {
    Some(match state {
        State::GateOpen => gate_is_open(subject.gate_open_until()?, subject),
        State::Disabled => "The quota is disabled: calls pass at once.".to_owned(),
        State::ProviderStopped => {
            let stopped = subject.stopped_all()?;
            format!("The provider refuses {}: {}. {}", stopped.scope, stopped.reason, asks_again(stopped))
        }
        State::ProviderOverloaded => {
            let pause = subject.pause()?;
            format!("The provider is overloaded ({}); paused: {}.", pause.reason, pause.scope)
        }
        State::PausedByHand => {
            let pause = subject.pause()?;
            format!("A person has paused {}; `kubectl apiquota resume` ends it.", pause.scope)
        }
        State::ProviderPaused => {
            let pause = subject.pause()?;
            format!("The provider has rejected calls ({}); paused: {}.", pause.reason, pause.scope)
        }
        State::BudgetExhausted => figures.exhausted()?.exhausted_words(),
        State::CheckpointsUnavailable => {
            words::not_stored(&figures.long_windows(), subject.checkpoint_problem()?, subject.namespace)
        }
        State::UsageUnknown => past::closed(subject, figures)?,
        State::Queueing => {
            let waiting = waiting.filter(|waiting| waiting.calls > 0);
            let waiting = waiting.cloned().unwrap_or_default();
            let (calls, workloads) = (i64::from(waiting.calls), i64::from(waiting.workloads));
            format!(
                "{} of {} {}, longest {}.",
                counted(calls, "call"),
                counted(workloads, "workload"),
                plural(calls, "waits", "wait"),
                longest(waiting.longest_seconds)
            )
        }
        _ => return None,
    })
}

/// What `Ready` is derived from: conditions as drafts, or as they stay.
trait Holds {
    fn holds(&self) -> (&str, bool, &str, &str);
}

impl Holds for Draft {
    fn holds(&self) -> (&str, bool, &str, &str) {
        (self.type_, self.status == TRUE, &self.reason, &self.message)
    }
}

impl Holds for Condition {
    fn holds(&self) -> (&str, bool, &str, &str) {
        (&self.type_, self.status == TRUE, &self.reason, &self.message)
    }
}

fn ready(others: &[impl Holds]) -> Draft {
    // LimiterAvailable comes before Programmed, which is unknown without the limiter.
    let needed = [types::ACCEPTED, types::LIMITER_AVAILABLE, types::PROGRAMMED];
    let of = |type_: &&str| others.iter().map(Holds::holds).find(|(other, ..)| other == type_);
    let failed = needed.iter().filter_map(of).find(|(_, holds, ..)| !holds);
    let failed =
        failed.or_else(|| of(&types::THROTTLED).filter(|(_, _, reason, _)| *reason == reasons::GATE_OPEN));
    match failed {
        None => {
            draft(types::READY, TRUE, reasons::READY, "The quota is accepted, and the limiter enforces it.")
        }
        Some((_, _, reason, message)) => draft(types::READY, FALSE, reason, message),
    }
}
