//! An account in force, and how its calls and answers are described to the limiter.

#[cfg(test)]
mod any_answer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use quotakeeper_dialects::profile::{Partition, ResetMeans};
use quotakeeper_dialects::request::{CallShape, Measure};
use quotakeeper_dialects::{Profile, Reading};
use quotakeeper_engine::config::{LimitConfig, Mode, ModelFacts, QueueConfig, Unit};
use quotakeeper_engine::event::{CallClass, Observation, Rejection, RejectionClass, Scope};
use quotakeeper_engine::tokens::CallSize;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::AccountIndex;

use crate::authority::HostPattern;
use crate::token_ratios::TokenRatios;
use crate::unknown_costs::{LoggedCosts, UnknownCost};
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
    /// Where its profile says that the base URL leads, if that is not where calls go.
    pub(crate) other_upstream: Option<Origin>,
    /// How long a call may wait.
    pub(crate) queue: QueueConfig,
    /// Whether calls are sent without a grant when the limiter does not answer.
    pub(crate) bypass: bool,
    /// Whether any of its limits counts tokens, so that requests are measured.
    pub(crate) measure: Measure,
    /// Bytes of text per token, as answers have shown.
    pub(crate) ratios: TokenRatios,
    /// What has been logged of calls whose cost is not known.
    pub(crate) logged_costs: LoggedCosts,
    /// The account as answers name it, if they are compared.
    organization: Option<String>,
    /// Whether an answer that names another has been logged.
    pub(crate) logged_organization: AtomicBool,
    /// What is known of models, by the names under which their calls are counted …
    models: BTreeMap<String, ModelFacts>,
    /// … and of a model that is not known.
    any_model: ModelFacts,
    /// The names of the limits that the limiter counts.
    enforced: BTreeSet<String>,
    /// Whether a limit counts money.
    counts_money: bool,
    /// Whether a limit holds the most that a call can use.
    holds_the_most: bool,
    budget: AtomicU32,
}

impl Account {
    /// An account; calls of its base URL go to `pinned`, if that is given.
    ///
    /// # Errors
    /// When its profile has a base URL that leads nowhere.
    pub(crate) fn new(
        index: AccountIndex,
        compiled: &CompiledAccount,
        pinned: Option<&Origin>,
    ) -> Result<Self, OriginError> {
        let profile = compiled.profile.clone();
        let of_profile = match &profile.base_url {
            Some(base_url) => Some(Origin::parse(&base_url.upstream)?),
            None => {
                let hosts: Vec<_> = profile.hosts.iter().map(|host| HostPattern::new(host)).collect();
                hosts.iter().find_map(HostPattern::exact).map(|host| Origin::new(true, host))
            }
        };
        let upstream = pinned.cloned().or_else(|| of_profile.clone());
        let other_upstream = of_profile.filter(|of_profile| Some(of_profile) != upstream.as_ref());
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
            other_upstream,
            queue: compiled.engine.queue,
            bypass: compiled.engine.mode == Mode::Disabled,
            measure,
            ratios: TokenRatios::default(),
            logged_costs: LoggedCosts::default(),
            organization: compiled.organization.clone(),
            logged_organization: AtomicBool::new(false),
            models: compiled.engine.models.clone(),
            any_model: compiled.engine.any_model,
            enforced: compiled.engine.limits.iter().map(|limit| limit.name.clone()).collect(),
            counts_money: limits(|unit| unit == Unit::Dollars),
            holds_the_most: compiled.engine.limits.iter().any(LimitConfig::holds_the_most),
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

    /// Why the cost of a call of this size is not known before its answer; as far as a person can change that.
    pub(crate) fn unknown_costs(
        &self,
        class: &CallClass,
        size: Option<CallSize>,
    ) -> impl Iterator<Item = UnknownCost> {
        let costs = size.filter(|size| !size.is_nothing());
        let facts = class.model.as_ref().map(|model| self.models.get(model).copied().unwrap_or_default());
        let no_price = self.counts_money && costs.is_some() && facts.is_some_and(|it| it.prices.is_none());
        let produces = facts.is_none_or(|facts| facts.max_output != Some(0));
        let sets_none = costs.is_some_and(|size| size.max_output.is_none());
        let no_maximum = self.holds_the_most && produces && sets_none;
        let found = [(no_price, UnknownCost::NoPrice), (no_maximum, UnknownCost::NoMaximum)];
        found.into_iter().filter_map(|(is_so, why)| is_so.then_some(why))
    }

    /// The most tokens of input and output together that a call of this class can have, if that is known.
    pub(crate) fn context_of(&self, class: &CallClass) -> Option<u64> {
        let known = class.model.as_ref().and_then(|model| self.models.get(model)?.context);
        known.or(self.any_model.context)
    }

    /// The other account that an answer names as charged, if it names one.
    pub(crate) fn another_organization<'r>(&self, reading: &'r Reading) -> Option<&'r str> {
        let (own, named) = (self.organization.as_deref()?, reading.organization.as_deref()?);
        (named != own).then_some(named)
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
    use quotakeeper_engine::config::{Charged, ModelPrices, Reserving, TokenLimit, TokenRates};

    fn paused(provider: &str, scope: quotakeeper_dialects::Scope, endpoint: &str, model: &str) -> String {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let profile = catalogue::find(provider).unwrap();
        let tier = profile.tiers[0].name.clone();
        let compiled = CompiledAccount { tier, ..compiled(provider, profile) };
        let account = Account::new(AccountIndex(0), &compiled, None).unwrap();
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
    fn a_call_without_a_price_or_a_maximum_of_output_is_told_where_that_matters() {
        let size =
            |max_output| Some(CallSize { text_bytes: 40, choices: 1, max_output, ..CallSize::default() });
        let told = |unit: Unit, reserving: Reserving, model: &str, size: Option<CallSize>| {
            let mut compiled = compiled("openai", catalogue::find("openai").unwrap());
            let prices = Some(ModelPrices { tokens: TokenRates::default(), call: 1 });
            let facts = |max_output, prices| ModelFacts { max_output, prices, ..ModelFacts::default() };
            compiled.engine.models = BTreeMap::from([
                ("gpt-4o".to_owned(), facts(Some(9), prices)),
                ("vectors".to_owned(), facts(Some(0), prices)),
                ("foo-9".to_owned(), facts(Some(9), None)),
            ]);
            let tokens = TokenLimit {
                charged: Charged::Settled,
                arrival: None,
                rates: TokenRates::default(),
                reserving,
            };
            let limit = test_support::accounts::requests(9, Duration::from_secs(60));
            compiled.engine.limits = vec![LimitConfig { unit, tokens: Some(tokens), ..limit }];
            let account = Account::new(AccountIndex(0), &compiled, None).unwrap();
            let class = CallClass { model: Some(model.to_owned()), ..CallClass::default() };
            let told = account.unknown_costs(&class, size);
            told.map(|why| why.in_words().split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
        };
        let (money, tokens) = (Unit::Dollars, Unit::TotalTokens);
        let (most, learned) = (Reserving::Bound, Reserving::Learned);
        let (no_price, no_maximum) = ("the profile knows", "a call sets");
        for (unit, reserving, model, size, expected) in [
            (money, most, "gpt-4o", size(Some(5)), vec![]),
            (money, most, "gpt-4o", size(None), vec![no_maximum]),
            (money, most, "vectors", size(None), vec![]),
            (money, most, "foo-9", size(Some(5)), vec![no_price]),
            (money, most, "bar-1", size(None), vec![no_price, no_maximum]),
            (
                money,
                most,
                "bar-1",
                Some(CallSize { max_output: Some(0), choices: 1, ..CallSize::default() }),
                vec![],
            ),
            (tokens, most, "foo-9", size(None), vec![no_maximum]),
            (tokens, learned, "foo-9", size(None), vec![]),
        ] {
            let told: Vec<String> = told(unit, reserving, model, size);
            assert_eq!(told, expected, "{unit:?} {reserving:?} {model} {size:?}");
        }
    }

    #[test]
    fn one_call_in_five_may_be_repeated() {
        let account = Account::new(AccountIndex(0), &compiled("demo", Profile::default()), None).unwrap();
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
