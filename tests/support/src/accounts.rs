//! Accounts and limits, with values that most tests do not care about. Tests change what they are about by struct
//! update.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::config::{
    AccountConfig, CountedAs, LimitConfig, Mode, OnExceeded, Pacing, PauseConfig, QueueConfig, Unit,
};
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT};

/// How long a grant of these accounts is valid.
pub const VALIDITY: Duration = Duration::from_secs(2);

/// A limit of `amount` requests in `window`, all of which may arrive at once; how the provider counts is unknown.
pub fn requests(amount: u64, window: Duration) -> LimitConfig {
    LimitConfig {
        name: "requests".to_owned(),
        unit: Unit::Requests,
        amount,
        declared: None,
        model_amounts: BTreeMap::new(),
        window,
        counted_as: CountedAs::Unknown,
        delivery: Duration::from_millis(300),
        burst: Some(amount),
        pacing: Pacing::TokenBucket,
        endpoint: None,
        except_endpoints: Vec::new(),
        models: Vec::new(),
        per_model: false,
        tokens: None,
        period: None,
    }
}

/// An account with these limits that queues what does not fit, up to 1000 calls for up to a minute.
pub fn enforced(limits: Vec<LimitConfig>) -> AccountConfig {
    AccountConfig {
        mode: Mode::Enforce,
        on_exceeded: OnExceeded::Queue,
        validity: VALIDITY,
        limits,
        assumed: false,
        extent: Default::default(),
        queue: QueueConfig {
            max_wait: Duration::from_secs(60),
            max_absence: None,
            max_budget_wait: None,
            max_calls: 1000,
        },
        pause: PauseConfig {
            fallback: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            probe_patience: Duration::from_secs(5),
            max_call: Duration::from_secs(600),
        },
        weights: BTreeMap::new(),
        sharing: Default::default(),
        models: Default::default(),
        any_model: Default::default(),
    }
}

/// The first generation of the account `key`, declared by `quota` (`NAMESPACE/NAME`), for pods of any namespace.
pub fn compiled(key: &str, quota: &str, engine: AccountConfig) -> CompiledAccount {
    CompiledAccount {
        paused_until: None,
        resumed_at: None,
        format: FORMAT,
        generation: 1,
        key: key.into(),
        quota: quota.into(),
        tier: "test".to_owned(),
        engine,
        undeclared: None,
        not_enforced: Vec::new(),
        admitted: Admitted::Everyone,
        warnings: Vec::new(),
        organization: None,
        allocations: Vec::new(),
        in_force_since: None,
        checkpoint: None,
        used: Vec::new(),
        profile: Default::default(),
    }
}
