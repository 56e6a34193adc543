//! A provider's profile: its API and dialect as data, the `spec` of an `ApiProvider`.
//!
//! Only types, and look-ups in them. What a profile means for one call is read in [`crate::request`],
//! [`crate::patience`] and [`crate::response`]; what makes one acceptable is in `profile/validate.rs`,
//! how one inherits from another in `profile/extends.rs`.
//!
//! The types become a CRD's schema: every string, list and number is bounded, nothing has a schema
//! default (a default in the schema keeps GitOps tools out of sync), absent means what the field says.

mod credits;
mod extends;
mod headers;
mod limits;
mod rejections;
mod stream;
mod token_limits;
mod tokens;
mod validate;

use std::time::Duration;

use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::suggestion::did_you_mean;

pub use credits::{CreditCost, CreditStep, DearerBy, ToldCredits};
pub use extends::ExtendsError;
pub use headers::{HeaderFormat, LimitHeader, ResetMeans, TimeFormat};
pub use limits::{CountedAs, Limit, ModelAmount, Partition, Period, Tier, Unit};
pub use rejections::{
    BodyCondition, Class, HeaderCondition, HeaderState, NameInText, Rejection, ScopeKind, WaitSource,
};
pub use stream::{EventStream, StreamStatus};
pub use token_limits::{
    Charged, Formula, FormulaOutput, KnownModel, PriceList, Prices, Weights, picodollars_per_token,
};
pub use tokens::{Media, MediaOfModel, StoredInput, Tokens, Usage, UsageRequest};
pub use validate::Problem;

/// A list of `u16` whose items a CRD can describe: it has no format `uint16`.
fn int32_items(schema: &mut schemars::Schema) {
    if let Some(items) = schema.get_mut("items").and_then(|items| items.as_object_mut()) {
        items.insert("format".to_owned(), "int32".into());
    }
}

/// What a provider is and what its limits mean: hosts, tiers, limit headers, rejections, retries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Name of the provider that this one inherits from. A list given here replaces the inherited one,
    /// except `rejections`, which come before the inherited ones; a provider that names its own `hosts`
    /// does not inherit `baseUrl`, `models` and `prices`. Default: inherits nothing. Example: `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub extends: Option<String>,

    /// Host names of the API, without port; a leading `*.` stands for one or more labels.
    /// Default: none, calls reach the proxy by base URL only. Example: `[api.openai.com]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,

    /// How SDKs are pointed at the proxy by an environment variable.
    /// Default: absent, the SDKs have no such variable and their hosts are intercepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<BaseUrl>,

    /// Where requests carry their credential, the most usual place first. Passed on as they are; a keyed
    /// fingerprint tells the limiter which calls carry the same one, so that a refused key stops no other.
    /// Default: `authorization` alone. Example: `[{header: x-api-key}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub credentials: Vec<Credential>,

    /// Response headers that name the account which the provider charged; the first one present counts. Keys that
    /// the provider refuses until a person acts stop the account only if it names the same for two of them, or none.
    /// Default: none. Example: `[openai-organization]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 128)))]
    pub organization_headers: Vec<String>,

    /// Endpoints that the provider limits apart from the rest, or not at all; first match wins.
    /// Default: none, all calls are alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub endpoints: Vec<Endpoint>,

    /// Where a request names its model, and which models share a limit.
    /// Default: absent, the provider does not count by model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,

    /// What is known of models: the most that they produce and read, and what they cost; first match wins. A model that
    /// is not named counts as the largest and dearest of them. Default: none, limits of `Dollars` can't be kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub models: Vec<KnownModel>,

    /// From when and where the prices of `models` are; required where one has a price. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<PriceList>,

    /// Where requests say what tokens they may cost, and answers what they have cost.
    /// Default: absent, a request's text and the model's largest answer bound them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,

    /// What calls cost in the provider's own units; first match wins, calls that no entry covers cost none.
    /// Default: not known, limits of `Credits` can't be kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub credits: Vec<CreditCost>,

    /// The provider's plans, the lowest first: a quota without a tier starts there.
    /// A provider without plans has one tier named `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tiers: Vec<Tier>,

    /// Response headers with a limit's state. They can lower what is declared, never raise it.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<LimitHeader>,

    /// Answers that are rejections, first match wins. Two rules always follow: 429 is a `Quota` rejection of
    /// the account, and 503 with Retry-After is a `Capacity` rejection of the provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rejections: Vec<Rejection>,

    /// How the provider rejects calls in an event stream that it has begun with a success.
    /// Default: absent, event streams are passed on unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<EventStream>,

    /// Whether the provider charges a call that it rejected: `Counted` or `NotCounted`.
    /// Not in force yet: every rejected call is charged.
    /// Default: `Counted`, the safe reading. Example: `NotCounted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_calls: Option<RejectedCalls>,

    /// Which calls may be sent a second time.
    /// Default: GET, HEAD, OPTIONS, PUT and DELETE after any failure, any method after a 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// The longest that a call takes from its grant to the end of its answer, in seconds, of a model that `models` says
    /// nothing else of. Tokens and money of a call whose client has hung up are held for so long, and the slot of a call
    /// whose pod has vanished. One that lasts longer is counted as over. Default: 600, or `client.patienceSeconds` where that
    /// is more. Example: `120`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400), extend("format" = "int32"))]
    pub max_call_seconds: Option<u32>,

    /// Timeouts of the provider's usual clients. Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,

    /// When and against which document these figures were checked. Default: absent, not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// How SDKs are pointed at the proxy. The proxy serves `/<provider name>` and everything below it, and
/// forwards what follows that first segment, unchanged, to `upstream`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseUrl {
    /// Origin to which calls are forwarded: scheme, host and optional port, without a path. A pod keeps the one of
    /// its admission until it is restarted. Example: `https://api.openai.com`.
    #[schemars(length(min = 1, max = 300), regex(pattern = "^https?://[^/?#@]+$"))]
    pub upstream: String,

    /// Path with which all paths of the provider begin. Some clients expect it at the end of the base URL, others
    /// add it themselves: a call without it gets it, and one that has it twice has it once. Default: none.
    /// Example: `/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256))]
    pub path_prefix: Option<String>,

    /// Environment variables that are set for the application.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub variables: Vec<BaseUrlVariable>,
}

/// One environment variable; its value is `http://127.0.0.1:<port>/<provider name><path>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseUrlVariable {
    /// Name of the variable. Example: `OPENAI_BASE_URL`.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,

    /// Path that the SDK expects at the end of its base URL. Default: none. Example: `/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub path: Option<String>,
}

/// A request header that carries a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Name of the header. Example: `authorization`.
    #[schemars(length(min = 1, max = 128))]
    pub header: String,

    /// Authentication scheme before the secret. Default: none, the whole value is the secret.
    /// Example: `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub scheme: Option<String>,
}

/// A group of calls that the provider limits apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name by which limits refer to it. Example: `search`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// HTTP methods, in capitals. Default: every method. Example: `[POST]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32)))]
    pub methods: Vec<String>,

    /// Path patterns without query, any of which matches; `*` stands for exactly one segment.
    /// Example: `[/crm/v3/objects/*/search]`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub paths: Vec<String>,

    /// Whether its calls count under no limit but those that name the endpoint, and name no model: lists, uploads,
    /// polls of batches. A rejection of one pauses the endpoint alone. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<bool>,
}

/// Where a request names its model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// JSON pointer (RFC 6901) into the request's body. Default: not in the body. Example: `/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub body: Option<String>,

    /// The path segment after which the model's name stands. Default: not in the path.
    /// Example: `deployments`, for `/openai/deployments/my-gpt/chat/completions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub path_after: Option<String>,

    /// Text that ends the name within its path segment. Default: none, the name is the whole segment.
    /// Example: `":"`, for `/v1beta/models/gemini-2.5-pro:generateContent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub path_until: Option<String>,

    /// Where a request names its tier of service, and which tiers are counted apart. Default: one count for all tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,

    /// JSON pointers (RFC 6901) to the most tokens that the answer may have; the largest that is there counts. A
    /// metric of the proxy shows it. Default: unknown. Example: `[/max_completion_tokens, /max_tokens]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    pub max_output_tokens: Vec<String>,

    /// Models that share a limit, first match wins. Default: each model has limits of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub classes: Vec<ModelClass>,
}

/// Where a request names its tier of service, such as `flex` or `priority`, and which of them have limits of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTier {
    /// JSON pointer (RFC 6901) into the request's body. Example: `/service_tier`.
    #[schemars(length(min = 1, max = 256))]
    pub body: String,

    /// The tiers whose calls the provider counts apart from all others: each model has limits of its own in them, and
    /// pauses of its own. Example: `[priority]`.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 32)))]
    pub counted_apart: Vec<String>,
}

/// Models that the provider counts together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelClass {
    /// Name of the class. Example: `claude-sonnet-4`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Names of its models; a trailing `*` stands for any rest. Example: `[claude-sonnet-4*]`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)))]
    pub models: Vec<String>,
}

/// Whether the provider charges a call that it rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RejectedCalls {
    /// A rejected call is charged like any other.
    #[default]
    Counted,
    /// A rejected call costs nothing.
    NotCounted,
}

/// Which calls may be sent a second time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Methods that may be sent again after any failure, in capitals.
    /// Default: `[GET, HEAD, OPTIONS, PUT, DELETE]`, the idempotent ones of RFC 9110.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32)))]
    pub methods: Vec<String>,

    /// Statuses that say the call was not processed, so that any method may be sent again.
    /// Default: `[429]`. Example: `[429, 529]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 100, max = 599)), transform = int32_items)]
    pub unprocessed_statuses: Vec<u16>,

    /// Request header by which the provider recognises a repeated call: a request that has it may be sent
    /// again whatever its method. Default: none. Example: `idempotency-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub idempotency_header: Option<String>,

    /// Response header in which the provider advises on a retry, `true` or `false`.
    /// Default: `x-should-retry`. Example: `stripe-should-retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub advice_header: Option<String>,
}

/// Timeouts of the provider's usual clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Seconds after which the usual SDKs give up on a call, unless a request announces another timeout.
    /// Default: unknown. Example: `600`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400), extend("format" = "int32"))]
    pub patience_seconds: Option<u32>,

    /// The longest that a call may wait for its turn, in seconds, unless the quota sets
    /// `enforcement.maxQueueSeconds`. Default: 30. Example: `480`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400), extend("format" = "int32"))]
    pub max_queue_seconds: Option<u32>,

    /// Seconds after its date for which the provider accepts a signed request (AWS Signature Version 4,
    /// `x-amz-date`). A call that would wait longer is refused on arrival, so that its client signs it again.
    /// Default: 300. Example: `900`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400), extend("format" = "int32"))]
    pub signature_seconds: Option<u32>,
}

/// When and against which document a profile was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Month or day of the check, ISO 8601. Example: `2026-10`.
    #[schemars(length(min = 7, max = 10), regex(pattern = "^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$"))]
    pub date: String,

    /// The document. Example: `https://platform.openai.com/docs/guides/rate-limits`.
    #[schemars(length(min = 1, max = 512))]
    pub source: String,
}

/// A tier that the provider does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tier `{asked}` is unknown{hint}; use one of: {known}")]
pub struct UnknownTier {
    /// The name that was asked for.
    pub asked: String,
    /// The provider's tiers, separated by commas.
    pub known: String,
    hint: String,
}

impl Profile {
    /// The tier of that name.
    ///
    /// # Errors
    /// [`UnknownTier`], whose message lists the tiers and the nearest name.
    pub fn tier(&self, name: &str) -> Result<&Tier, UnknownTier> {
        self.tiers.iter().find(|tier| tier.name == name).ok_or_else(|| UnknownTier {
            asked: name.to_owned(),
            known: self.tier_names().join(", "),
            hint: did_you_mean(name, self.tier_names()),
        })
    }

    /// The limit of this name in this tier, or else in another one: what it covers differs in no tier.
    pub fn limit(&self, tier: &str, name: &str) -> Option<&Limit> {
        let own = self.tiers.iter().filter(|known| known.name == tier);
        own.chain(&self.tiers).find_map(|tier| tier.limit(name))
    }

    /// The tier of a quota that names none; `None` if the profile has no tiers.
    pub fn lowest_tier(&self) -> Option<&Tier> {
        self.tiers.first()
    }

    /// Names of the tiers, lowest first.
    pub fn tier_names(&self) -> Vec<&str> {
        self.tiers.iter().map(|tier| tier.name.as_str()).collect()
    }

    /// Whether response headers carry the amount of a limit, so that a quota needs no tier.
    pub fn has_limit_headers(&self) -> bool {
        self.headers.iter().any(LimitHeader::has_amount)
    }

    /// Whether `host` (without port, any case) is one of the provider's.
    pub fn serves(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.hosts.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(&suffix.to_ascii_lowercase()),
            None => host.eq_ignore_ascii_case(pattern),
        })
    }

    /// The environment for an application whose proxy listens at `proxy` (such as
    /// `http://127.0.0.1:15801`), as names and values; empty where the provider has no such variables.
    pub fn environment(&self, proxy: &str, provider: &str) -> Vec<(String, String)> {
        let proxy = proxy.trim_end_matches('/');
        self.base_url
            .iter()
            .flat_map(|base| &base.variables)
            .map(|variable| {
                let path = variable.path.as_deref().unwrap_or_default();
                (variable.name.clone(), format!("{proxy}/{provider}{path}"))
            })
            .collect()
    }

    /// The secret part of a request's credential; never log it.
    pub fn credential<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        let bearer = [Credential { header: "authorization".to_owned(), scheme: None }];
        let known = if self.credentials.is_empty() { &bearer[..] } else { &self.credentials };
        known.iter().find_map(|credential| {
            let value = headers.get(&credential.header)?.as_bytes();
            let secret = match &credential.scheme {
                Some(scheme) => {
                    let (found, rest) = value.split_at_checked(scheme.len())?;
                    if !found.eq_ignore_ascii_case(scheme.as_bytes()) || rest.first() != Some(&b' ') {
                        return None;
                    }
                    rest.trim_ascii()
                }
                None => value.trim_ascii(),
            };
            (!secret.is_empty()).then_some(secret)
        })
    }

    /// Whether rejected calls are charged; by default they are. No caller yet: every rejected call is charged.
    pub fn rejected_calls(&self) -> RejectedCalls {
        self.rejected_calls.unwrap_or_default()
    }

    /// `client.maxQueueSeconds`.
    pub fn max_queue(&self) -> Option<Duration> {
        let seconds = self.client.as_ref()?.max_queue_seconds?;
        Some(Duration::from_secs(seconds.into()))
    }
}
