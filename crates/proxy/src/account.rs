//! An account in force, and how its calls and answers are described to the limiter.

#[cfg(test)]
mod any_answer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::{Partition, ResetMeans};
use quotakeeper_dialects::request::{CallShape, Measure};
use quotakeeper_engine::config::{Mode, QueueConfig, Unit};
use quotakeeper_engine::event::{CallClass, Observation, Rejection, RejectionClass, Scope};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::AccountIndex;

use crate::authority::HostPattern;
use crate::token_ratios::TokenRatios;
use crate::upstream::{Origin, OriginError};

/// A retry costs as many tokens as five calls earn: one call in five may be repeated.
const REPETITION: u32 = 5;
/// What the budget holds at most, and at first: ten repetitions.
const BUDGET: u32 = 10 * REPETITION;

/// One account.
pub(crate) struct Account {
    pub(crate) index: AccountIndex,
    /// The quota as people name it.
    pub(crate) quota: Arc<str>,
    pub(crate) profile: Profile,
    /// The name of the tier in force; empty: the provider has none.
    tier: String,
    /// Where the base URL leads.
    pub(crate) upstream: Option<Origin>,
    /// How long a call may wait.
    pub(crate) queue: QueueConfig,
    /// Whether calls are sent without a grant when the limiter does not answer.
    pub(crate) bypass: bool,
    /// Whether any of its limits counts tokens, so that requests are measured.
    pub(crate) measure: Measure,
    /// Bytes of text per token, as answers have shown.
    pub(crate) ratios: TokenRatios,
    /// The most tokens of input and output together, by model …
    contexts: BTreeMap<String, u64>,
    /// … and of a model that is not known.
    any_context: Option<u64>,
    /// The names of the limits that the limiter counts.
    enforced: BTreeSet<String>,
    budget: AtomicU32,
}

impl Account {
    pub(crate) fn new(index: AccountIndex, compiled: &CompiledAccount) -> Result<Self, OriginError> {
        let profile = compiled.profile.clone();
        let upstream = match &profile.base_url {
            Some(base_url) => Some(Origin::parse(&base_url.upstream)?),
            None => {
                let hosts: Vec<_> = profile.hosts.iter().map(|host| HostPattern::new(host)).collect();
                hosts.iter().find_map(HostPattern::exact).map(|host| Origin::new(true, host))
            }
        };
        let limits = |counts: fn(Unit) -> bool| compiled.engine.limits.iter().any(|limit| counts(limit.unit));
        let measure = match (limits(Unit::counts_tokens), limits(|unit| unit == Unit::Credits)) {
            (true, _) => Measure::Size,
            (false, true) => Measure::Credits,
            (false, false) => Measure::Nothing,
        };
        Ok(Self {
            index,
            quota: compiled.quota.as_str().into(),
            profile,
            tier: compiled.tier.clone(),
            upstream,
            queue: compiled.engine.queue,
            bypass: compiled.engine.mode == Mode::Disabled,
            measure,
            ratios: TokenRatios::default(),
            contexts: compiled
                .engine
                .models
                .iter()
                .filter_map(|(name, model)| Some((name.clone(), model.context?)))
                .collect(),
            any_context: compiled.engine.any_model.context,
            enforced: compiled.engine.limits.iter().map(|limit| limit.name.clone()).collect(),
            budget: AtomicU32::new(BUDGET),
        })
    }

    /// Whether any of its limits counts tokens.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.measure == Measure::Size
    }

    /// Whether it limits the provider's own units, and answers to calls of this class say what they have cost.
    pub(crate) fn is_told_credits(&self, class: &CallClass) -> bool {
        self.measure != Measure::Nothing && self.profile.told_credits(class.endpoint.as_deref()).is_some()
    }

    /// The most tokens of input and output together that a call of this class can have, if that is known.
    pub(crate) fn context_of(&self, class: &CallClass) -> Option<u64> {
        let known = class.model.as_ref().and_then(|model| self.contexts.get(model).copied());
        known.or(self.any_context)
    }

    /// Counts a call towards the budget of repetitions.
    pub(crate) fn earn(&self) {
        let more = |budget: u32| Some((budget + 1).min(BUDGET));
        let _earned = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes a repetition out of the budget, if there is one.
    pub(crate) fn spend(&self) -> bool {
        let less = |budget: u32| budget.checked_sub(REPETITION);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// The calls that the provider counts together with this one under a limit. The limiter knows what the limits
    /// cover that it counts; of the others the profile says whether models or endpoints are counted apart.
    fn limit_scope(&self, name: &str, call: &CallClass) -> Scope {
        let scope = Scope::limit(name);
        if self.enforced.contains(name) {
            return scope;
        }
        let Some(limit) = self.profile.limit(&self.tier, name) else { return scope.of_model_of(call) };
        let partition = limit.partition.unwrap_or_default();
        let scope = match partition == Partition::Model || !limit.models.is_empty() {
            true => scope.of_model_of(call),
            false => scope,
        };
        match partition == Partition::Endpoint || limit.endpoint.is_some() {
            true => scope.of_endpoint_of(call),
            false => scope,
        }
    }

    /// The call as the limiter knows it: models that share a limit are one, and one model is several where the
    /// provider counts its tiers of service apart.
    pub(crate) fn engine_class(&self, shape: &CallShape) -> CallClass {
        CallClass {
            endpoint: shape.endpoint.clone(),
            model: self.profile.counted_model(shape),
            allocation: None,
        }
    }
}

/// A rejection as the limiter knows it; none for those that concern this one call alone.
pub(crate) fn engine_rejection(
    class: quotakeeper_dialects::profile::Class,
    scope: &quotakeeper_dialects::Scope,
    shared_with: Option<String>,
    wait: Option<Duration>,
    reason: &str,
    account: &Account,
    call: &CallClass,
) -> Option<Rejection> {
    use quotakeeper_dialects::Scope as Affected;
    use quotakeeper_dialects::profile::Class;

    let class = match class {
        Class::Quota | Class::Partial => RejectionClass::Quota,
        Class::Concurrency => RejectionClass::Concurrency,
        Class::Capacity => RejectionClass::Capacity,
        Class::Terminal => RejectionClass::Terminal,
        Class::Oversize | Class::Lock => return None,
    };
    let apart = account.profile.is_apart(call.endpoint.as_deref());
    let scope = match scope {
        Affected::OtherEndpoint(name) => Scope::endpoint(name),
        // The provider counts it with none of the others.
        _ if apart && class != RejectionClass::Terminal => Scope::account().of_endpoint_of(call),
        Affected::Limit(name) => account.limit_scope(name, call),
        Affected::Endpoint => Scope::account().of_endpoint_of(call),
        Affected::Model => Scope::account().of_model_of(call),
        Affected::Account | Affected::Provider => Scope::account(),
    };
    let shared_with = shared_with.map(|model| account.profile.model_class(&model).to_owned());
    Some(Rejection { class, scope, shared_with, wait, reason: reason.to_owned(), organization: None })
}

/// Limits' states from headers, as the limiter knows them.
pub(crate) fn engine_observations(observations: Vec<quotakeeper_dialects::Observation>) -> Vec<Observation> {
    let translate = |seen: quotakeeper_dialects::Observation| Observation {
        limit: seen.limit,
        hard: seen.hard,
        remaining: seen.remaining,
        ends_in: seen.resets_in.filter(|_| seen.reset_means == ResetMeans::WindowEnd),
    };
    observations.into_iter().map(translate).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::route::tests::compiled;
    use quotakeeper_dialects::catalogue;
    use quotakeeper_dialects::profile::Class;

    fn paused(provider: &str, scope: quotakeeper_dialects::Scope, endpoint: &str, model: &str) -> String {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let profile = catalogue::find(provider).unwrap();
        let tier = profile.tiers[0].name.clone();
        let compiled = CompiledAccount { tier, ..compiled(provider, profile) };
        let account = Account::new(AccountIndex(0), &compiled).unwrap();
        let call = account.engine_class(&CallShape {
            endpoint: named(endpoint),
            model: named(model),
            service_tier: None,
        });
        engine_rejection(Class::Quota, &scope, None, None, "", &account, &call).unwrap().scope.to_string()
    }

    #[test]
    fn a_limit_that_is_not_enforced_pauses_what_the_provider_counts_together() {
        use quotakeeper_dialects::Scope as Affected;
        let limit = |name: &str| Affected::Limit(name.to_owned());
        for (provider, scope, endpoint, model, pauses) in [
            ("openai", limit("tokens"), "", "gpt-4o-2026-08-06", "limit tokens, model gpt-4o"),
            ("openai", limit("tokens"), "", "", "limit tokens, calls without model"),
            ("openai", Affected::Model, "", "gpt-4o", "model gpt-4o"),
            ("openai", Affected::Model, "", "", "calls without model"),
            ("openai", Affected::Model, "files", "", "endpoint files"),
            ("openai", limit("requests"), "batches", "", "endpoint batches"),
            ("hubspot", limit("daily"), "search", "", "limit daily"),
            ("hubspot", limit("search"), "search", "", "limit search, endpoint search"),
            ("openai", Affected::OtherEndpoint("batch-queue".into()), "batches", "", "endpoint batch-queue"),
            ("hubspot", Affected::Endpoint, "", "", "calls without endpoint"),
            ("hubspot", Affected::Provider, "search", "", "all calls"),
        ] {
            assert_eq!(paused(provider, scope.clone(), endpoint, model), pauses, "{provider} {scope:?}");
        }
    }

    #[test]
    fn one_call_in_five_may_be_repeated() {
        let account = Account::new(AccountIndex(0), &compiled("demo", Profile::default())).unwrap();
        account.budget.store(REPETITION, Ordering::Relaxed);
        assert!(account.spend() && !account.spend());
        for _ in 0..REPETITION - 1 {
            account.earn();
        }
        assert!(!account.spend());
        account.earn();
        assert!(account.spend());
    }
}
