//! Parts of the limiter's reports, for tests.

use std::time::Duration;

use quotakeeper_engine::config::Mode;
use quotakeeper_engine::event::{Callers, Scope};
use quotakeeper_engine::{AccountStatus, ConsumerWait, PauseStatus, Totals};
use quotakeeper_wire::status::{AccountReport, PastUse, ProxyCounts};

/// An account in force that nobody has drawn on.
pub(crate) fn idle(quota: &str) -> AccountReport {
    AccountReport {
        key: format!("hubspot/{quota}").into(),
        quota: quota.into(),
        tier: String::new(),
        learned: None,
        generation: Some(1),
        problem: None,
        past: PastUse::New,
        checkpoint: None,
        mode: Mode::Enforce,
        proxies: ProxyCounts::default(),
        status: AccountStatus::default(),
        totals: Totals::default(),
        notices: Vec::new(),
    }
}

/// The waiting calls of a workload.
pub(crate) fn wait(consumer: &str, calls: u64, longest_millis: u64) -> ConsumerWait {
    ConsumerWait { consumer: consumer.into(), calls, longest: Duration::from_millis(longest_millis) }
}

/// A pause after which calls are sent again by themselves.
pub(crate) fn pause(scope: Scope, remaining_millis: u64, reason: &str) -> PauseStatus {
    PauseStatus {
        by_hand: false,
        scope,
        callers: Callers::All,
        remaining: Duration::from_millis(remaining_millis),
        reason: reason.to_owned(),
        stopped: false,
        overloaded: false,
    }
}
