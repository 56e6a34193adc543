//! The final report: the results of all calls, for people and for scripts.
//!
//! Its JSON is described by `docs/run-report.schema.json`, which is generated from these types. Fields may be added to
//! a version; a change of a field's meaning raises [`VERSION`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use quotakeeper_proxy::Proxy;
use schemars::JsonSchema;
use serde::Serialize;

use quotakeeper_engine::LimitStatus;
use quotakeeper_engine::config::Unit;
use quotakeeper_wire::status::{self, PastUse};

use super::usage::{UsageReport, UsageSeen, decimal};

/// The version of the report's form.
const VERSION: u32 = 2;

/// What `quotakeeper run --report FILE` writes when the command has ended.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version of this form: 2.
    pub version: u32,
    /// The command's exit code, 128 + n if signal n ended it.
    pub exit_code: u8,
    /// How long the command ran.
    pub seconds: f64,
    /// Calls that the command made through the proxy.
    pub calls: u64,
    /// Calls that were answered by the provider, whatever its status.
    pub answered: u64,
    /// Calls that waited for a grant.
    pub waited: u64,
    /// The longest that a call waited.
    pub longest_wait_seconds: f64,
    /// Rejections by the provider after which the call waited again, unseen by the command.
    pub rejections: u64,
    /// Calls that were refused by Quotakeeper.
    pub refused: u64,
    /// The same by reason, as the header `x-quotakeeper-reason` names it.
    pub refused_by_reason: BTreeMap<&'static str, u64>,
    /// Of `refused`: calls that could not be granted within their client's timeout.
    pub refused_for_client: u64,
    /// Of `refused`: calls that could not be granted within the time that the quota lets calls wait.
    pub refused_for_queue: u64,
    /// Of `refused`: by `QUOTA: LIMIT` (or the reason of a pause) that made calls wait longest then.
    pub refused_by_limit: BTreeMap<String, u64>,
    /// Calls whose provider could not be reached or whose answer broke off.
    pub failed: u64,
    /// Calls whose client hung up.
    pub client_gone: u64,
    /// Of `clientGone`: calls that waited and had not been sent.
    pub gone_waiting: u64,
    /// The shortest that one of `goneWaiting` waited.
    pub gone_after_seconds: f64,
    /// The longest that one of `goneWaiting` waited.
    pub gone_by_seconds: f64,
    /// Connections that ended before a call, most often because their client does not trust the proxy's CA.
    pub distrusted: u64,
    /// Connections to providers' addresses that did not come through the proxy, by host, as far as they were seen: those
    /// of more than a quarter of a second. None of their calls was limited.
    pub direct_connections: BTreeMap<String, u64>,
    /// The accounts that were drawn on.
    pub accounts: Vec<AccountReport>,
}

/// What was seen while the command ran.
#[derive(Debug, Default)]
pub struct Seen {
    /// Refused calls, by `QUOTA: LIMIT`.
    pub refused_by_limit: BTreeMap<String, u64>,
    /// Connections around the proxy, by host.
    pub direct_connections: BTreeMap<String, u64>,
    /// Tokens and money.
    pub usage: UsageSeen,
}

/// The results of one account.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountReport {
    /// The quota's name.
    pub quota: String,
    /// Its provider.
    pub provider: String,
    /// The tier in force; empty: the provider has none.
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
    #[schemars(with = "String")]
    pub past: PastUse,
    /// Its limits at the end.
    pub limits: Vec<LimitReport>,
    /// What its calls have used, by workload and model.
    pub usage: Vec<UsageReport>,
    /// Tokens that were expected of calls, as a multiple of those that they have used, in the mean; absent: nothing was
    /// expected yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_per_used: Option<f64>,
}

/// An amount of a limit's unit: a number, of `Dollars` a decimal with nine places.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Figure {
    /// Calls, tokens or credits.
    Units(u64),
    /// Dollars.
    Dollars(String),
}

impl Figure {
    fn of(unit: Unit, amount: u64) -> Figure {
        match unit {
            Unit::Dollars => Figure::Dollars(decimal(amount)),
            _ => Figure::Units(amount),
        }
    }
}

/// A limit at the end.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// Its name.
    pub name: String,
    /// The model, where models are counted apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it counts: `Requests`, `ConcurrentRequests`, `InputTokens`, `OutputTokens`, `TotalTokens`, `Credits` or
    /// `Dollars`.
    #[schemars(with = "String")]
    pub unit: Unit,
    /// Units per window.
    pub amount: Figure,
    /// Units that are known to be in use.
    pub used: Figure,
    /// Units of `used` that are held for calls that are under way, or with which the provider may still be going on.
    pub reserved: Figure,
    /// Units of `used` by clients outside this run.
    pub used_by_others: Figure,
    /// Units that count as used beside `used`, because the time before the run is not known.
    pub assumed: Figure,
    /// Units that may still be used.
    pub remaining: Figure,
    /// Seconds until all of it is free again, if nothing more is drawn.
    pub resets_in_seconds: f64,
}

impl Report {
    /// Puts the figures of a run together.
    pub fn new(
        exit_code: u8,
        ran: Duration,
        proxy: &Proxy,
        accounts: &[status::AccountReport],
        seen: Seen,
    ) -> Report {
        let stats = proxy.stats();
        Report {
            version: VERSION,
            exit_code,
            seconds: ran.as_secs_f64(),
            calls: stats.calls,
            answered: stats.answered,
            waited: stats.waited,
            longest_wait_seconds: stats.longest_wait.as_secs_f64(),
            rejections: stats.forced,
            refused: stats.refused,
            refused_by_reason: proxy.refused_by_reason(),
            refused_for_client: stats.refused_for_client,
            refused_for_queue: stats.refused_for_queue,
            refused_by_limit: seen.refused_by_limit,
            failed: stats.failed,
            client_gone: stats.client_gone,
            gone_waiting: stats.gone_waiting,
            gone_after_seconds: stats.gone_after.as_secs_f64(),
            gone_by_seconds: stats.gone_by.as_secs_f64(),
            distrusted: stats.distrusted,
            direct_connections: seen.direct_connections,
            accounts: accounts.iter().map(|account| AccountReport::new(account, &seen.usage)).collect(),
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
}

impl AccountReport {
    fn new(account: &status::AccountReport, usage: &UsageSeen) -> AccountReport {
        let limits = account.status.limits.iter().map(LimitReport::new);
        let ratios = &account.status.estimate_ratios;
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
            usage: usage.of(&account.quota),
            expected_per_used: (!ratios.is_empty())
                .then(|| ratios.sum as f64 / 1_000.0 / ratios.count() as f64),
        }
    }
}

impl LimitReport {
    fn new(limit: &LimitStatus) -> LimitReport {
        let figure = |amount: u64| Figure::of(limit.unit, amount);
        LimitReport {
            name: limit.name.clone(),
            model: limit.model.clone(),
            unit: limit.unit,
            amount: figure(limit.amount),
            used: figure(limit.used.saturating_sub(limit.assumed)),
            reserved: figure(limit.reserved),
            used_by_others: figure(limit.used_by_others),
            assumed: figure(limit.assumed),
            remaining: figure(limit.amount.saturating_sub(limit.used)),
            resets_in_seconds: limit.resets_in.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/run-report.schema.json");

    /// UPDATE_GOLDEN=1 writes it anew.
    #[test]
    fn the_documented_schema_is_fresh() {
        let schema = schemars::schema_for!(Report);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(FILE, &text).unwrap();
        }
        let written = fs::read_to_string(FILE).unwrap_or_default();
        assert!(written == text, "docs/run-report.schema.json is stale: make generate");
    }

    #[test]
    fn what_is_assumed_is_not_reported_as_used() {
        let limit = serde_json::json!({
            "name": "daily", "amount": 100, "used": 22, "usedByOthers": 0, "assumed": 14, "waiting": 0,
            "resetsInMillis": 1000,
        });
        let report = LimitReport::new(&serde_json::from_value(limit).unwrap());
        let figures = [&report.used, &report.assumed, &report.remaining].map(|it| serde_json::json!(it));
        assert_eq!(figures, [8, 14, 78].map(serde_json::Value::from));
    }
}
