//! A quota and its provider's profile, compiled into what an engine enforces and a proxy reads.
//!
//! Pure: the same quota and profile give the same account. The amounts are in `compile/limits.rs`, how they count
//! tokens in `compile/tokens.rs`, what is known of models in `compile/models.rs`, how they are shared in `compile/sharing.rs`, what is stated of use in
//! `compile/used.rs`, what a person has paused in `compile/by_hand.rs`.

mod by_hand;
mod limits;
mod models;
mod sharing;
mod tokens;
mod used;

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::Tier;
use quotakeeper_engine::config::{AccountConfig, LimitConfig, Mode, OnExceeded, PauseConfig, QueueConfig};
use quotakeeper_engine::patience::longest_wait;
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT};
use quotakeeper_wire::name::{AccountKey, QuotaName};
use quotakeeper_wire::tier::{TierLimits, UndeclaredTier};

use crate::problem::Problem;
use crate::quota::{self, ApiQuota, ApiQuotaSpec};

/// How long after its echo a grant may be written (D).
const VALIDITY: Duration = Duration::from_secs(2);
/// The longest wait where neither the quota nor the profile sets one.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The most calls that wait at the same time, at about 1 KB each.
const MAX_WAITING_CALLS: usize = 10_000;
/// The first pause after a rejection that names no time.
const FALLBACK_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause without a probe where the profile doesn't name a longer one.
const PAUSE_CAP: Duration = Duration::from_secs(3600);
/// Rejections are answered at once: a probe that is silent this long was let in.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// The organisation of an account is of no use.
const UNNAMED: &str = "account.organization is compared with nothing, because the provider's profile has no \
    `organizationHeaders`; name them in an ApiProvider, or remove it";
/// The longest call where the profile says nothing, and the provider's clients aren't known to be more patient.
const MAX_CALL: Duration = Duration::from_secs(600);

/// The account of a quota. `profile` is the provider's, with everything that it inherits.
///
/// # Errors
/// All that keeps the quota from being enforced: an unknown tier, amounts of which share and
/// reserve leave nothing, limits that contradict the tier's, stated use of limits that are not in force.
pub fn account(quota: &ApiQuota, mut profile: Profile) -> Result<CompiledAccount, Vec<Problem>> {
    let spec = &quota.spec;
    let tier = tier(spec, &profile).map_err(|problem| vec![problem])?;
    let limits = limits::compile(spec, tier, &profile)?;
    let sharing = sharing::compile(spec, &limits.enforced, &profile)?;
    let used = used::compile(&spec.used, &limits.enforced, &sharing)?;
    let tier = tier.map(|tier| tier.name.clone()).unwrap_or_default();
    let undeclared = undeclared_tier(spec, &profile);
    let models = models::compile(&profile, longest_call(&profile));
    // The others are only assumed.
    let declared = limits.enforced.iter().filter(|limit| {
        undeclared.as_ref().is_none_or(|undeclared| undeclared.declared.contains(&limit.name))
    });
    let organization = quota.spec.account.as_ref().and_then(|account| account.organization.clone());
    let unnamed =
        organization.as_ref().filter(|_| profile.organization_headers.is_empty()).map(|_| UNNAMED.to_owned());
    let warnings = models::warnings(declared.clone(), &models).into_iter().chain(unnamed);
    let by_hand = by_hand::compile(quota);
    let warnings = warnings.chain(by_hand.warnings.iter().cloned()).collect();
    set_windows(&mut profile, declared);
    let account = CompiledAccount {
        format: FORMAT,
        generation: quota.metadata.generation.and_then(|it| u64::try_from(it).ok()).unwrap_or(0),
        key: key(quota),
        quota: name(quota),
        tier,
        engine: AccountConfig {
            mode: mode(spec),
            on_exceeded: on_exceeded(spec),
            validity: VALIDITY,
            limits: limits.enforced,
            assumed: false,
            extent: Default::default(),
            queue: queue(spec, &profile),
            pause: pause(&profile),
            weights: BTreeMap::new(),
            sharing,
            models: models.known,
            any_model: models.any,
        },
        undeclared,
        not_enforced: limits.not_enforced,
        warnings,
        organization,
        allocations: Vec::new(),
        admitted: Admitted::Everyone,
        in_force_since: None,
        paused_until: by_hand.paused_until,
        resumed_at: by_hand.resumed_at,
        checkpoint: None,
        used,
        profile,
    };
    let unworkable = account.engine.problems();
    if unworkable.is_empty() {
        Ok(account)
    } else {
        Err(unworkable.into_iter().map(|message| Problem::new("spec.limits", message)).collect())
    }
}

/// Sets the windows of the profile's limits to those in force, whatever the tier: by them the proxy tells which limit the figures of a
/// header belong to.
fn set_windows<'l>(profile: &mut Profile, enforced: impl Iterator<Item = &'l LimitConfig> + Clone) {
    for limit in profile.tiers.iter_mut().flat_map(|tier| &mut tier.limits) {
        let in_force = enforced.clone().find(|other| other.name == limit.name);
        if let (Some(window), Some(in_force)) = (&mut limit.window_seconds, in_force) {
            *window = u32::try_from(in_force.window.as_secs()).unwrap_or(u32::MAX);
        }
    }
}

/// The account's key in the ledger: the provider, and the account's id or else the quota's
/// namespace and name. An id has no slash, so that neither can be taken for the other.
pub fn key(quota: &ApiQuota) -> AccountKey {
    let account = quota.spec.account.as_ref().and_then(|account| account.id.clone());
    let id = account.unwrap_or_else(|| name(quota).to_string());
    format!("{}/{id}", quota.spec.provider.name).into()
}

/// The quota as people name it: `namespace/name`, or `name` without a namespace.
pub fn name(quota: &ApiQuota) -> QuotaName {
    match quota.namespace() {
        Some(namespace) => format!("{namespace}/{}", quota.name_any()).into(),
        None => quota.name_any().into(),
    }
}

/// The tier in force; none where the provider has none.
fn tier<'p>(spec: &ApiQuotaSpec, profile: &'p Profile) -> Result<Option<&'p Tier>, Problem> {
    let field = "spec.provider.tier";
    match &spec.provider.tier {
        Some(name) => profile.tier(name).map(Some).map_err(|it| Problem::new(field, it.to_string())),
        None => Ok(profile.lowest_tier()),
    }
}

/// The tiers that the account may have, where the quota declares none and there are several.
fn undeclared_tier(spec: &ApiQuotaSpec, profile: &Profile) -> Option<UndeclaredTier> {
    if spec.provider.tier.is_some() || profile.tiers.len() < 2 {
        return None;
    }
    // A tier that the quota's own limits contradict can't be in force; the lowest has been compiled already.
    let compiled = |tier: &Tier| {
        let limits = limits::compile(spec, Some(tier), profile).ok()?;
        Some(TierLimits {
            name: tier.name.clone(),
            limits: limits.enforced,
            not_enforced: limits.not_enforced,
        })
    };
    Some(UndeclaredTier {
        tiers: profile.tiers.iter().filter_map(compiled).collect(),
        share: limits::share(spec),
        declared: spec.limits.iter().map(|limit| limit.name.clone()).collect(),
        told_by_answers: profile.has_limit_headers(),
    })
}

fn mode(spec: &ApiQuotaSpec) -> Mode {
    match spec.enforcement.as_ref().and_then(|enforcement| enforcement.mode) {
        Some(quota::Mode::Disabled) => Mode::Disabled,
        Some(quota::Mode::Enforce) | None => Mode::Enforce,
    }
}

fn on_exceeded(spec: &ApiQuotaSpec) -> OnExceeded {
    match spec.enforcement.as_ref().and_then(|enforcement| enforcement.on_exceeded) {
        Some(quota::OnExceeded::Reject) => OnExceeded::Reject,
        Some(quota::OnExceeded::Queue) | None => OnExceeded::Queue,
    }
}

/// The quota's maximum, else the profile's, else what the timeout of the provider's clients allows. Only a maximum
/// of the quota also bounds the wait for an absent limiter: the others are meant for a queue that moves.
fn queue(spec: &ApiQuotaSpec, profile: &Profile) -> QueueConfig {
    let seconds = spec.enforcement.as_ref().and_then(|enforcement| enforcement.max_queue_seconds);
    let own = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let default = || profile.max_queue().unwrap_or_else(|| MAX_WAIT.max(longest_wait(patience(profile))));
    let max_wait = own.unwrap_or_else(default);
    let rejects = on_exceeded(spec) == OnExceeded::Reject;
    let max_absence = own.or(rejects.then_some(max_wait));
    QueueConfig { max_wait, max_absence, max_budget_wait: None, max_calls: MAX_WAITING_CALLS }
}

fn pause(profile: &Profile) -> PauseConfig {
    let longest = profile.rejections.iter().filter_map(|rejection| rejection.maximum_seconds).max();
    PauseConfig {
        fallback: FALLBACK_PAUSE,
        cap: PAUSE_CAP.max(Duration::from_secs(longest.unwrap_or(0).into())),
        probe_patience: PROBE_PATIENCE,
        max_call: longest_call(profile),
    }
}

/// The longest call of a model of which nothing else is known.
fn longest_call(profile: &Profile) -> Duration {
    let own = profile.max_call_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    own.unwrap_or_else(|| MAX_CALL.max(patience(profile)))
}

/// After how long the provider's usual clients give up on a call; 0 where that isn't known.
fn patience(profile: &Profile) -> Duration {
    let seconds = profile.client.as_ref().and_then(|client| client.patience_seconds);
    Duration::from_secs(seconds.unwrap_or(0).into())
}
