//! The account of every world, as the limiter loads it.

use quotakeeper_engine::config::AccountConfig;
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT};

/// The account's key in the ledger.
pub(crate) const KEY: &str = "demo/main";
/// The quota that pods draw on.
pub(crate) const QUOTA: &str = "team/main";
/// The namespace of all pods.
pub(crate) const NAMESPACE: &str = "team";

/// The account's document.
pub(crate) fn compiled(config: &AccountConfig) -> CompiledAccount {
    CompiledAccount {
        format: FORMAT,
        generation: 1,
        key: KEY.into(),
        quota: QUOTA.into(),
        tier: "tier-1".to_owned(),
        engine: config.clone(),
        undeclared: None,
        not_enforced: Vec::new(),
        admitted: Admitted::Everyone,
        in_force_since: None,
        used: Vec::new(),
        profile: Default::default(),
    }
}
