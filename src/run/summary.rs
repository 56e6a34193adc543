//! The last lines of a run: what came of the calls, why some were refused, who gave up, and what to do about it.

use std::time::Duration;

use quotakeeper_engine::config::{LimitConfig, Unit};
use quotakeeper_wire::status::{AccountReport, PastUse};

use super::report::Report;
use super::words::{count, duration};

/// What was used of shorter windows need not be stated.
const LONG: Duration = Duration::from_secs(3600);

/// The lines: one with the figures, and one for each thing that a person may want to change.
pub fn lines(report: &Report, bypass_remedy: &str, accounts: &[AccountReport]) -> Vec<String> {
    let mut lines = vec![figures(report)];
    lines.extend(refusals(report));
    lines.extend(accounts.iter().flat_map(stops));
    lines.extend(gone(report));
    lines.extend(around(report, bypass_remedy));
    lines
}

fn figures(report: &Report) -> String {
    let ran = duration(Duration::from_secs_f64(report.seconds));
    let mut words = format!("{} in {ran}", count(report.calls, "call", "calls"));
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            words += &format!(", {count} {what}");
        }
    };
    add(report.answered, "answered");
    add(report.waited, "waited");
    add(report.rejections, "rejected by the provider and sent again");
    add(report.refused, "refused");
    add(report.failed, "failed");
    add(report.client_gone, "given up by their client");
    add(report.accounts.iter().map(|account| account.breaches).sum(), "sent after their grant had expired");
    if report.waited > 0 {
        words += &format!(
            "; the longest wait was {}",
            duration(Duration::from_secs_f64(report.longest_wait_seconds))
        );
    }
    words
}

/// A line for each reason of refusals, with its remedy.
fn refusals(report: &Report) -> Vec<String> {
    let limits: Vec<String> =
        report.refused_by_limit.iter().map(|(limit, calls)| format!("{calls} for {limit}")).collect();
    let limits = if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) };
    let mut causes: Vec<(u64, &str)> = vec![
        (
            report.refused_for_client,
            "their client would have given up before their turn; give it a longer timeout, or make fewer calls at once",
        ),
        (
            report.refused_for_queue,
            "they would have waited longer than the quota lets them; set enforcement.maxQueueSeconds higher, or make \
             fewer calls at once",
        ),
    ];
    let bounded = report.refused_for_client + report.refused_for_queue;
    let late = |reason: &str| report.refused_by_reason.get(reason).copied().unwrap_or_default();
    let signed =
        (late("WaitTooLong") + late("WaitExceeded")).saturating_sub(bounded) + late("RequestExpired");
    causes.push((
        signed,
        "their signature or token would have been too old; sign them later, or fewer at once",
    ));
    let others =
        report.refused_by_reason.iter().filter_map(|(reason, calls)| Some((*calls, explained(reason)?)));
    causes.extend(others);
    let lines = causes.into_iter().filter(|(calls, _)| *calls > 0);
    lines.map(|(calls, why)| format!("{calls} refused{limits}: {why}")).collect()
}

/// What a reason of a refusal means, and what to do; none for those that are about time.
fn explained(reason: &'static str) -> Option<&'static str> {
    Some(match reason {
        "WaitTooLong" | "WaitExceeded" | "RequestExpired" => return None,
        "QueueFull" => "as many calls waited as the quota lets wait; make fewer at once",
        "QuotaExceeded" => {
            "the quota rejects calls instead of queueing them; remove enforcement.onExceeded: Reject to let them wait"
        }
        "NeverFits" => "each needs more than a whole window of a limit allows; make them smaller",
        "BudgetExhausted" => "a budget is used up; raise it, or go on when its period is over",
        "ProviderStopped" => "the provider refuses until a person acts",
        "TooManyCalls" => "the proxy had as many open calls as it may have; make fewer at once",
        other => other,
    })
}

/// What the provider says of an account that it has stopped.
fn stops(account: &AccountReport) -> impl Iterator<Item = String> {
    account.status.pauses.iter().filter(|pause| pause.stopped).map(|pause| {
        format!(
            "quota {}: the provider has stopped{}: {}; look at the account's billing and limits",
            account.quota, pause.callers, pause.reason
        )
    })
}

/// Who gave up while waiting.
fn gone(report: &Report) -> Option<String> {
    let seconds = |seconds: f64| duration(Duration::from_secs_f64(seconds));
    let (first, last) = (seconds(report.gone_after_seconds), seconds(report.gone_by_seconds));
    let after = if first == last { first } else { format!("{first} to {last}") };
    (report.gone_waiting > 0).then(|| {
        format!(
            "{} gave up while waiting, after {after}, without being sent; if it was not the command's end, give their \
             client a longer timeout",
            count(report.gone_waiting, "call", "calls")
        )
    })
}

/// What may have gone around the proxy.
fn around(report: &Report, remedy: &str) -> Option<String> {
    let direct: u64 = report.direct_connections.values().sum();
    let hosts = report.direct_connections.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match (report.calls, report.distrusted) {
        _ if direct > 0 => Some(format!(
            "{} to {hosts} went around the proxy, and their calls were not limited: {remedy}",
            count(direct, "connection", "connections")
        )),
        (_, 1..) => Some(format!(
            "{} ended before a call, as if their client did not trust the proxy's CA: let it read the file of CAs that \
             SSL_CERT_FILE names, or the system's",
            count(report.distrusted, "connection", "connections")
        )),
        (0, 0) => Some(format!("no call came through the proxy; if the command made any, {remedy}")),
        _ => None,
    }
}

/// What is assumed of an account's use before the run, for people; none: it is known, or over soon. `limits` are the
/// account's.
pub fn unknown_past(account: &AccountReport, limits: &[LimitConfig]) -> Option<String> {
    let quota = &account.quota;
    let assumed = account.status.limits.iter().filter(|limit| limit.assumed > 0);
    let assumed: Vec<&str> = assumed.map(|limit| limit.name.as_str()).collect();
    let longest = |of: &dyn Fn(&LimitConfig) -> bool| {
        limits.iter().filter(|limit| of(limit)).max_by_key(|limit| limit.window)
    };
    match account.past {
        // What was used of shorter windows is over soon.
        PastUse::New if account.status.limits.iter().all(|limit| limit.used == 0) => {
            let limit = longest(&|limit| limit.unit != Unit::ConcurrentRequests && limit.window >= LONG)?;
            Some(format!(
                "quota {quota}: no run has used its account before, so it is assumed to be unused; if it is not, \
                 state it with --used {}=AMOUNT",
                limit.name
            ))
        }
        PastUse::Lost if !assumed.is_empty() => Some(format!(
            "quota {quota}: an earlier run may have used {}; without its ledger all of it counts as used until an \
             answer of the provider tells what is left: state it with --used {}=AMOUNT, and keep a --ledger",
            assumed.join(", "),
            longest(&|limit| assumed.contains(&limit.name.as_str()))
                .map_or("LIMIT", |limit| limit.name.as_str()),
        )),
        _ => None,
    }
}
