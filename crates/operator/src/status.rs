//! The status of a quota, from what is in force and what the limiter reports. Pure.
//!
//! Figures are coarse on purpose. [`write_policy`] decides whether a new status is written: that of an idle or
//! steady quota is not.

mod allocations;
mod budgets;
mod conditions;
mod figures;
mod past;
pub(crate) mod refusals;
pub mod state;
pub(crate) mod words;
pub mod write_policy;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quotakeeper_api::quota::{
    ApiQuota, ApiQuotaStatus, CheckpointStatus, ProxyStatus, StatusSummary, WaitingStatus,
};
use quotakeeper_engine::PauseStatus;
use quotakeeper_engine::config::{LimitConfig, Mode};
use quotakeeper_engine::event::Scope;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::status::{AccountReport, ActiveLimiter};
use quotakeeper_wire::tier::{LearnedTier, TierBasis};

pub(crate) use self::budgets::{BudgetUse, budgets};
use self::conditions::Conditions;
pub(crate) use self::conditions::{gate_is_open, limiter_is_lost};
use self::figures::Figures;
use self::refusals::Refusals;
use self::state::{Held, Inputs, State};
use self::words::{counted, longest, plural, until};
use crate::conditions::{TRUE, find, types};
use crate::reconcile::{QuotaView, Verdict};

/// The state of the limiter.
#[derive(Clone, Copy, Debug)]
pub enum Limiter<'a> {
    /// It has not reported to this leader yet: the status keeps what was reported before.
    Unknown,
    /// It reports.
    Connected {
        /// Of this quota's account; none: it has no such account.
        account: Option<&'a AccountReport>,
        /// Which one it is; none: it does not say.
        active: Option<&'a ActiveLimiter>,
        /// Until when every call passes, whatever the accounts say; none: the gate is closed.
        gate_open_until: Option<Timestamp>,
    },
    /// It reports no more, or has never reported to this leader.
    Lost {
        /// Since when.
        since: Timestamp,
        /// For how long: [`crate::limiter_view::LIMITER_TIMEOUT`] or more.
        silence: Duration,
        /// Its pod is being replaced, as in an upgrade.
        replaced: bool,
    },
}

/// What a status is derived from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The quota, with its present status.
    pub view: &'a QuotaView,
    /// Whether it is accepted.
    pub verdict: &'a Verdict,
    /// Why its configuration could not be written.
    pub unwritten: Option<&'a str>,
    /// The limiter.
    pub limiter: Limiter<'a>,
    /// How long ago calls were last seen that had waited for more than a moment.
    pub long_wait_ago: Option<Duration>,
    /// The calls that were refused of late.
    pub refusals: Option<Refusals>,
    /// Pods that request it and have no proxy.
    pub not_injected: u32,
    /// The namespace of operator and limiter.
    pub namespace: &'a str,
    /// The time of day.
    pub now: Timestamp,
}

impl<'a> Subject<'a> {
    fn quota(&self) -> Option<&'a ApiQuota> {
        self.view.quota.as_deref().ok()
    }

    fn account(&self) -> Option<&'a CompiledAccount> {
        self.verdict.account().map(|account| &**account)
    }

    /// The limits in force: as the quota declares them, or as the limiter has learned them.
    fn limits(&self) -> &'a [LimitConfig] {
        let learned = self.learned().map(|learned| learned.limits.as_slice());
        let declared = self.account().map(|account| account.engine.limits.as_slice());
        learned.or(declared).unwrap_or_default()
    }

    /// What is known of the limits, where the quota declares no tier.
    fn learned(&self) -> Option<&'a LearnedTier> {
        let undeclared = self.account().is_some_and(|account| account.undeclared.is_some());
        self.report().filter(|_| undeclared)?.learned.as_ref()
    }

    pub(crate) fn report(&self) -> Option<&'a AccountReport> {
        match self.limiter {
            Limiter::Connected { account, .. } => account,
            Limiter::Unknown | Limiter::Lost { .. } => None,
        }
    }

    /// The limiter reports, and no generation of the quota is in force: calls wait.
    pub(crate) fn has_nothing_in_force(&self) -> bool {
        match self.limiter {
            Limiter::Connected { account, .. } => account.is_none_or(|report| report.generation.is_none()),
            Limiter::Unknown | Limiter::Lost { .. } => false,
        }
    }

    /// Why no checkpoint of its account can be read or stored.
    fn checkpoint_problem(&self) -> Option<&'a str> {
        let checkpoint = self.report()?.checkpoint.as_ref().filter(|it| it.failing)?;
        Some(checkpoint.problem.as_deref().unwrap_or("the limiter's log says why"))
    }

    fn gate_open_until(&self) -> Option<Timestamp> {
        match self.limiter {
            Limiter::Connected { gate_open_until, .. } => gate_open_until,
            Limiter::Unknown | Limiter::Lost { .. } => None,
        }
    }

    fn disabled(&self) -> bool {
        self.report().map(|report| report.mode).or(self.account().map(|account| account.engine.mode))
            == Some(Mode::Disabled)
    }

    /// The pause that holds every call back the longest.
    pub(crate) fn pause(&self) -> Option<&'a PauseStatus> {
        let held = self
            .report()?
            .status
            .pauses
            .iter()
            .filter(|pause| !pause.stopped && pause.callers.is_all() && self.holds_all(&pause.scope));
        held.max_by_key(|pause| pause.remaining)
    }

    /// The calls that the provider refuses until a person acts: everyone's if there are such.
    fn stopped(&self) -> Option<&'a PauseStatus> {
        let stopped = self.report()?.status.pauses.iter().filter(|pause| pause.stopped);
        stopped.max_by_key(|pause| (pause.callers.is_all(), pause.remaining))
    }

    /// … where that holds every call back.
    pub(crate) fn stopped_all(&self) -> Option<&'a PauseStatus> {
        self.stopped().filter(|pause| pause.callers.is_all())
    }

    /// What the provider has said that holds every call back.
    fn held(&self) -> Option<Held> {
        match (self.stopped_all(), self.pause()) {
            (_, Some(pause)) if pause.by_hand => Some(Held::ByHand),
            (Some(_), _) => Some(Held::Stopped),
            (None, Some(pause)) if pause.overloaded => Some(Held::Overloaded),
            (None, pause) => pause.map(|_| Held::Paused),
        }
    }

    /// Calls wait for more than a moment.
    fn queueing(&self) -> bool {
        state::queueing(self.long_wait_ago)
    }

    /// The pause, of any calls, because the provider is overloaded.
    fn overloaded(&self) -> Option<&'a PauseStatus> {
        self.report()?.status.pauses.iter().find(|pause| pause.overloaded)
    }

    /// The longest pause that holds the calls of one workload or credential alone.
    fn pause_of_some(&self) -> Option<&'a PauseStatus> {
        let pauses = self.report()?.status.pauses.iter();
        pauses.filter(|pause| !pause.stopped && !pause.callers.is_all()).max_by_key(|pause| pause.remaining)
    }

    fn holds_all(&self, scope: &Scope) -> bool {
        let covers_all =
            |limit: &LimitConfig| limit.endpoint.is_none() && limit.models.is_empty() && !limit.per_model;
        let limit =
            scope.limit.as_ref().and_then(|name| self.limits().iter().find(|limit| limit.name == *name));
        scope.endpoint.is_any() && scope.model.is_any() && limit.is_none_or(covers_all)
    }
}

/// What the state of a quota is decided from.
fn inputs(subject: &Subject<'_>, figures: &Figures<'_>) -> Inputs {
    let report = subject.report();
    let acknowledged = report.and_then(|report| report.generation);
    Inputs {
        deleting: subject.view.deleting,
        refused: match subject.verdict {
            Verdict::Refused { reason, .. } => Some(*reason),
            Verdict::Accepted(_) => None,
        },
        silence: match subject.limiter {
            Limiter::Lost { silence, .. } => silence,
            Limiter::Unknown | Limiter::Connected { .. } => Duration::ZERO,
        },
        heard: matches!(subject.limiter, Limiter::Connected { .. }),
        unwritten: subject.unwritten.is_some(),
        inapplicable: report.is_some_and(|report| report.problem.is_some()),
        generation: subject.view.generation,
        acknowledged: acknowledged.and_then(|generation| i64::try_from(generation).ok()),
        gate_open: subject.gate_open_until().is_some(),
        disabled: subject.disabled(),
        held: subject.held(),
        exhausted: figures.exhausted().is_some(),
        unstored: subject.checkpoint_problem().is_some(),
        usage_unknown: !figures.closed().is_empty(),
        long_wait_ago: subject.long_wait_ago,
        not_injected: subject.not_injected > 0,
    }
}

/// The status of a quota.
pub fn status(subject: &Subject<'_>) -> ApiQuotaStatus {
    let before = &*subject.view.status;
    let generation = subject.view.generation;
    let figures = Figures::of(subject);
    let inputs = inputs(subject, &figures);
    let waiting = waiting(subject);
    let proxies = proxies(subject);
    let conditions =
        Conditions::of(subject, &inputs, &figures, waiting.as_ref()).list(before, generation, subject.now);
    let keep = matches!(subject.limiter, Limiter::Unknown) && !before.limits.is_empty();
    let limits = if keep { before.limits.clone() } else { figures.limits.clone() };
    let allocations = if keep { before.allocations.clone() } else { allocations::of(subject) };
    let waiting = if keep { before.waiting.clone() } else { waiting };
    let refused = match keep {
        true => before.refused,
        false => subject.refusals.map(|refusals| refusals.coarse()),
    };
    let paused_until = match subject.limiter {
        Limiter::Unknown => before.paused_until.clone(),
        Limiter::Connected { .. } | Limiter::Lost { .. } => {
            let held = subject.stopped_all().or(subject.pause());
            held.filter(|pause| !pause.remaining.is_zero()).map(|pause| ends(pause, subject.now))
        }
    };
    let mut status = ApiQuotaStatus {
        brief: None,
        observed_generation: Some(generation),
        summary: None,
        limits,
        allocations,
        waiting,
        refused,
        proxies,
        paused_until,
        checkpoint: checkpoint(subject),
        conditions,
    };
    let summary = summary(subject, &inputs, &figures, &status);
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    status.brief = Some(format!("{}: {}", part(&summary.status), part(&summary.message)));
    status.summary = Some(summary);
    status
}

/// The newest checkpoint that was ever reported of the account.
fn checkpoint(subject: &Subject<'_>) -> Option<CheckpointStatus> {
    let before = subject.view.status.checkpoint.clone();
    let reported = subject.report().and_then(|report| {
        let number = i64::try_from(report.checkpoint.as_ref()?.number).ok().filter(|number| *number > 0)?;
        Some(CheckpointStatus { account: report.key.to_string(), number })
    });
    match (before, reported) {
        (Some(before), Some(new)) if before.account == new.account && before.number > new.number => {
            Some(before)
        }
        (before, new) => new.or(before),
    }
}

fn ends(pause: &PauseStatus, now: Timestamp) -> Time {
    let millis = i64::try_from(pause.remaining.as_millis()).unwrap_or(i64::MAX / 2);
    let at = now.as_millisecond().saturating_add(millis);
    // The API server stores times in whole seconds.
    let seconds = at.saturating_add(999).div_euclid(1000);
    Time(Timestamp::from_second(seconds).unwrap_or(now))
}

fn waiting(subject: &Subject<'_>) -> Option<WaitingStatus> {
    let report = subject.report()?;
    if !subject.queueing() {
        return Some(WaitingStatus::default());
    }
    let calls = report.status.waiting_calls();
    let longest = report.status.longest_wait().unwrap_or_default();
    Some(WaitingStatus {
        calls: bounded(calls, 1_000_000_000),
        longest_seconds: if calls == 0 { 0 } else { words::coarse(longest.as_secs()) },
        workloads: bounded(report.status.waiting.len() as u64, 1_000_000),
    })
}

fn proxies(subject: &Subject<'_>) -> Option<ProxyStatus> {
    let not_injected = bounded(u64::from(subject.not_injected), 1_000_000);
    let reported = match subject.limiter {
        Limiter::Connected { account: None, .. } if subject.not_injected == 0 => return None,
        Limiter::Connected { account, .. } => account.map(|report| report.proxies).unwrap_or_default(),
        Limiter::Unknown => {
            let before = subject.view.status.proxies.clone();
            let known = before.or_else(|| (not_injected > 0).then(ProxyStatus::default));
            return known.map(|known| ProxyStatus { not_injected, ..known });
        }
        Limiter::Lost { .. } => return None,
    };
    Some(ProxyStatus {
        connected: bounded(reported.connected.into(), 1_000_000),
        current: bounded(reported.current.into(), 1_000_000),
        not_injected,
    })
}

fn bounded(count: u64, most: i32) -> i32 {
    i32::try_from(count).unwrap_or(most).min(most)
}

/// The texts of the columns of `kubectl get`.
fn summary(
    subject: &Subject<'_>,
    inputs: &Inputs,
    figures: &Figures<'_>,
    status: &ApiQuotaStatus,
) -> StatusSummary {
    let state = State::of(inputs);
    let dash = || Some("-".to_owned());
    let tightest = figures.tightest();
    let waiting = status.waiting.as_ref();
    let delayed = waiting.filter(|waiting| waiting.calls > 0);
    let summary = StatusSummary {
        tier: tier(subject),
        tightest: tightest.map(|figure| figure.name()).or_else(dash),
        used: tightest.and_then(|figure| figure.used_text()).or_else(dash),
        waiting: waiting.map(|waiting| waiting.calls.to_string()).or_else(dash),
        wait: delayed.map(|waiting| words::under(waiting.longest_seconds)).or_else(dash),
        pods: status.proxies.as_ref().map(pods).or_else(dash),
        status: Some(words_of(state, subject, figures, status)),
        mode: Some(if subject.disabled() { "Disabled" } else { "Enforce" }.to_owned()),
        share: subject.quota().map(share),
        resets: tightest.and_then(|figure| figure.resets_text()).or_else(dash),
        message: Some(message(state, subject, figures, status)),
    };
    match (subject.limiter, &subject.view.status.summary) {
        (Limiter::Unknown, Some(before)) if before.used.is_some() => {
            let edited = subject.view.status.observed_generation != Some(subject.view.generation);
            last_reported(before, summary, state == State::Programming && !edited)
        }
        _ => summary,
    }
}

/// The summary with the figures as the limiter last reported them: a new leader does not blank them. The state, too,
/// unless the operator knows another by itself.
fn last_reported(before: &StatusSummary, summary: StatusSummary, same_state: bool) -> StatusSummary {
    let StatusSummary { tightest, used, waiting, wait, pods, resets, status, message, .. } = before.clone();
    let summary = StatusSummary { tightest, used, waiting, wait, pods, resets, ..summary };
    if same_state { StatusSummary { status, message, ..summary } } else { summary }
}

/// The tier in force, and what it rests on where the spec names none.
fn tier(subject: &Subject<'_>) -> Option<String> {
    let account = subject.account()?;
    let before = subject.view.status.summary.as_ref().and_then(|before| before.tier.clone());
    if account.undeclared.is_some() && subject.report().is_none() && before.is_some() {
        return before;
    }
    let learned = subject.learned().map(|learned| (learned.tier.as_str(), learned.basis));
    let (tier, basis) = learned.unwrap_or((account.tier.as_str(), TierBasis::Assumed));
    Some(match (tier, account.undeclared.is_some(), basis) {
        ("", ..) => "-".to_owned(),
        (tier, false, _) => tier.to_owned(),
        (tier, true, TierBasis::Assumed) => format!("{tier} (assumed)"),
        (tier, true, TierBasis::Matched) => format!("{tier} (learned)"),
        (_, true, TierBasis::Told) => "limits learned".to_owned(),
    })
}

fn share(quota: &ApiQuota) -> String {
    match quota.spec.reserve_percent() {
        0 => format!("{}%", quota.spec.share_percent()),
        reserve => format!("{}%-{reserve}%", quota.spec.share_percent()),
    }
}

fn pods(proxies: &ProxyStatus) -> String {
    match proxies.not_injected {
        0 => proxies.connected.to_string(),
        missing => format!("{}/{}", proxies.connected, proxies.connected + missing),
    }
}

/// The state in two or three words.
fn words_of(state: State, subject: &Subject<'_>, figures: &Figures<'_>, status: &ApiQuotaStatus) -> String {
    let refused = match subject.verdict {
        Verdict::Refused { reason, .. } => Some(*reason),
        Verdict::Accepted(_) => None,
    };
    let word = state.word(refused);
    let ends = match state {
        State::NotInjected if subject.not_injected == 1 => return "1 pod not injected".to_owned(),
        State::NotInjected => return format!("{} pods not injected", subject.not_injected),
        State::GateOpen => subject.gate_open_until(),
        State::PausedByHand | State::ProviderStopped | State::ProviderOverloaded | State::ProviderPaused => {
            status.paused_until.as_ref().map(|time| time.0)
        }
        State::BudgetExhausted => figures.exhausted().and_then(|figure| figure.reset_at(subject.now)),
        State::UsageUnknown => past::opens_at(subject, figures),
        _ => None,
    };
    ends.map_or(word.to_owned(), |ends| format!("{word} until {}", until(ends, subject.now)))
}

/// The state in one sentence.
fn message(state: State, subject: &Subject<'_>, figures: &Figures<'_>, status: &ApiQuotaStatus) -> String {
    let failed = find(&status.conditions, types::READY).filter(|it| it.status != TRUE);
    if let Some(failed) = failed {
        return words::clipped(&failed.message, 1024);
    }
    let held = match state {
        State::PausedByHand
        | State::ProviderStopped
        | State::ProviderOverloaded
        | State::ProviderPaused
        | State::BudgetExhausted
        | State::CheckpointsUnavailable => {
            let throttled = find(&status.conditions, types::THROTTLED);
            throttled.map(|it| format!("{} ", it.message)).unwrap_or_default()
        }
        _ => String::new(),
    };
    if subject.disabled() {
        return "Calls pass at once and are counted; nothing is held back.".to_owned();
    }
    let delayed = delayed(subject, status);
    if state == State::UsageUnknown {
        return past::closed_in_brief(figures) + &format!("; {delayed}.");
    }
    let Some(figure) = figures.tightest() else { return "No calls have been made.".to_owned() };
    let used = figure.used_words().unwrap_or_else(|| "0 %".to_owned());
    let shape = figure.shape(subject.quota());
    let unknown = match figures.uncertain().as_slice() {
        [] => String::new(),
        names => format!("; earlier use of {} is not known yet, so calls begin one by one", names.join(", ")),
    };
    let use_ = match figure.is_closed() {
        true => format!(
            "All of {} ({shape}) counts as used, because its earlier use is not known; the condition UsageKnown says how to open it; {delayed}.",
            figure.name()
        ),
        false => format!("{used} of {} ({shape}) is used; {delayed}{unknown}.", figure.name()),
    };
    words::clipped(&(held + &use_), 1024)
}

/// How many calls wait, and that calls are refused.
fn delayed(subject: &Subject<'_>, status: &ApiQuotaStatus) -> String {
    let waiting = match status.waiting.as_ref().filter(|waiting| waiting.calls > 0) {
        None => "no calls wait".to_owned(),
        Some(waiting) => {
            let (calls, workloads) = (i64::from(waiting.calls), i64::from(waiting.workloads));
            format!(
                "{} of {} {}, longest {}",
                counted(calls, "call"),
                counted(workloads, "workload"),
                plural(calls, "waits", "wait"),
                longest(waiting.longest_seconds)
            )
        }
    };
    let refused = subject.refusals.map(|refusals| {
        let least = match refusals.coarse() {
            1 => String::new(),
            calls => format!("{calls} or more "),
        };
        format!(", and {least}calls were refused since {}", words::since_utc(refusals.since, subject.now))
    });
    waiting + &refused.unwrap_or_default()
}

#[cfg(test)]
mod tests;
