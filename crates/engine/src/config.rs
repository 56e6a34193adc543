//! The configuration of one account: its limits, its queue, its pauses.
//!
//! Plain values, written by whoever compiled a quota with its provider's profile. Nothing here
//! is validated again: [`AccountConfig::problems`] says what an engine cannot work with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Consumer;
use crate::sharing::Sharing;

/// The largest window of requests. Each call is kept until it leaves a window shorter than an hour, in about
/// 60 bytes: a window of this size that is used to the full takes 600 MB. One that is not costs
/// what is used of it; what is only assumed to be used costs nothing.
pub const MOST_REQUESTS: u64 = 10_000_000;

/// A dollar, as limits of [`Unit::Dollars`] count it.
pub const NANODOLLARS: u64 = 1_000_000_000;

/// Everything that an engine knows of its account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountConfig {
    /// Whether calls are held at all.
    pub mode: Mode,
    /// What happens to a call that cannot be granted at once.
    pub on_exceeded: OnExceeded,
    /// How long after its echo a grant may be written (D).
    pub validity: Duration,
    /// The account's limits; a call draws on all that cover it, or on none.
    pub limits: Vec<LimitConfig>,
    /// Its amounts are only assumed, and no answer has told better ones yet: calls wait for the first answer, however
    /// long they would wait by the amounts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
    /// Whether its amounts are all of the account's.
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub extent: Extent,
    /// Bounds of the queue.
    pub queue: QueueConfig,
    /// How rejections pause the account.
    pub pause: PauseConfig,
    /// What is known of models, by name; calls of others are bounded by `any_model`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelFacts>,
    /// The same of a model that is not known: the dearest and largest of each figure.
    #[serde(default)]
    pub any_model: ModelFacts,
    /// Weights of consumers, by name; a consumer that is not named has weight 1. Not in force yet: no field of
    /// a quota sets a weight, so compiled accounts have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Consumer, u32>,
    /// How it is shared.
    #[serde(default)]
    pub sharing: Sharing,
}

/// Whether an engine has all of its account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// All of it.
    #[default]
    Whole,
    /// A part for a while: a call that needs more waits, and is not refused for that.
    Part,
    /// A part, and nobody knows for how long: calls wait, however long they would wait by its amounts.
    PartForNow,
}

impl Extent {
    /// Whether it is all of it.
    pub fn is_whole(&self) -> bool {
        *self == Extent::Whole
    }
}

/// Whether the engine holds calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Calls wait for their turn.
    Enforce,
    /// Every call is granted at once and still counted: the switch for incidents.
    Disabled,
}

/// What happens to a call that cannot be granted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExceeded {
    /// It waits, as long as its client is patient.
    Queue,
    /// It is refused.
    Reject,
}

/// One limit of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitConfig {
    /// Its name in the quota or the profile; unique in the account.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// How much of the unit may be used in a window, or at a time (N). 0 refuses every call that it covers.
    pub amount: u64,
    /// The provider's own figure that `amount` is our part of; `None`: `amount` itself. An observed
    /// figure below it lowers `amount` in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u64>,
    /// Models with another amount than `amount`, where models are counted apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub model_amounts: BTreeMap<String, LimitAmount>,
    /// The window (W), or the longest that `period` can last; without meaning for [`Unit::ConcurrentRequests`].
    pub window: Duration,
    /// The calendar's period in which it counts anew from nothing; `None`: a window of any phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<CalendarPeriod>,
    /// How the provider counts.
    pub counted_as: CountedAs,
    /// The bound from a request's first byte on the wire to its count at the provider (J).
    pub delivery: Duration,
    /// The bucket (b): what may arrive at once. `None`: [`LimitConfig::default_burst`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// How we spread calls on top of how the provider counts.
    pub pacing: Pacing,
    /// Covers only calls of this endpoint of the profile; `None`: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Covers no calls of these endpoints, which the provider counts apart or not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except_endpoints: Vec<String>,
    /// Covers only calls that name one of these models; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Counted apart for each model.
    #[serde(default)]
    pub per_model: bool,
    /// How it counts tokens; `None`: it counts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenLimit>,
}

/// A calendar's period. Its beginnings and ends as engine times come from whoever knows the time of day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CalendarPeriod {
    /// Its kind.
    pub kind: PeriodKind,
    /// The IANA name of its time zone.
    pub time_zone: String,
}

/// A kind of period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeriodKind {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the next.
    Month,
}

/// How a limit counts tokens, or what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenLimit {
    /// When the provider counts.
    pub charged: Charged,
    /// What it counts of a call that has just arrived; needed for [`Charged::AtArrival`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<ArrivalFormula>,
    /// What it counts for each token. Of [`Unit::Dollars`], the model's prices are taken instead.
    #[serde(default)]
    pub rates: TokenRates,
    /// What is held for a call meanwhile.
    #[serde(default)]
    pub reserving: Reserving,
}

/// How much of a limit may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitAmount {
    /// As [`LimitConfig::amount`].
    pub amount: u64,
    /// As [`LimitConfig::declared`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u64>,
}

impl LimitAmount {
    /// The provider's own figure.
    pub fn hard(&self) -> u64 {
        self.declared.unwrap_or(self.amount)
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Calls in a window.
    Requests,
    /// Calls that are under way at the same time.
    ConcurrentRequests,
    /// Tokens that calls send, in a window.
    InputTokens,
    /// Tokens that calls get, in a window.
    OutputTokens,
    /// Both together.
    TotalTokens,
    /// The provider's own unit, of which an endpoint draws a number that its profile says.
    Credits,
    /// Money, in nanodollars.
    Dollars,
}

impl Unit {
    /// Whether what a call draws of it depends on its tokens.
    pub fn counts_tokens(self) -> bool {
        matches!(self, Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens | Unit::Dollars)
    }
}

/// When the provider counts what a call draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Charged {
    /// When it arrives, by what the request says; its usage changes nothing.
    #[default]
    AtArrival,
    /// By an estimate when it arrives, which its usage corrects at the end.
    Settled,
    /// As its output is produced.
    AsProduced,
    /// Not known: any of the others.
    Unknown,
}

/// How a provider counts tokens of a call that has just arrived ([`Charged::AtArrival`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArrivalFormula {
    /// Bytes of text that it takes for one token; at least 1.
    pub bytes_per_token: u64,
    /// What it makes of the most output tokens that the request allows.
    pub output: ArrivalOutput,
    /// It is known to be what the provider computes. Otherwise what headers say corrects it.
    pub exact: bool,
}

/// What a provider makes of the most output tokens that a request allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArrivalOutput {
    /// Added to the input.
    Added,
    /// The larger of it and the input counts.
    Largest,
    /// It counts input alone.
    Ignored,
}

/// What a limit counts for each token, by its kind: 1 for tokens, a weight where the provider has one, picodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[serde(rename_all = "camelCase")]
pub struct TokenRates {
    /// For a token of input that no cache knew.
    pub input: u64,
    /// For a token of input that was read from a cache.
    pub cached: u64,
    /// For a token of input that was written to a cache.
    pub cache_write: u64,
    /// For a token of output.
    pub output: u64,
}

/// What is held for a call from its grant until its usage is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reserving {
    /// The most that it can use: nothing is overspent, and what is not used comes back at its end.
    Bound,
    /// What such calls use, learned from those before; 0.9 of them use less.
    #[default]
    Learned,
}

/// What is known of a model before any call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelFacts {
    /// The most output tokens of one completion; `None`: not known.
    pub max_output: Option<u64>,
    /// The most tokens of input and output together; `None`: not known.
    pub context: Option<u64>,
    /// Picodollars; `None`: its price is not known.
    pub prices: Option<ModelPrices>,
    /// No call lasts longer; `None`: as long as the account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_call: Option<Duration>,
}

/// The prices of a model, in picodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ModelPrices {
    /// Per token.
    pub tokens: TokenRates,
    /// Per call, whatever its tokens.
    #[serde(default)]
    pub call: u64,
}

/// How the provider counts a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CountedAs {
    /// Not known: log and bucket, right for all of the others.
    Unknown,
    /// A bucket of the limit's `burst` that refills at N/W.
    TokenBucket,
    /// The same arithmetic, seen from the other side: a bucket that leaks at N/W.
    LeakyBucket,
    /// N in a window of unknown phase.
    FixedWindow,
    /// N in every stretch of W.
    SlidingWindow,
}

/// How calls are spread within what the provider allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pacing {
    /// A burst, then the rate.
    TokenBucket,
    /// Evenly: grants are at least W/N apart.
    LeakyBucket,
}

/// Bounds of an account's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueConfig {
    /// The longest that a call may wait, whatever its client would bear.
    pub max_wait: Duration,
    /// The same for a time in which no limiter answers; none: it waits as long as its client, and that time does not
    /// count towards `max_wait`.
    #[serde(default)]
    pub max_absence: Option<Duration>,
    /// The longest that a call may wait for a budget that is used up; none: as long as for anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_budget_wait: Option<Duration>,
    /// The most calls that may wait at the same time.
    pub max_calls: usize,
}

/// How rejections pause an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseConfig {
    /// The pause after a rejection that names no time; doubled with each one that follows.
    pub fallback: Duration,
    /// No pause is longer than this without asking the provider again by a probe.
    pub cap: Duration,
    /// A probe that was sent this long ago and not rejected counts as accepted: rejections are
    /// answered at once, while a model may think for a minute.
    pub probe_patience: Duration,
    /// No call lasts longer, of a model of which nothing else is known: the slot of one whose proxy has vanished is free
    /// after this.
    pub max_call: Duration,
}

impl LimitConfig {
    /// Whether it is a budget rather than a rate: it counts money, or a window of an hour or more.
    pub fn is_budget(&self) -> bool {
        self.unit == Unit::Dollars || self.has_long_window()
    }

    /// Whether its window is so long that nobody waits for it to pass: an hour or more.
    pub fn has_long_window(&self) -> bool {
        self.window >= crate::window_counter::LONG
    }

    /// Whether it holds the most that a call can use until its usage is known.
    pub fn holds_the_most(&self) -> bool {
        self.unit.counts_tokens()
            && self.tokens.as_ref().is_some_and(|tokens| tokens.reserving == Reserving::Bound)
    }

    /// How much a model may use, or all calls where models are not counted apart.
    pub fn amount_of(&self, model: Option<&str>) -> LimitAmount {
        let own = model.and_then(|model| self.model_amounts.get(model));
        own.copied().unwrap_or(LimitAmount { amount: self.amount, declared: self.declared })
    }

    /// The most that may be used by any one of its models.
    pub fn largest_amount(&self) -> u64 {
        self.model_amounts.values().map(|own| own.amount).fold(self.amount, u64::max)
    }

    /// b where none is set: enough for the calls that are between the grant and the provider's
    /// count at full rate, and at least 1 % of the limit: max(2, N/100, ⌈(N/W)(J + 0.1 s)⌉ + 2),
    /// at most N. This assumes a provider that bears a burst of b. Of tokens, credits and money: N.
    pub fn default_burst(&self) -> u64 {
        self.default_burst_of(self.amount)
    }

    /// The longest usual time between a grant and the provider's count.
    pub(crate) fn hold(&self) -> Duration {
        self.delivery + Duration::from_millis(100)
    }

    fn default_burst_of(&self, amount: u64) -> u64 {
        // No documented bucket of tokens is smaller, and a part of one may be less than a single call.
        if self.unit.counts_tokens() || self.unit == Unit::Credits {
            return amount;
        }
        let window = self.window.as_nanos().max(1);
        let hold = self.hold().as_nanos();
        let under_way = (u128::from(amount) * hold).div_ceil(window);
        let under_way = u64::try_from(under_way).unwrap_or(u64::MAX).saturating_add(2);
        under_way.max(amount / 100).max(2).min(amount)
    }

    /// The bucket's size that is in force.
    pub fn effective_burst(&self) -> u64 {
        self.burst_of(self.amount)
    }

    /// The same for a model with an amount of its own.
    pub(crate) fn burst_of(&self, amount: u64) -> u64 {
        self.burst.unwrap_or_else(|| self.default_burst_of(amount)).clamp(1, amount.max(1))
    }
}

impl AccountConfig {
    /// Whether a limit of this name is enforced.
    pub fn has_limit(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| limit.name == name)
    }

    /// How long calls last at most, whatever their model.
    pub fn longest_call(&self) -> Duration {
        let own = self.models.values().chain([&self.any_model]).filter_map(|facts| facts.max_call);
        own.fold(self.pause.max_call, Duration::max)
    }

    /// The same of a model.
    pub fn longest_call_of(&self, model: &str) -> Duration {
        match self.models.get(model) {
            Some(facts) => facts.max_call.unwrap_or(self.pause.max_call),
            None => self.longest_call(),
        }
    }

    /// The account's limits, and those of its allocations.
    pub fn limits_in_force(&self) -> impl Iterator<Item = LimitConfig> {
        let of_allocations = self.sharing.limits(&self.limits).map(|limit| limit.config);
        self.limits.iter().cloned().chain(of_allocations)
    }

    /// What an engine cannot work with, one sentence each; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.validity.is_zero() {
            problems.push("validity must be longer than 0".to_owned());
        }
        let limits: Vec<LimitConfig> = self.limits_in_force().collect();
        for (index, limit) in limits.iter().enumerate() {
            let (name, amount) = (&limit.name, limit.largest_amount());
            if limit.unit == Unit::Requests && amount > MOST_REQUESTS {
                problems.push(format!(
                    "limit {name}: {amount} requests a window are more than can be kept apart; the most is {MOST_REQUESTS}"
                ));
            }
            if limit.unit != Unit::ConcurrentRequests && limit.window.is_zero() {
                problems.push(format!("limit {}: window must be longer than 0", limit.name));
            }
            if limits[..index].iter().any(|other| other.name == limit.name) {
                problems.push(format!("limit {}: the name is used twice", limit.name));
            }
        }
        problems.extend(self.sharing.problems());
        problems
    }
}
