//! The conditions of a quota, each with a reason and a whole sentence.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use quotakeeper_api::quota::{ApiQuotaStatus, WaitingStatus};
use quotakeeper_wire::gate;

use super::figures::Figures;
use super::words::{clipped, counted, longest, plural, until};
use super::{Limiter, Subject};
use crate::conditions::{FALSE, TRUE, UNKNOWN, reasons, types};
use crate::reconcile::Verdict;

/// Kubernetes' bound of a condition's message.
const LONGEST_MESSAGE: usize = 32_000;

/// One condition, before it is known since when it holds.
#[derive(Clone, Debug)]
struct Said {
    type_: &'static str,
    status: &'static str,
    reason: String,
    message: String,
    /// Told by the limiter: what was said before stays while it is not heard.
    told: bool,
}

/// All conditions of a quota.
#[derive(Debug)]
pub(super) struct Conditions {
    said: Vec<Said>,
    unheard: bool,
}

impl Conditions {
    pub(super) fn of(
        subject: &Subject<'_>,
        figures: &Figures<'_>,
        waiting: Option<&WaitingStatus>,
    ) -> Conditions {
        let mut said = vec![
            accepted(subject),
            programmed(subject),
            limiter_available(subject),
            provider_available(subject),
            limits_in_sync(subject, figures),
            throttled(subject, figures, waiting),
        ];
        said.push(ready(&said));
        Conditions { said, unheard: matches!(subject.limiter, Limiter::Unknown) }
    }

    /// With the times of their last transitions.
    pub(super) fn list(self, before: &ApiQuotaStatus, generation: i64, now: Timestamp) -> Vec<Condition> {
        let unheard = self.unheard && before.observed_generation == Some(generation);
        let mut list: Vec<Condition> = Vec::new();
        for mut said in self.said {
            let known = before.conditions.iter().find(|known| known.type_ == said.type_);
            if let Some(known) = known.filter(|_| unheard && said.told) {
                list.push(known.clone());
                continue;
            }
            if said.type_ == types::READY && unheard {
                said = ready(&list);
            }
            let since = known
                .filter(|known| known.status == said.status)
                .map(|known| known.last_transition_time.clone());
            list.push(Condition {
                type_: said.type_.to_owned(),
                status: said.status.to_owned(),
                reason: said.reason,
                message: clipped(&said.message, LONGEST_MESSAGE),
                observed_generation: Some(generation),
                // Whole seconds: the API server keeps no more of a time.
                last_transition_time: since
                    .unwrap_or_else(|| Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
            });
        }
        list
    }
}

fn said(type_: &'static str, status: &'static str, reason: &str, message: impl Into<String>) -> Said {
    Said { type_, status, reason: reason.to_owned(), message: message.into(), told: false }
}

fn told(type_: &'static str, status: &'static str, reason: &str, message: impl Into<String>) -> Said {
    Said { told: true, ..said(type_, status, reason, message) }
}

fn accepted(subject: &Subject<'_>) -> Said {
    match subject.verdict {
        Verdict::Refused { reason, message, .. } => said(types::ACCEPTED, FALSE, reason.word(), message),
        Verdict::Accepted(account) => {
            let tier =
                if account.tier.is_empty() { String::new() } else { format!(", tier {}", account.tier) };
            let sentence = format!("The quota is compiled with provider {}{tier}", account.provider());
            if account.not_enforced.is_empty() {
                return said(types::ACCEPTED, TRUE, reasons::ACCEPTED, format!("{sentence}."));
            }
            let left = account.not_enforced.join(", ");
            let message = format!("{sentence}; this version does not enforce its limits {left}.");
            said(types::ACCEPTED, TRUE, reasons::PARTLY_ENFORCED, message)
        }
    }
}

fn programmed(subject: &Subject<'_>) -> Said {
    const TYPE: &str = types::PROGRAMMED;
    let generation = subject.view.generation;
    if let Verdict::Refused { in_force, .. } = subject.verdict {
        let stays = in_force.as_ref().map_or("nothing is in force".to_owned(), |account| {
            format!("generation {} stays in force", account.generation)
        });
        let message = format!("Generation {generation} is not accepted; {stays}.");
        return said(TYPE, FALSE, reasons::NOT_ACCEPTED, message);
    }
    if let Some(why) = subject.unwritten {
        return said(
            TYPE,
            FALSE,
            reasons::NOT_WRITTEN,
            format!("The limiter's configuration can't be written: {why}."),
        );
    }
    let pending = || {
        told(TYPE, FALSE, reasons::PENDING, format!("The limiter has not taken generation {generation} yet."))
    };
    match subject.limiter {
        Limiter::Unknown => told(TYPE, UNKNOWN, reasons::PENDING, "The limiter has not been heard yet."),
        Limiter::Lost => told(TYPE, UNKNOWN, reasons::LIMITER_UNAVAILABLE, "The limiter is not heard."),
        Limiter::Connected { account: None, .. } => pending(),
        Limiter::Connected { account: Some(report), .. } => match &report.problem {
            Some(problem) => {
                told(TYPE, FALSE, reasons::REFUSED, format!("The limiter can't take it: {problem}."))
            }
            None if report.generation == u64::try_from(generation).ok() => told(
                TYPE,
                TRUE,
                reasons::PROGRAMMED,
                format!("The limiter enforces generation {generation}."),
            ),
            None => pending(),
        },
    }
}

fn limiter_available(subject: &Subject<'_>) -> Said {
    const TYPE: &str = types::LIMITER_AVAILABLE;
    match subject.limiter {
        Limiter::Connected { .. } => {
            told(TYPE, TRUE, reasons::CONNECTED, "The limiter reports to the operator.")
        }
        Limiter::Unknown => told(TYPE, UNKNOWN, reasons::CONNECTING, "The limiter has not been heard yet."),
        Limiter::Lost => {
            let message = format!(
                "The limiter has not been heard for a minute, and new calls wait; look at it with `kubectl get pods -n {}`.",
                subject.namespace
            );
            told(TYPE, FALSE, reasons::NOT_HEARD, message)
        }
    }
}

fn provider_available(subject: &Subject<'_>) -> Said {
    const TYPE: &str = types::PROVIDER_AVAILABLE;
    match (subject.report(), subject.stopped()) {
        (None, _) => told(TYPE, UNKNOWN, reasons::UNKNOWN, "The limiter tells nothing of the provider."),
        (Some(_), Some(stopped)) => {
            let message = format!(
                "The provider refuses {} until a person acts: {}; see to the account, then call again.",
                stopped.scope, stopped.reason
            );
            told(TYPE, FALSE, reasons::STOPPED, message)
        }
        (Some(_), None) => match subject.overloaded() {
            Some(pause) => {
                let message = format!(
                    "The provider says that it is overloaded ({}); paused: {}, until a call is taken again.",
                    pause.reason, pause.scope
                );
                told(TYPE, FALSE, reasons::OVERLOADED, message)
            }
            None => {
                told(TYPE, TRUE, reasons::AVAILABLE, "No answer of the provider says that it is unavailable.")
            }
        },
    }
}

fn limits_in_sync(subject: &Subject<'_>, figures: &Figures<'_>) -> Said {
    const TYPE: &str = types::LIMITS_IN_SYNC;
    if subject.report().is_none() {
        return told(TYPE, UNKNOWN, reasons::UNKNOWN, "The limiter tells nothing of the provider's limits.");
    }
    let lowered = figures.lowered();
    if lowered.is_empty() {
        return told(
            TYPE,
            TRUE,
            reasons::IN_SYNC,
            "No answer of the provider contradicts the declared limits.",
        );
    }
    let list: Vec<String> = lowered
        .into_iter()
        .map(|(name, told, declared)| format!("{name} ({told}, not {declared})"))
        .collect();
    let message = format!(
        "The provider tells lower limits than are declared, and they are kept: {}; correct the tier or `limits`.",
        list.join(", ")
    );
    told(TYPE, FALSE, reasons::LOWER_TOLD, message)
}

fn throttled(subject: &Subject<'_>, figures: &Figures<'_>, waiting: Option<&WaitingStatus>) -> Said {
    const TYPE: &str = types::THROTTLED;
    if subject.report().is_none() {
        return told(TYPE, UNKNOWN, reasons::UNKNOWN, "The limiter tells nothing of waiting calls.");
    }
    if let Some(closes) = subject.gate_open_until() {
        let message = format!(
            "The gate is open until {} UTC: the calls of all workloads pass at once, whatever the limits. To close it now: kubectl -n {} delete configmap {}.",
            until(closes, subject.now),
            subject.namespace,
            gate::NAME
        );
        return told(TYPE, FALSE, reasons::GATE_OPEN, message);
    }
    if subject.disabled() {
        return told(TYPE, FALSE, reasons::DISABLED, "The quota is disabled: calls pass at once.");
    }
    if let Some(stopped) = subject.stopped() {
        let message = format!("The provider refuses {}: {}.", stopped.scope, stopped.reason);
        return told(TYPE, TRUE, reasons::SPEND_CAP_REACHED, message);
    }
    if let Some(pause) = subject.pause() {
        let message = format!("The provider has rejected calls ({}); paused: {}.", pause.reason, pause.scope);
        return told(TYPE, TRUE, reasons::PROVIDER_PAUSED, message);
    }
    if let Some(spent) = figures.exhausted() {
        let message = format!("All of {} is used.", spent.config.name);
        return told(TYPE, TRUE, reasons::BUDGET_EXHAUSTED, message);
    }
    match waiting.filter(|waiting| subject.queueing && waiting.calls > 0) {
        Some(waiting) => {
            let (calls, workloads) = (i64::from(waiting.calls), i64::from(waiting.workloads));
            let message = format!(
                "{} of {} {}, longest {}.",
                counted(calls, "call"),
                counted(workloads, "workload"),
                plural(calls, "waits", "wait"),
                longest(waiting.longest_seconds)
            );
            told(TYPE, TRUE, reasons::QUEUEING, message)
        }
        None => told(TYPE, FALSE, reasons::NOT_THROTTLED, "Calls pass without a wait to speak of."),
    }
}

/// A condition that another is made of.
trait Holds {
    fn holds(&self) -> (&str, bool, &str, &str);
}

impl Holds for Said {
    fn holds(&self) -> (&str, bool, &str, &str) {
        (self.type_, self.status == TRUE, &self.reason, &self.message)
    }
}

impl Holds for Condition {
    fn holds(&self) -> (&str, bool, &str, &str) {
        (&self.type_, self.status == TRUE, &self.reason, &self.message)
    }
}

fn ready(others: &[impl Holds]) -> Said {
    // The limiter before what it has taken: what it has taken can't be told without it.
    let needed = [types::ACCEPTED, types::LIMITER_AVAILABLE, types::PROGRAMMED];
    let of = |type_: &&str| others.iter().map(Holds::holds).find(|(other, ..)| other == type_);
    let failed = needed.iter().filter_map(of).find(|(_, holds, ..)| !holds);
    let failed =
        failed.or_else(|| of(&types::THROTTLED).filter(|(_, _, reason, _)| *reason == reasons::GATE_OPEN));
    match failed {
        None => {
            said(types::READY, TRUE, reasons::READY, "The quota is accepted, and the limiter enforces it.")
        }
        Some((_, _, reason, message)) => said(types::READY, FALSE, reason, message),
    }
}
