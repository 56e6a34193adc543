//! What the command's calls have used of tokens and money, by workload and model.

use std::collections::BTreeMap;

use quotakeeper_api::words::{amount_of, tokens_of};
use quotakeeper_engine::ModelUsage;
use quotakeeper_engine::config::{NANODOLLARS, Unit};
use quotakeeper_wire::name::{Consumer, QuotaName};
use quotakeeper_wire::status::AccountReport;
use schemars::JsonSchema;
use serde::Serialize;

use super::words::count;

/// What a workload has used of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// The workload: the command's name.
    pub workload: String,
    /// The model; absent: the calls name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Calls that the provider has counted, or may have, each try by itself.
    pub calls: u64,
    /// Calls that were refused before they were sent.
    pub refused: u64,
    /// Calls whose end was not seen: the provider may have gone on with them, and what it produced then is in no figure.
    pub lost: u64,
    /// Calls whose tokens are estimated, because no answer told them; lost ones too.
    pub estimated: u64,
    /// Calls whose model has no price of its own: they cost as much as the dearest.
    pub unpriced: u64,
    /// Calls that set no maximum of output, so that a limit held as much for each as its model can produce.
    pub unbounded: u64,
    /// Input tokens, cached ones too. Tokens are counted for quotas that limit tokens or money.
    pub input_tokens: u64,
    /// Of them, read from a cache.
    pub cached_tokens: u64,
    /// Of them, written to a cache.
    pub cache_write_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// What the tokens cost by the provider's list of prices, in dollars, with nine decimals; absent: no price is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars: Option<String>,
}

/// Dollars as a decimal, which no program rounds.
pub fn decimal(nanodollars: u64) -> String {
    format!("{}.{:09}", nanodollars / NANODOLLARS, nanodollars % NANODOLLARS)
}

/// Whose calls to what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    quota: QuotaName,
    workload: Consumer,
    model: Option<String>,
}

/// What was seen of the usage. A limiter forgets workloads that have not called for an hour, and counts them anew when
/// they call again; a run may be longer.
#[derive(Debug, Default)]
pub struct UsageSeen {
    last: BTreeMap<Key, ModelUsage>,
    before: BTreeMap<Key, ModelUsage>,
}

impl UsageSeen {
    /// Notes what the limiter says now.
    pub fn look(&mut self, accounts: &[AccountReport]) {
        for account in accounts {
            for workload in &account.status.workloads {
                for usage in &workload.models {
                    let (quota, workload) = (account.quota.clone(), workload.consumer.clone());
                    self.note(Key { quota, workload, model: usage.model.clone() }, usage);
                }
            }
        }
    }

    fn note(&mut self, key: Key, usage: &ModelUsage) {
        let all = |usage: &ModelUsage| usage.calls + usage.refused;
        match self.last.get_mut(&key) {
            Some(last) => {
                if all(usage) < all(last) {
                    add(self.before.entry(key).or_default(), last);
                }
                last.clone_from(usage);
            }
            None => {
                self.last.insert(key, usage.clone());
            }
        }
    }

    /// All that was used of a quota.
    pub fn of(&self, quota: &QuotaName) -> Vec<UsageReport> {
        let of_quota = self.last.iter().filter(|(key, _)| key.quota == *quota);
        let report = |(key, last): (&Key, &ModelUsage)| {
            let mut usage = self.before.get(key).cloned().unwrap_or_default();
            add(&mut usage, last);
            UsageReport {
                workload: key.workload.to_string(),
                model: key.model.clone(),
                calls: usage.calls,
                refused: usage.refused,
                lost: usage.lost,
                estimated: usage.estimated,
                unpriced: usage.unpriced,
                unbounded: usage.unbounded,
                input_tokens: usage.input,
                cached_tokens: usage.cached,
                cache_write_tokens: usage.cache_write,
                output_tokens: usage.output,
                dollars: (usage.nanodollars > 0).then(|| decimal(usage.nanodollars)),
            }
        };
        of_quota.map(report).collect()
    }

    /// The tokens and money of a quota's calls until now, in a few words; none: no tokens were counted.
    pub fn spent(&self, quota: &QuotaName) -> Option<String> {
        let mut sum = ModelUsage::default();
        let all = self.before.iter().chain(&self.last).filter(|(key, _)| key.quota == *quota);
        all.for_each(|(_, usage)| add(&mut sum, usage));
        let tokens = sum.input.saturating_add(sum.output);
        let money = match sum.nanodollars {
            0 => String::new(),
            nanodollars => format!(", {}", amount_of(Unit::Dollars, nanodollars)),
        };
        (tokens > 0).then(|| format!("{} tokens{money}", tokens_of(tokens)))
    }

    /// A line for each quota and model whose tokens are counted.
    pub fn lines(&self) -> Vec<String> {
        let mut by_model: BTreeMap<(&QuotaName, Option<&str>), ModelUsage> = BTreeMap::new();
        for (key, usage) in self.before.iter().chain(&self.last) {
            add(by_model.entry((&key.quota, key.model.as_deref())).or_default(), usage);
        }
        let counted =
            by_model.into_iter().filter(|(_, usage)| usage.input + usage.output + usage.estimated > 0);
        counted.map(|((quota, model), usage)| line(quota, model, &usage)).collect()
    }
}

fn line(quota: &QuotaName, model: Option<&str>, usage: &ModelUsage) -> String {
    let model = model.unwrap_or("calls that name no model");
    let calls = count(usage.calls, "call", "calls");
    let mut line = format!("quota {quota}, {model}: {calls}, {} input", tokens_of(usage.input));
    if usage.cached > 0 {
        line += &format!(" ({} cached)", tokens_of(usage.cached));
    }
    line += &format!(" and {} output tokens", tokens_of(usage.output));
    if usage.nanodollars > 0 {
        line += &format!(", {}", amount_of(Unit::Dollars, usage.nanodollars));
    }
    for (calls, what) in [
        (usage.unpriced, "at the dearest price, because the profile knows none of the model"),
        (
            usage.unbounded,
            "without a maximum of output, for each of which the most was held (set max_tokens)",
        ),
        (usage.estimated, "estimated, because no answer told their tokens"),
        (usage.lost, "lost, with which the provider may have gone on"),
    ] {
        if calls > 0 {
            line += &format!("; {calls} {what}");
        }
    }
    line
}

fn add(sum: &mut ModelUsage, more: &ModelUsage) {
    sum.calls += more.calls;
    sum.refused += more.refused;
    sum.lost += more.lost;
    sum.estimated += more.estimated;
    sum.unpriced += more.unpriced;
    sum.unbounded += more.unbounded;
    sum.input = sum.input.saturating_add(more.input);
    sum.cached = sum.cached.saturating_add(more.cached);
    sum.cache_write = sum.cache_write.saturating_add(more.cache_write);
    sum.output = sum.output.saturating_add(more.output);
    sum.nanodollars = sum.nanodollars.saturating_add(more.nanodollars);
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    /// The quota `gtm/openai` with these workloads.
    pub(crate) fn account(workloads: &Value) -> AccountReport {
        serde_json::from_value(json!({
            "key": "openai/a", "quota": "gtm/openai", "tier": "", "mode": "Enforce", "limits": [], "pauses": [],
            "underWay": 0, "proxies": {"current": 1, "connected": 1}, "waiting": [], "workloads": workloads,
            "granted": 0, "unused": 0, "refused": 0, "rejected": 0, "breaches": 0,
        }))
        .unwrap()
    }

    #[test]
    fn what_a_limiter_has_forgotten_stays_counted() {
        let mut seen = UsageSeen::default();
        let said = |calls: u64, nanodollars: u64| {
            let model = json!({"model": "m", "calls": calls, "input": 10 * calls, "output": calls, "nanodollars": nanodollars});
            account(&json!([{"consumer": "sh", "calls": calls, "models": [model]}]))
        };
        for report in [said(1, 5), said(7, 35), account(&json!([])), said(2, 10)] {
            seen.look(&[report]);
        }
        let usage = &seen.of(&QuotaName::from("gtm/openai"))[0];
        assert_eq!((usage.calls, usage.input_tokens, usage.output_tokens), (9, 90, 9));
        assert_eq!(usage.dollars.as_deref(), Some("0.000000045"));
        let spent = seen.spent(&QuotaName::from("gtm/openai"));
        assert_eq!(spent.as_deref(), Some("99 tokens, $0.000000"));
        let line = &seen.lines()[0];
        assert!(line.starts_with("quota gtm/openai, m: 9 calls, 90 input and 9 output tokens, $"), "{line}");
    }
}
