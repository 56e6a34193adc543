//! How limits count tokens, and what is known of models: how much they produce, how much they read, what they cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::matches_name;
use super::{Limit, Profile};
use crate::decimal;

/// When the provider counts what a call costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Charged {
    /// Not known: kept so that it fits each of the others.
    #[default]
    Unknown,
    /// When the call arrives, by what the request says; its usage changes nothing.
    AtArrival,
    /// By an estimate when the call arrives, which its usage corrects at the end.
    Settled,
    /// As the output is produced.
    AsProduced,
}

/// How a provider estimates the tokens of a call that has just arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Formula {
    /// Bytes of text that it takes for one token. Default: 4. Example: `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100), extend("format" = "int32"))]
    pub bytes_per_token: Option<u32>,

    /// What it makes of the most output that the request allows: `Added` to the input, the `Largest` of the two, or
    /// `Ignored`. Default: `Added`, the most. Example: `Largest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<FormulaOutput>,

    /// Whether the provider is known to compute just this. Otherwise what it tells in headers corrects it.
    /// Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
}

/// What a provider makes of the most output that a request allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FormulaOutput {
    /// It is added to the input.
    #[default]
    Added,
    /// The larger of it and the input counts.
    Largest,
    /// The input alone counts.
    Ignored,
}

/// How much of the limit a token draws, by its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// A token of input that no cache had. Default: 1; 0 for `OutputTokens`. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("format" = "int32"))]
    pub input: Option<u32>,

    /// A token of input that was read from a cache. Default: as `input`. Example: `0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("format" = "int32"))]
    pub cached: Option<u32>,

    /// A token of input that was written to a cache. Default: as `input`. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("format" = "int32"))]
    pub cache_write: Option<u32>,

    /// A token of output. Default: 1; 0 for `InputTokens`. Example: `5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("format" = "int32"))]
    pub output: Option<u32>,
}

/// What is known of models before any call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KnownModel {
    /// Names of the models; a trailing `*` stands for any rest, and then a class of `model.classes` covers them.
    /// Example: `[gpt-4o-mini*]`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 256)))]
    pub names: Vec<String>,

    /// The most tokens of one completion, hidden reasoning included; 0 for models that produce none.
    /// Default: not known, the largest of all models counts. Example: `16384`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000_000), extend("format" = "int32"))]
    pub max_output_tokens: Option<u32>,

    /// The most tokens of input and output together. Default: not known, the largest of all models counts.
    /// Example: `128000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000), extend("format" = "int32"))]
    pub context_tokens: Option<u32>,

    /// The longest that a call takes from its grant to the end of its answer, in seconds. Default: `maxCallSeconds` of
    /// the provider. Example: `3600`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400), extend("format" = "int32"))]
    pub max_call_seconds: Option<u32>,

    /// What its calls cost. Default: not known, the dearest of all models counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

/// Dollars per million tokens, as decimals. Where a price depends on the length of the context or the lifetime of a
/// cache, the dearest stands here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// Input that no cache had. Example: `"0.15"`.
    #[schemars(length(max = 16), regex(pattern = "^(0|[1-9][0-9]{0,6})([.][0-9]{1,6})?$"))]
    pub input: String,

    /// Input that was read from a cache. Default: as `input`. Example: `"0.075"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^(0|[1-9][0-9]{0,6})([.][0-9]{1,6})?$"))]
    pub cached: Option<String>,

    /// Input that was written to a cache. Default: as `input`. Example: `"3.75"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^(0|[1-9][0-9]{0,6})([.][0-9]{1,6})?$"))]
    pub cache_write: Option<String>,

    /// Output, hidden reasoning included; `"0"` for models that produce none. Example: `"0.60"`.
    #[schemars(length(max = 16), regex(pattern = "^(0|[1-9][0-9]{0,6})([.][0-9]{1,6})?$"))]
    pub output: String,

    /// Dollars per call, beside its tokens. Default: 0. Example: `"0.005"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^(0|[1-9][0-9]{0,6})([.][0-9]{1,6})?$"))]
    pub call: Option<String>,
}

/// From when and where a list of prices is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceList {
    /// Month or day on which the prices were looked up, ISO 8601. Example: `2026-11`.
    #[schemars(length(min = 7, max = 10), regex(pattern = "^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$"))]
    pub as_of: String,

    /// The document. Example: `https://openai.com/api/pricing`.
    #[schemars(length(min = 1, max = 512))]
    pub source: String,
}

impl Prices {
    /// Each price with the name of its field.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let given = |name, text: &'_ Option<String>| text.as_ref().map(|_| name);
        let optional = [
            (given("cached", &self.cached), self.cached.as_deref()),
            (given("cacheWrite", &self.cache_write), self.cache_write.as_deref()),
            (given("call", &self.call), self.call.as_deref()),
        ];
        let optional = optional.into_iter().filter_map(|(name, text)| Some((name?, text?)));
        [("input", self.input.as_str()), ("output", self.output.as_str())].into_iter().chain(optional)
    }
}

/// The price of one token in millionths of a millionth of a dollar, from dollars per million tokens; a text that is
/// no decimal of at most six places counts as nothing, and validation refuses it.
pub fn picodollars_per_token(per_million: &str) -> u64 {
    decimal::millionths(per_million).unwrap_or(0)
}

impl Limit {
    /// When the provider counts; `Unknown` by default.
    pub fn charged(&self) -> Charged {
        self.charged.unwrap_or_default()
    }
}

impl Profile {
    /// What is known of a model: the first entry that names it.
    pub fn known_model(&self, name: &str) -> Option<&KnownModel> {
        let names = |known: &&KnownModel| known.names.iter().any(|pattern| matches_name(pattern, name));
        self.models.iter().find(names)
    }

    /// Whether answers tell what calls have used.
    pub fn tells_usage(&self) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.usage.is_some())
    }

    /// Whether it is known what any model costs.
    pub fn has_prices(&self) -> bool {
        self.models.iter().any(|known| known.prices.is_some())
    }

    /// Whether this is the name of a class of models.
    pub fn is_model_class(&self, name: &str) -> bool {
        self.model.iter().flat_map(|model| &model.classes).any(|class| class.name == name)
    }
}
