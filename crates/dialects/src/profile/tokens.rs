//! Where requests say what tokens they may cost, and where answers say what they have cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where requests say what tokens they may cost. All of it is read only where a limit counts tokens or money.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// JSON pointers (RFC 6901) to how many completions a request wants; the largest that is there counts.
    /// Default: one completion. Example: `[/n, /best_of]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 256)))]
    pub choices: Vec<String>,

    /// Path patterns without query of calls that cost no output tokens, as in `endpoints`. Default: none.
    /// Example: `[/v1/embeddings]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub without_output: Vec<String>,

    /// The same of calls that cost no tokens at all, though they have a body. Default: none.
    /// Example: `[/v1/conversations]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub without_tokens: Vec<String>,

    /// Images and sounds in requests. Default: none, what is inlined counts as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub media: Vec<Media>,

    /// What refers to input that the request does not hold: earlier answers, files, tools that the provider runs.
    /// The input of such a call is bounded by the model's context alone. Default: nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub stored_input: Vec<StoredInput>,

    /// Where answers say what tokens they have cost. Default: they don't, and it is estimated from their text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Where an answer, or an event of one, says what tokens the call has cost. Of several events the last that has a figure
/// counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// JSON pointers (RFC 6901, `*` for any element) to the object with the figures.
    /// Example: `[/usage, /response/usage]`.
    #[schemars(length(min = 1, max = 4), inner(length(min = 1, max = 256)))]
    pub at: Vec<String>,

    /// JSON pointers from that object to parts of the input; their sum is all of it.
    /// Example: `[/input_tokens, /cache_read_input_tokens, /cache_creation_input_tokens]`.
    #[schemars(length(min = 1, max = 4), inner(length(min = 1, max = 256)))]
    pub input: Vec<String>,

    /// The same to input that was read from a cache. Default: none is told. Example: `[/cache_read_input_tokens]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 256)))]
    pub cached: Vec<String>,

    /// The same to input that was written to a cache. Default: none is told.
    /// Example: `[/cache_creation_input_tokens]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 256)))]
    pub cache_write: Vec<String>,

    /// The same to parts of the output; their sum is all of it, unless the total says that there is more.
    /// Example: `[/completion_tokens]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 256)))]
    pub output: Vec<String>,

    /// The same to output that no text of the answer shows. Default: all output is text.
    /// Example: `[/completion_tokens_details/reasoning_tokens]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 256)))]
    pub hidden: Vec<String>,

    /// JSON pointer from that object to input and output together. Default: none. Example: `/total_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub total: Option<String>,

    /// JSON pointers to the texts that an answer, or an event of one, adds: what has been produced is estimated from
    /// their length until the provider tells. Default: all of the answer is text.
    /// Example: `["/choices/*/delta/content"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    pub text: Vec<String>,

    /// How requests for event streams ask for the figures, where streams don't tell them by themselves. What a client
    /// has not asked for it does not get: an event that holds nothing else is left out. Default: streams tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<UsageRequest>,
}

/// A member of a request's JSON object that makes an event stream tell its usage in an event of its own. It is added to
/// requests that are neither signed nor compressed and don't have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageRequest {
    /// Path patterns without query of the calls that take it, as in `endpoints`. Example: `[/v1/chat/completions]`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    pub paths: Vec<String>,

    /// Name of the member. Example: `stream_options`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_]+$"))]
    pub member: String,

    /// Its value as JSON. Example: `'{"include_usage":true}'`.
    #[schemars(length(min = 1, max = 256))]
    pub value: String,

    /// JSON pointer (RFC 6901) to a list that is empty in the event that holds nothing else. Example: `/choices`.
    #[schemars(length(min = 1, max = 256))]
    pub empty: String,
}

impl Usage {
    /// The pointers to figures, in the order of the fields.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &String> {
        let Usage { input, cached, cache_write, output, hidden, total, .. } = self;
        [input, cached, cache_write, output, hidden].into_iter().flatten().chain(total)
    }

    /// Whether the data of an event hold the figures and nothing else, as far as `empty` says.
    pub fn stands_alone(&self, data: &[u8], empty: &str) -> bool {
        let Ok(data) = serde_json::from_slice::<serde_json::Value>(data) else { return false };
        let none = data.pointer(empty).and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty);
        none && self.at.iter().any(|at| data.pointer(at).is_some_and(serde_json::Value::is_object))
    }

    /// How many places of an answer are read.
    pub(crate) fn places(&self) -> usize {
        self.at.len() * self.figures().count() + self.text.len()
    }
}

/// Images or sounds in requests, which cost tokens of their own instead of those of their text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Media {
    /// JSON pointers (RFC 6901, `*` for any element) to the strings that hold or name one.
    /// Example: `["/messages/*/content/*/image_url/url"]`.
    #[schemars(length(min = 1, max = 12), inner(length(min = 1, max = 256)))]
    pub at: Vec<String>,

    /// How a string begins that holds it, so that its bytes are no text. Default: every string at `at` does.
    /// Example: `["data:"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 16)))]
    pub starts_with: Vec<String>,

    /// The most tokens that one costs, of a model that `perModel` does not name. Example: `1600`.
    #[schemars(range(max = 10_000_000), extend("format" = "int32"))]
    pub tokens: u32,

    /// Bytes, decoded from base64, that cost at most one token more; for sounds. Default: its length costs nothing.
    /// Example: `100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), extend("format" = "int32"))]
    pub bytes_per_token: Option<u32>,

    /// Models for which one costs another number, first match wins. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub per_model: Vec<MediaOfModel>,
}

/// What images or sounds cost of some models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaOfModel {
    /// Names of the models; a trailing `*` stands for any rest. Example: `[gpt-4o-mini*]`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 256)))]
    pub models: Vec<String>,

    /// The most tokens that one costs. Example: `1445`.
    #[schemars(range(max = 10_000_000), extend("format" = "int32"))]
    pub tokens: u32,
}

/// What refers to input that the provider has stored. Values that are `null`, `false` or empty refer to none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredInput {
    /// JSON pointers (RFC 6901, `*` for any element). Example: `[/previous_response_id, "/tools/*/type"]`.
    #[schemars(length(min = 1, max = 12), inner(length(min = 1, max = 256)))]
    pub at: Vec<String>,

    /// The values that refer to stored input; a trailing `*` stands for any rest. Default: all but those of `except`.
    /// Example: `[document]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub equals: Vec<String>,

    /// Values that do not; a trailing `*` stands for any rest. Default: none. Example: `[function]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub except: Vec<String>,
}

impl Media {
    /// The most tokens that one costs of this model.
    pub fn tokens_of(&self, model: Option<&str>) -> u32 {
        let known =
            model.and_then(|model| self.per_model.iter().find(|known| any_fits(&known.models, model)));
        known.map_or(self.tokens, |known| known.tokens)
    }
}

impl StoredInput {
    /// Whether this value refers to stored input.
    pub fn covers(&self, value: &str) -> bool {
        let wanted = self.equals.is_empty() || any_fits(&self.equals, value);
        wanted && !any_fits(&self.except, value)
    }
}

/// Whether one of the patterns is the text, a trailing `*` standing for any rest.
fn any_fits(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    })
}
