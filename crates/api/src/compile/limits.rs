//! The limits of an account: the tier's, with the quota's own in their place or on top, less what
//! is not this cluster's.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_dialects::profile::{self, Partition, Profile, Tier};
use quotakeeper_engine::config::{CountedAs, LimitConfig, Pacing, Unit};
use quotakeeper_wire::tier::Share;

use crate::problem::Problem;
use crate::quota::{self, ApiQuotaSpec, PacingAlgorithm};

/// J for windows of a minute and more.
const LONG_DELIVERY_MILLIS: u64 = 1000;
/// J for windows of ten seconds and less.
const SHORT_DELIVERY_MILLIS: u64 = 300;

/// The limits of an account.
#[derive(Debug)]
pub(super) struct Limits {
    /// What the engine enforces: requests and concurrency.
    pub(super) enforced: Vec<LimitConfig>,
    /// The tier's other limits, as `name (unit)`.
    pub(super) not_enforced: Vec<String>,
}

/// A limit before share and reserve, and the field that a person can change.
struct Declared {
    field: String,
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
        match of_tier(limit) {
            Some(limit) => declared.push(limit),
            None => not_enforced.push(format!("{} ({:?})", limit.name, limit.unit)),
        }
    }
    for (index, limit) in spec.limits.iter().enumerate() {
        let base = tier.and_then(|tier| tier.limit(&limit.name));
        match of_spec(limit, base, &format!("spec.limits[{index}]")) {
            Ok(limit) => {
                declared.retain(|other: &Declared| other.limit.name != limit.limit.name);
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
    let mut enforced = Vec::new();
    for limit in declared {
        match ours(limit, spec).and_then(|limit| counted_models(limit, profile)) {
            Ok(limit) => enforced.push(counted_apart(limit, profile)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(Limits { enforced, not_enforced }) } else { Err(problems) }
}

fn of_tier(limit: &profile::Limit) -> Option<Declared> {
    let figures = Figures {
        unit: unit_of(limit.unit)?,
        amount: limit.amount,
        window: limit.window().unwrap_or_default(),
        counted_as: counted_as(limit.counted_as()),
    };
    let limit = figures.limit(&limit.name, Some(limit));
    Some(Declared { field: "spec.account.sharePercent".to_owned(), limit })
}

/// The quota's own limit. What it does not set, it takes from the tier's limit of the same name.
fn of_spec(limit: &quota::Limit, base: Option<&profile::Limit>, at: &str) -> Result<Declared, Problem> {
    let amount = limit.amount.units().map_err(|message| Problem::new(format!("{at}.amount"), message))?;
    let unit = match limit.unit {
        quota::Unit::Requests => Unit::Requests,
        quota::Unit::ConcurrentRequests => Unit::ConcurrentRequests,
    };
    if let Some(base) = base.filter(|base| unit_of(base.unit) != Some(unit)) {
        let message = format!(
            "{unit:?} can't replace the tier's limit `{}`, which counts {:?}; give this one another name",
            base.name, base.unit
        );
        return Err(Problem::new(format!("{at}.unit"), message));
    }
    let seconds = limit.window_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let own = base.map_or(CountedAs::Unknown, |base| counted_as(base.counted_as()));
    let figures = Figures {
        unit,
        amount,
        window: Duration::from_secs(seconds.unwrap_or(0)),
        counted_as: limit.counted_as.map_or(own, spec_counted_as),
    };
    Ok(Declared { field: format!("{at}.amount"), limit: figures.limit(&limit.name, base) })
}

/// What tells a limit of the quota from the tier's that it replaces.
struct Figures {
    unit: Unit,
    amount: u64,
    window: Duration,
    counted_as: CountedAs,
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
            counted_as: self.counted_as,
            delivery: delivery(self.window, base.and_then(|base| base.delivery_millis)),
            burst: base.and_then(|base| base.burst),
            pacing: Pacing::TokenBucket,
            endpoint: base.and_then(|base| base.endpoint.clone()),
            except_endpoints: Vec::new(),
            models: base.map(|base| base.models.clone()).unwrap_or_default(),
            // A count for each endpoint is kept as one for all of them, which is stricter.
            per_model: base.is_some_and(|base| base.partition == Some(Partition::Model)),
            tokens: None,
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
    let Declared { field, mut limit } = declared;
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
    // The other parts' bursts come from the same bucket.
    limit.burst = limit.burst.map(|burst| share.of(burst).max(1));
    if limit.unit == Unit::Requests {
        pace(&mut limit, spec);
    }
    Ok(limit)
}

/// The models of a limit by the names under which calls are counted: the class of a model that has
/// one. A pattern can't be distinguished from them; a limit that it covered would not be enforced.
fn counted_models(mut limit: LimitConfig, profile: &Profile) -> Result<LimitConfig, Problem> {
    if let Some(pattern) = limit.models.iter().find(|model| model.contains('*')) {
        let message = format!(
            "the provider's limit `{}` covers the models `{pattern}` by a pattern; give them a class in the \
             provider's model.classes and name that",
            limit.name
        );
        return Err(Problem::new("spec.provider.name", message));
    }
    let is_class =
        |name: &str| profile.model.iter().flat_map(|it| &it.classes).any(|class| class.name == name);
    for model in &mut limit.models {
        if !is_class(model) {
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

fn unit_of(unit: profile::Unit) -> Option<Unit> {
    match unit {
        profile::Unit::Requests => Some(Unit::Requests),
        profile::Unit::ConcurrentRequests => Some(Unit::ConcurrentRequests),
        profile::Unit::InputTokens
        | profile::Unit::OutputTokens
        | profile::Unit::TotalTokens
        | profile::Unit::Credits => None,
    }
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
