//! The account of every world, as the limiter loads it.

use std::collections::BTreeMap;

use quotakeeper_dialects::profile::Tier;
use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::name::AllocationName;
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT};
use quotakeeper_wire::allocation::AllocationPods;
use quotakeeper_wire::tier::{Share, TierLimits, UndeclaredTier};

use crate::provider::headers;
use crate::scenario::Headers;

/// The account's key in the ledger.
pub(crate) const KEY: &str = "demo/main";
/// The quota that pods draw on.
pub(crate) const QUOTA: &str = "team/main";
/// The namespace of all pods.
pub(crate) const NAMESPACE: &str = "team";

/// The account's document.
pub(crate) fn compiled(config: &AccountConfig) -> CompiledAccount {
    CompiledAccount {
        paused_until: None,
        resumed_at: None,
        format: FORMAT,
        generation: 1,
        key: KEY.into(),
        quota: QUOTA.into(),
        tier: "tier-1".to_owned(),
        engine: config.clone(),
        undeclared: None,
        not_enforced: Vec::new(),
        admitted: Admitted::Everyone,
        warnings: Vec::new(),
        organization: None,
        allocations: config.sharing.allocations.iter().map(|it| pods_of(&it.name)).collect(),
        in_force_since: None,
        checkpoint: None,
        used: Vec::new(),
        profile: Default::default(),
    }
}

fn pods_of(allocation: &AllocationName) -> AllocationPods {
    let (allocation, labels) = (allocation.clone(), labels(Some(allocation)));
    AllocationPods { allocation, namespaces: None, labels, expressions: Vec::new() }
}

/// The labels of a pod that draws on an allocation.
pub(crate) fn labels(allocation: Option<&AllocationName>) -> BTreeMap<String, String> {
    allocation.map(|name| ("allocation".to_owned(), name.to_string())).into_iter().collect()
}

/// The document of a quota that declares no tier: the first limit has one of these amounts, the lowest first.
pub(crate) fn without_a_tier(declared: CompiledAccount, amounts: &[u64], style: &Headers) -> CompiledAccount {
    let mut account = declared;
    let Some(first) = account.engine.limits.first().cloned() else { return account };
    let mut profile = headers::profile(style, &first.name, first.window);
    let Some(known) = profile.tiers.first().and_then(|tier| tier.limits.first()).cloned() else {
        return account;
    };
    let name = |place: usize| format!("tier-{}", place + 1);
    let of_profile = |(place, amount): (usize, &u64)| {
        let limit = quotakeeper_dialects::profile::Limit { amount: *amount, ..known.clone() };
        Tier { name: name(place), limits: vec![limit] }
    };
    let of_engine = |(place, amount): (usize, &u64)| {
        let mut limits = account.engine.limits.clone();
        limits[0].amount = *amount;
        TierLimits { name: name(place), limits, not_enforced: Vec::new() }
    };
    profile.tiers = amounts.iter().enumerate().map(of_profile).collect();
    let tiers: Vec<TierLimits> = amounts.iter().enumerate().map(of_engine).collect();
    account.engine.limits = tiers.first().map(|tier| tier.limits.clone()).unwrap_or_default();
    account.profile = profile;
    account.undeclared = Some(UndeclaredTier {
        tiers,
        share: Share { percent: 100, reserve_percent: 0 },
        declared: Default::default(),
        told_by_answers: true,
    });
    account
}
