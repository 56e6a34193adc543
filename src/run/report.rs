//! The final report: the results of all calls, for people and for scripts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use quotakeeper_proxy::Proxy;
use serde::Serialize;

use super::progress::seconds;
use quotakeeper_wire::status::{self, PastUse};

/// The results of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The command's exit code.
    pub exit_code: u8,
    /// How long the command ran.
    pub seconds: f64,
    /// Calls that the command made.
    pub calls: u64,
    /// Calls that were answered by the provider.
    pub answered: u64,
    /// Calls that waited for a grant.
    pub waited: u64,
    /// The longest that a call waited.
    pub longest_wait_seconds: f64,
    /// Rejections by the provider after which the call waited again, unseen by the command.
    pub rejections: u64,
    /// Calls that were refused by Quotakeeper.
    pub refused: u64,
    /// The same by reason, as `x-quotakeeper-reason` names it.
    pub refused_by_reason: BTreeMap<&'static str, u64>,
    /// Calls whose provider could not be reached or whose answer broke off.
    pub failed: u64,
    /// Calls whose client hung up.
    pub client_gone: u64,
    /// Connections that ended before a call, most often because their client does not trust the proxy's CA.
    pub distrusted: u64,
    /// How calls could have gone around the proxy; none if some came.
    #[serde(skip)]
    pub bypass: Option<&'static str>,
    /// The accounts that were drawn on.
    pub accounts: Vec<AccountReport>,
}

/// The results of one account.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountReport {
    pub quota: String,
    pub provider: String,
    /// The tier in force.
    pub tier: String,
    /// Grants that were made.
    pub granted: u64,
    /// Grants that were returned without being sent.
    pub unused: u64,
    /// Rejections for quota or concurrency.
    pub rejections: u64,
    /// Calls written later than the validity of their grant allows.
    pub breaches: u64,
    /// What was known of the account's use when the run began: `New` (no earlier run has used it), `Recorded` (by the
    /// ledger), `Lost` (an earlier run has used it without this ledger) or `Unknown`.
    pub past: PastUse,
    /// Its limits at the end.
    pub limits: Vec<LimitReport>,
}

/// A limit at the end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    pub name: String,
    /// The model, where models are counted apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Units per window.
    pub amount: u64,
    /// Units in use.
    pub used: u64,
    /// Units of `used` by clients outside this run.
    pub used_by_others: u64,
    /// Units of `used` that are only assumed, because the time before the run is not known.
    pub assumed: u64,
}

impl Report {
    /// Puts the figures of a run together.
    pub fn new(exit_code: u8, ran: Duration, proxy: &Proxy, accounts: &[status::AccountReport]) -> Report {
        let stats = proxy.stats();
        Report {
            exit_code,
            seconds: ran.as_secs_f64(),
            calls: stats.calls,
            answered: stats.answered,
            waited: stats.waited,
            longest_wait_seconds: stats.longest_wait.as_secs_f64(),
            rejections: stats.forced,
            refused: stats.refused,
            refused_by_reason: proxy.refused_by_reason(),
            failed: stats.failed,
            client_gone: stats.client_gone,
            distrusted: stats.distrusted,
            bypass: (stats.calls == 0).then(|| proxy.bypass_remedy()),
            accounts: accounts.iter().map(AccountReport::new).collect(),
        }
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(file, json).with_context(|| format!("cannot write the report to {}", file.display()))
    }

    /// A line for people.
    pub fn sentence(&self) -> String {
        let mut words = format!("{} calls in {}", self.calls, seconds(Duration::from_secs_f64(self.seconds)));
        let mut add = |count: u64, what: &str| {
            if count > 0 {
                words += &format!(", {count} {what}");
            }
        };
        add(self.answered, "answered");
        add(self.waited, "waited");
        add(self.rejections, "rejected by the provider and sent again");
        add(self.refused, &format!("refused ({})", self.why_refused()));
        add(self.failed, "failed");
        add(self.client_gone, "given up by their client");
        add(self.accounts.iter().map(|account| account.breaches).sum(), "sent after their grant had expired");
        if self.waited > 0 {
            words += &format!(
                "; the longest wait was {}",
                seconds(Duration::from_secs_f64(self.longest_wait_seconds))
            );
        }
        match (self.bypass, self.distrusted) {
            (_, 1..) => {
                words += &format!(
                    "; {} connections ended before a call, as if their client did not trust the proxy's CA: let it \
                     read the file of CAs that SSL_CERT_FILE names, or the system's",
                    self.distrusted
                );
            }
            (Some(bypass), 0) => {
                words += &format!("; no call came through the proxy; if the command made any, {bypass}");
            }
            (None, 0) => {}
        }
        words
    }
}

impl Report {
    fn why_refused(&self) -> String {
        let why = |(reason, calls): (&&str, &u64)| match self.refused_by_reason.len() {
            1 => explained(reason).to_owned(),
            _ => format!("{calls} because {}", explained(reason)),
        };
        self.refused_by_reason.iter().map(why).collect::<Vec<_>>().join(", ")
    }
}

/// What is assumed of an account's use before the run, for people; none: it is known.
pub fn unknown_past(account: &status::AccountReport) -> Option<String> {
    let quota = &account.quota;
    let assumed = account.status.limits.iter().filter(|limit| limit.assumed > 0);
    let assumed: Vec<&str> = assumed.map(|limit| limit.name.as_str()).collect();
    match account.past {
        PastUse::New if account.status.limits.iter().all(|limit| limit.used == 0) => Some(format!(
            "quota {quota}: no run has used its account before, so it is assumed to be unused; if it is not, state \
             it with --used LIMIT=AMOUNT"
        )),
        PastUse::Lost if !assumed.is_empty() => Some(format!(
            "quota {quota}: an earlier run may have used {}; without its ledger all of it counts as used until an \
             answer of the provider tells what is left: state it with --used {}=AMOUNT, and keep a --ledger",
            assumed.join(", "),
            assumed.last().unwrap_or(&"LIMIT"),
        )),
        _ => None,
    }
}

/// What a reason of a refusal means.
fn explained(reason: &str) -> &str {
    match reason {
        "WaitTooLong" => "their turn would have come after their client gives up, or after maxQueueSeconds",
        "WaitExceeded" => "their turn did not come in time",
        "QueueFull" => "as many calls waited as the quota lets wait",
        "QuotaExceeded" => "the quota rejects calls instead of queueing them",
        "NeverFits" => "they are larger than a limit",
        "ProviderStopped" => "the provider refuses until a person acts",
        "RequestExpired" => "their signature or token grew too old while they waited",
        "TooManyCalls" => "the proxy had as many open calls as it may have",
        other => other,
    }
}

impl AccountReport {
    fn new(account: &status::AccountReport) -> AccountReport {
        let limits = account.status.limits.iter().map(|limit| LimitReport {
            name: limit.name.clone(),
            model: limit.model.clone(),
            amount: limit.amount,
            used: limit.used,
            used_by_others: limit.used_by_others,
            assumed: limit.assumed,
        });
        AccountReport {
            quota: account.quota.to_string(),
            provider: account.provider().to_owned(),
            tier: account.tier.clone(),
            granted: account.totals.granted,
            unused: account.totals.unused,
            rejections: account.totals.rejected,
            breaches: account.totals.breaches,
            past: account.past,
            limits: limits.collect(),
        }
    }
}
