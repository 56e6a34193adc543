//! How long calls may wait in a run, and what a person is told when they wait long.
//!
//! A person who puts a command under `run` wants it to wait, and can end it. So a call waits as long as its client does,
//! unless the quota names a maximum.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::patience::LONGEST;
use quotakeeper_engine::LimitStatus;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::status::AccountReport;

use super::words::{duration, limit_name, limit_use};

/// Longer waits are told with their limit and their end.
const LONG: Duration = Duration::from_secs(60);
/// A wait that was told and is shorter than this now is told again when it grows.
const OVER: Duration = Duration::from_secs(30);

/// Lets calls wait as long as their clients do (a day where that is not known) where the quota names no maximum. For a
/// budget that is used up they wait no longer than in a cluster: a queue moves, a spent budget does not. `quotas` are those of the accounts, in the same order.
pub fn without_maximum<'q>(quotas: impl Iterator<Item = &'q ApiQuota>, accounts: &mut [CompiledAccount]) {
    for (quota, account) in quotas.zip(accounts) {
        let own = quota.spec.enforcement.as_ref().and_then(|enforcement| enforcement.max_queue_seconds);
        if own.is_none() {
            let queue = &mut account.engine.queue;
            (queue.max_budget_wait, queue.max_wait) = (Some(queue.max_wait), LONGEST);
        }
    }
}

/// Which long waits have been told.
#[derive(Debug, Default)]
pub struct LongWaits {
    told: BTreeSet<(String, String)>,
}

impl LongWaits {
    /// Sentences about the limits that have begun to make calls wait long, as of `now`.
    pub fn news(&mut self, accounts: &[AccountReport], now: Timestamp) -> Vec<String> {
        let mut news = Vec::new();
        for account in accounts {
            for limit in &account.status.limits {
                let key = (account.quota.to_string(), limit_name(limit));
                if limit.waiting == 0 || limit.wait < OVER {
                    self.told.remove(&key);
                } else if limit.wait > LONG && self.told.insert(key) {
                    news.push(sentence(account, limit, now));
                }
            }
        }
        news
    }
}

fn sentence(account: &AccountReport, limit: &LimitStatus, now: Timestamp) -> String {
    let AccountReport { quota, .. } = account;
    let calls = match limit.waiting {
        1 => "1 call waits".to_owned(),
        calls => format!("{calls} calls wait"),
    };
    let end = now.saturating_add(limit.wait).unwrap_or(now);
    let end = end.round(Unit::Second).unwrap_or(end);
    format!(
        "quota {quota}: {calls} for {} ({} used), until about {end} (in {}); Ctrl-C ends the command, and \
         enforcement.maxQueueSeconds in the quota refuses calls that would wait so long",
        limit_name(limit),
        match limit.unit.counts_tokens() {
            true => limit_use(limit),
            false => format!("{} of {}", limit.used.min(limit.amount), limit.amount),
        },
        duration(limit.wait),
    )
}

/// The limit that makes calls wait longest; none: none does.
pub fn tightest(account: &AccountReport) -> Option<&LimitStatus> {
    let waits = account.status.limits.iter().filter(|limit| !limit.wait.is_zero());
    waits.max_by_key(|limit| limit.wait)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn account(waiting: u64, wait: u64) -> AccountReport {
        let report = serde_json::json!({
            "key": "hubspot/crm", "quota": "crm", "tier": "free", "mode": "Enforce",
            "proxies": {"current": 1, "connected": 1}, "pauses": [], "waiting": [], "underWay": 0,
            "granted": 0, "expired": 0, "unused": 0, "rejected": 0, "breaches": 0, "refused": 0,
            "limits": [{
                "name": "daily", "amount": 250_000, "used": 250_000, "usedByOthers": 0, "assumed": 0,
                "waiting": waiting, "resetsInMillis": 0, "waitMillis": wait * 1000,
            }],
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_long_wait_is_told_once_with_its_limit_and_its_end() {
        let mut waits = LongWaits::default();
        let now: Timestamp = "2026-11-27T21:00:00Z".parse().unwrap();
        assert!(waits.news(&[account(3, 59)], now).is_empty());
        let news = waits.news(&[account(3, 10_800)], now);
        assert_eq!(news.len(), 1);
        let words =
            "3 calls wait for daily (250000 of 250000 used), until about 2026-11-28T00:00:00Z (in 3 h)";
        assert!(news[0].contains(words), "{news:?}");
        assert!(waits.news(&[account(4, 10_000)], now).is_empty(), "once");
        assert!(waits.news(&[account(0, 10_000)], now).is_empty());
        assert_eq!(waits.news(&[account(1, 3_600)], now).len(), 1, "it is over and begins again");
    }
}
