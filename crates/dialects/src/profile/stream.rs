//! How the provider rejects calls in an event stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the provider rejects a call in an event stream that it has begun with a success. An error event is read by the
/// rules of `rejections`, as an answer with the body `{"error": …}` and the status that its code stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventStream {
    /// JSON pointer (RFC 6901) into a request's body to whether it wants an event stream: the answer is then read as
    /// one although it names no content type, or another than JSON. Default: the content type decides alone.
    /// Example: `/stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub requested: Option<String>,

    /// Events, by name or by the member `type` of their data, that say only that the answer has begun. A call whose
    /// first other event is a rejection can be sent again. Default: none. Example: `[response.created]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub preliminary: Vec<String>,

    /// Events, by name or by the whole of their data, that end an answer: nothing of it follows, whatever a client that
    /// hangs up then has not read. Default: none, an answer ends with its last byte. Example: `["[DONE]"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 128)))]
    pub last: Vec<String>,

    /// JSON pointers (RFC 6901) to the error object in an event's data; the first that leads to one counts.
    /// Default: the data itself. Example: `[/response/error, /error]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    pub errors: Vec<String>,

    /// The statuses that errors stand for, first match wins. Other errors are no rejections.
    #[schemars(length(min = 1, max = 16))]
    pub statuses: Vec<StreamStatus>,
}

/// The status that an error in an event stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// HTTP status. Example: `429`.
    #[schemars(range(min = 100, max = 599), extend("format" = "int32"))]
    pub status: u16,

    /// Values of the error's member `code` or `type`, any of which matches exactly. Example: `[rate_limit_exceeded]`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128)))]
    pub codes: Vec<String>,
}
