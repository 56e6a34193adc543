//! The limits of an account: the tier's, with the quota's own in their place or on top, less what
//! is not this cluster's.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_dialects::calendar::DEFAULT_ZONE;
use quotakeeper_dialects::profile::{self, Partition, Profile, Tier};
use quotakeeper_engine::config::{
    CalendarPeriod, CountedAs, LimitAmount, LimitConfig, NANODOLLARS, Pacing, PeriodKind, TokenLimit, Unit,
};
use quotakeeper_wire::tier::Share;

use super::tokens;
use crate::problem::Problem;
use crate::quota::{self, ApiQuotaSpec, PacingAlgorithm};

/// J for windows of a minute and more.
const LONG_DELIVERY_MILLIS: u64 = 1000;
/// J for windows of ten seconds and less.
const SHORT_DELIVERY_MILLIS: u64 = 300;

/// The limits of an account.
#[derive(Debug)]
pub(super) struct Limits {
    /// What an engine is told.
    pub(super) enforced: Vec<LimitConfig>,
    /// The limits that hold no call back in this version, as `name (unit)`.
    pub(super) not_enforced: Vec<String>,
}

/// A limit before share and reserve, and the fields that a person can change.
struct Declared {
    field: String,
    models_field: String,
    limit: LimitConfig,
}

pub(super) fn compile(
    spec: &ApiQuotaSpec,
    tier: Option<&Tier>,
    profile: &Profile,
) -> Result<Limits, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut declared = Vec::new();
    let mut not_enforced = Vec::new();
    for limit in tier.into_iter().flat_map(|tier| &tier.limits) {
        match limit.unit {
            // Nothing says how many credits a call costs.
            profile::Unit::Credits if !profile.has_credits() => {
                not_enforced.push(format!("{} ({:?})", limit.name, limit.unit));
            }
            _ => declared.push(of_tier(limit, profile)),
        }
    }
    for (index, limit) in spec.limits.iter().enumerate() {
        let base = tier.and_then(|tier| tier.limit(&limit.name));
        match of_spec(limit, base, profile, &format!("spec.limits[{index}]")) {
            Ok(limit) => {
                declared.retain(|other: &Declared| other.limit.name != limit.limit.name);
                not_enforced.retain(|other| !other.starts_with(&format!("{} (", limit.limit.name)));
                declared.push(limit);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if declared.is_empty() && not_enforced.is_empty() && problems.is_empty() {
        let message = "the provider's profile has no limits; declare at least one, for example \
            {name: requests, unit: Requests, amount: 100, windowSeconds: 60}";
        problems.push(Problem::new("spec.limits", message));
    }
    let mut enforced: Vec<LimitConfig> = Vec::new();
    for limit in declared {
        let models_field = limit.models_field.clone();
        match ours(limit, spec).and_then(|limit| counted_models(limit, &models_field, profile)) {
            Ok(limit) => enforced.push(counted_apart(limit, profile)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(Limits { enforced, not_enforced }) } else { Err(problems) }
}

/// A limit that an allocation declares: as it is, because it is no part of what the provider counts.
pub(super) fn own(limit: &quota::Limit, profile: &Profile, at: &str) -> Result<LimitConfig, Problem> {
    let Declared { models_field, limit, .. } = of_spec(limit, None, profile, at)?;
    counted_models(limit, &models_field, profile)
}

fn of_tier(limit: &profile::Limit, profile: &Profile) -> Declared {
    let unit = unit_of(limit.unit);
    let dollars = if unit == Unit::Dollars { NANODOLLARS } else { 1 };
    let window = limit.window().unwrap_or_default();
    let figures = Figures {
        unit,
        amount: limit.amount.saturating_mul(dollars),
        window,
        period: limit.period.map(|period| calendar_period(period, limit.time_zone.as_deref())),
        counted_as: counted_as(limit.counted_as()),
        tokens: tokens::of_tier(unit, window, limit).or(tokens::of_credits(unit, profile)),
    };
    Declared {
        field: "spec.account.sharePercent".to_owned(),
        models_field: "spec.provider.name".to_owned(),
        limit: LimitConfig {
            model_amounts: model_amounts(limit, profile),
            ..figures.limit(&limit.name, Some(limit))
        },
    }
}

/// The amounts of single models, by the names under which their calls are counted.
fn model_amounts(limit: &profile::Limit, profile: &Profile) -> BTreeMap<String, LimitAmount> {
    let named = limit.per_model.iter().flat_map(|own| own.models.iter().map(|model| (model, own.amount)));
    let counted = named.flat_map(|(model, amount)| {
        let class = if profile.is_model_class(model) { model } else { profile.model_class(model) };
        let amount = LimitAmount { amount, declared: None };
        profile.counted_names(class).into_iter().map(move |name| (name, amount))
    });
    counted.collect()
}

/// The quota's own limit. What it does not set, it takes from the tier's limit of the same name.
fn of_spec(
    limit: &quota::Limit,
    base: Option<&profile::Limit>,
    profile: &Profile,
    at: &str,
) -> Result<Declared, Problem> {
    let problem = |field: &str, message: String| Err(Problem::new(format!("{at}.{field}"), message));
    let amount =
        limit.amount.of(limit.unit).map_err(|message| Problem::new(format!("{at}.amount"), message))?;
    let unit = spec_unit(limit.unit);
    if let Some(base) = base.filter(|base| unit_of(base.unit) != unit) {
        let message = format!(
            "{unit:?} can't replace the tier's limit `{}`, which counts {:?}; give this one another name",
            base.name, base.unit
        );
        return problem("unit", message);
    }
    if let Some(message) = uncountable(unit, profile) {
        return problem("unit", message.to_owned());
    }
    if !limit.models.is_empty() && profile.model.is_none() {
        let message = "the provider's profile does not say where a request names its model; add `model` to it, or \
            remove the models";
        return problem("models", message.to_owned());
    }
    let seconds = limit.window_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    let period = limit.period.map(profile::Period::from);
    let window = period.map_or(Duration::from_secs(seconds), profile::Period::longest);
    let own = base.map_or(CountedAs::Unknown, |base| counted_as(base.counted_as()));
    let figures = Figures {
        unit,
        amount,
        window,
        period: period.map(|period| calendar_period(period, limit.time_zone.as_deref())),
        counted_as: limit.counted_as.map_or(own, spec_counted_as),
        tokens: tokens::of_spec(unit, window, base, limit).or(tokens::of_credits(unit, profile)),
    };
    let mut compiled = figures.limit(&limit.name, base);
    let models_field = match limit.models.is_empty() {
        true => "spec.provider.name".to_owned(),
        false => {
            compiled.models.clone_from(&limit.models);
            format!("{at}.models")
        }
    };
    Ok(Declared { field: format!("{at}.amount"), models_field, limit: compiled })
}

/// Why nothing can be counted of a unit, and what to do.
fn uncountable(unit: Unit, profile: &Profile) -> Option<&'static str> {
    match unit {
        _ if unit.counts_tokens() && !profile.tells_usage() => Some(
            "tokens and Dollars can't be counted, because no answer of the provider tells what a call has used; say in \
             `tokens.usage` of its profile where answers do, or limit Requests",
        ),
        Unit::Dollars if !profile.has_prices() => Some(
            "Dollars can't be counted, because the provider's profile has no prices; add `models` with `prices` to it, \
             or limit tokens",
        ),
        Unit::Credits if !profile.has_credits() => Some(
            "Credits can't be counted, because nothing says how many a call costs; say it in `credits` of the provider's \
             profile, or limit Requests of the endpoint",
        ),
        _ => None,
    }
}

/// What tells a limit of the quota from the tier's that it replaces.
struct Figures {
    unit: Unit,
    amount: u64,
    window: Duration,
    period: Option<CalendarPeriod>,
    counted_as: CountedAs,
    tokens: Option<TokenLimit>,
}

impl Figures {
    fn limit(self, name: &str, base: Option<&profile::Limit>) -> LimitConfig {
        LimitConfig {
            name: name.to_owned(),
            unit: self.unit,
            amount: self.amount,
            declared: None,
            model_amounts: BTreeMap::new(),
            window: self.window,
            // No stretch of a period's longest length has more than one period allows.
            counted_as: if self.period.is_some() { CountedAs::FixedWindow } else { self.counted_as },
            period: self.period,
            delivery: delivery(self.window, base.and_then(|base| base.delivery_millis)),
            burst: base.and_then(|base| base.burst),
            pacing: Pacing::TokenBucket,
            endpoint: base.and_then(|base| base.endpoint.clone()),
            except_endpoints: Vec::new(),
            models: base.map(|base| base.models.clone()).unwrap_or_default(),
            // A count for each endpoint is kept as one for all of them, which is stricter.
            per_model: base.is_some_and(|base| base.partition == Some(Partition::Model)),
            tokens: self.tokens,
        }
    }
}

/// Leaves out the calls that count under the limits of their endpoint alone.
fn counted_apart(limit: LimitConfig, profile: &Profile) -> LimitConfig {
    if limit.endpoint.is_some() {
        return limit;
    }
    LimitConfig { except_endpoints: profile.endpoints_apart().map(str::to_owned).collect(), ..limit }
}

/// This cluster's part of a limit, spread as the quota asks.
fn ours(declared: Declared, spec: &ApiQuotaSpec) -> Result<LimitConfig, Problem> {
    let Declared { field, mut limit, .. } = declared;
    let share = share(spec);
    let hard = limit.amount;
    limit.amount = share.of(hard);
    if limit.amount == 0 {
        let message = format!(
            "of limit `{}` ({hard}), {} % less a reserve of {} % is not even 1; \
             raise sharePercent, lower reservePercent, or declare a larger amount under `limits`",
            limit.name, share.percent, share.reserve_percent
        );
        return Err(Problem::new(field, message));
    }
    limit.declared = (limit.amount != hard).then_some(hard);
    for own in limit.model_amounts.values_mut() {
        let hard = own.amount;
        own.amount = share.of(hard).max(1);
        own.declared = (own.amount != hard).then_some(hard);
    }
    // The other parts' bursts come from the same bucket.
    limit.burst = limit.burst.map(|burst| share.of(burst).max(1));
    if limit.unit == Unit::Requests {
        pace(&mut limit, spec);
    }
    Ok(limit)
}

/// The models of a limit by the names under which calls are counted: the class of a model that has
/// one. A pattern can't be distinguished from them; a limit that it covered would not be enforced.
fn counted_models(mut limit: LimitConfig, field: &str, profile: &Profile) -> Result<LimitConfig, Problem> {
    if let Some(pattern) = limit.models.iter().find(|model| model.contains('*')) {
        let message = format!(
            "the limit `{}` covers the models `{pattern}` by a pattern; give them a class in the \
             provider's model.classes and name that",
            limit.name
        );
        return Err(Problem::new(field, message));
    }
    for model in &mut limit.models {
        if !profile.is_model_class(model) {
            *model = profile.model_class(model).to_owned();
        }
    }
    limit.models.dedup();
    limit.models = limit.models.iter().flat_map(|model| profile.counted_names(model)).collect();
    Ok(limit)
}

/// Our pacing lowers what the provider's counting allows, and never raises it.
fn pace(limit: &mut LimitConfig, spec: &ApiQuotaSpec) {
    if spec.pacing.as_ref().and_then(|pacing| pacing.algorithm) == Some(PacingAlgorithm::LeakyBucket) {
        limit.pacing = Pacing::LeakyBucket;
    }
    if let Some(burst) = spec.burst() {
        let windowed = matches!(limit.counted_as, CountedAs::FixedWindow | CountedAs::SlidingWindow);
        let allowed = match limit.burst {
            Some(allowed) => allowed,
            None if windowed => limit.amount,
            None => limit.default_burst(),
        };
        limit.burst = Some(burst.min(allowed));
    }
}

/// This cluster's part of the account.
pub(super) fn share(spec: &ApiQuotaSpec) -> Share {
    let [percent, reserve_percent] =
        [spec.share_percent(), spec.reserve_percent()].map(|percent| u8::try_from(percent).unwrap_or(0));
    Share { percent, reserve_percent }
}

/// J, the bound from the wire to the provider's count: what the profile sets, else 0.3 s for
/// windows of 10 s and less, 1 s for those of 60 s and more, and on a line in between.
fn delivery(window: Duration, millis: Option<u32>) -> Duration {
    let seconds = window.as_secs().clamp(10, 60) - 10;
    let line = SHORT_DELIVERY_MILLIS + (LONG_DELIVERY_MILLIS - SHORT_DELIVERY_MILLIS) * seconds / 50;
    // Concurrency has no window: the longer bound is the careful one.
    let own = if window.is_zero() { LONG_DELIVERY_MILLIS } else { line };
    Duration::from_millis(millis.map_or(own, u64::from))
}

fn unit_of(unit: profile::Unit) -> Unit {
    match unit {
        profile::Unit::Requests => Unit::Requests,
        profile::Unit::ConcurrentRequests => Unit::ConcurrentRequests,
        profile::Unit::InputTokens => Unit::InputTokens,
        profile::Unit::OutputTokens => Unit::OutputTokens,
        profile::Unit::TotalTokens => Unit::TotalTokens,
        profile::Unit::Credits => Unit::Credits,
        profile::Unit::Dollars => Unit::Dollars,
    }
}

/// The same for a quota's unit.
fn spec_unit(unit: quota::Unit) -> Unit {
    match unit {
        quota::Unit::Requests => Unit::Requests,
        quota::Unit::ConcurrentRequests => Unit::ConcurrentRequests,
        quota::Unit::InputTokens => Unit::InputTokens,
        quota::Unit::OutputTokens => Unit::OutputTokens,
        quota::Unit::TotalTokens => Unit::TotalTokens,
        quota::Unit::Credits => Unit::Credits,
        quota::Unit::Dollars => Unit::Dollars,
    }
}

fn calendar_period(period: profile::Period, zone: Option<&str>) -> CalendarPeriod {
    let kind = match period {
        profile::Period::Day => PeriodKind::Day,
        profile::Period::Week => PeriodKind::Week,
        profile::Period::Month => PeriodKind::Month,
    };
    CalendarPeriod { kind, time_zone: zone.unwrap_or(DEFAULT_ZONE).to_owned() }
}

fn counted_as(counted_as: profile::CountedAs) -> CountedAs {
    match counted_as {
        profile::CountedAs::Unknown => CountedAs::Unknown,
        profile::CountedAs::TokenBucket => CountedAs::TokenBucket,
        profile::CountedAs::LeakyBucket => CountedAs::LeakyBucket,
        profile::CountedAs::FixedWindow => CountedAs::FixedWindow,
        profile::CountedAs::SlidingWindow => CountedAs::SlidingWindow,
    }
}

fn spec_counted_as(counted_as: quota::CountedAs) -> CountedAs {
    match counted_as {
        quota::CountedAs::Unknown => CountedAs::Unknown,
        quota::CountedAs::TokenBucket => CountedAs::TokenBucket,
        quota::CountedAs::LeakyBucket => CountedAs::LeakyBucket,
        quota::CountedAs::FixedWindow => CountedAs::FixedWindow,
        quota::CountedAs::SlidingWindow => CountedAs::SlidingWindow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_grows_with_the_window_and_yields_to_the_profile() {
        let table = [(0, 1000), (1, 300), (10, 300), (20, 440), (35, 650), (60, 1000), (86_400, 1000)];
        for (window, millis) in table {
            assert_eq!(
                delivery(Duration::from_secs(window), None),
                Duration::from_millis(millis),
                "{window} s"
            );
        }
        assert_eq!(delivery(Duration::from_secs(60), Some(250)), Duration::from_millis(250));
    }
}
