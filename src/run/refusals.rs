//! Which limits calls were refused for.
//!
//! A refusal names its reason, not the limit behind it. That is the one that makes calls wait longest when the refusal
//! is seen (else the one of which most is used), or a pause that lasts longer.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::LimitStatus;
use quotakeeper_proxy::stats::Stats;
use quotakeeper_wire::status::AccountReport;

use super::waits::tightest;
use super::words::limit_name;

/// How many calls were refused for which limit, by `QUOTA: LIMIT`.
#[derive(Clone, Debug, Default)]
pub struct RefusalsByLimit {
    seen: u64,
    pub counts: BTreeMap<String, u64>,
}

impl RefusalsByLimit {
    /// Notes the refusals since the last look.
    pub fn look(&mut self, stats: &Stats, accounts: &[AccountReport]) {
        let new = stats.refused.saturating_sub(self.seen);
        if new == 0 {
            return;
        }
        self.seen = stats.refused;
        let causes = accounts.iter().filter_map(|account| Some((account, cause(account)?)));
        if let Some((account, (cause, _))) = causes.max_by_key(|(_, (_, wait))| *wait) {
            *self.counts.entry(format!("{}: {cause}", account.quota)).or_default() += new;
        }
    }
}

fn most_used(account: &AccountReport) -> Option<&LimitStatus> {
    let used = account.status.limits.iter().filter(|limit| limit.used > 0);
    used.max_by_key(|limit| limit.used.saturating_mul(1000) / limit.amount.max(1))
}

/// What makes calls of the account wait longest, and how long.
fn cause(account: &AccountReport) -> Option<(String, Duration)> {
    let limit = tightest(account).or_else(|| most_used(account));
    let limit = limit.map(|limit| (limit_name(limit), limit.wait));
    let pauses = account.status.pauses.iter();
    let pause = pauses.map(|pause| (pause.reason.clone(), pause.remaining)).max_by_key(|(_, wait)| *wait);
    limit.into_iter().chain(pause).max_by_key(|(_, wait)| *wait)
}
