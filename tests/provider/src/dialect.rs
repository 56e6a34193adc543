//! The dialects: how each provider is called, what its headers say of its counts, how it rejects and what it answers.
//!
//! What is here was read from the providers' own documents and SDKs; nothing is shared with the product's profiles.

mod anthropic;
mod demo;
mod hubspot;
mod openai;
mod responses;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counting::{Limit, LimitState};
use crate::tokens::{Unit, Usage, Wanted};

/// A provider that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dialect {
    /// api.openai.com
    Openai,
    /// api.anthropic.com
    Anthropic,
    /// api.hubapi.com
    Hubspot,
    /// api.demo.example, an API with the headers of the IETF's draft.
    Demo,
}

/// The hosts that the certificate covers and that name a provider.
pub(crate) const HOSTS: [(&str, Dialect); 4] = [
    ("api.openai.com", Dialect::Openai),
    ("api.anthropic.com", Dialect::Anthropic),
    ("api.hubapi.com", Dialect::Hubspot),
    ("api.demo.example", Dialect::Demo),
];

/// A call that the APIs know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    ChatCompletions,
    Responses,
    Embeddings,
    Models,
    Transcriptions,
    FileUpload,
    Batch,
    Messages,
    ContactsPage,
    ContactCreate,
    Contact(String),
    ContactsBatchRead,
    ContactsSearch,
    Anything,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub dialect: Dialect,
    /// Absent where the API has no such path.
    pub operation: Option<Operation>,
}

impl Route {
    /// The endpoint, where it has limits of its own.
    pub(crate) fn endpoint(&self) -> Option<&'static str> {
        (self.operation == Some(Operation::ContactsSearch)).then_some("search")
    }

    /// What a body says of the tokens of a call, where it costs any; `play` is the header `x-play`.
    pub(crate) fn wanted(&self, body: &Value, play: Option<&str>) -> Option<Wanted> {
        let wanted = Wanted::read(body, play);
        match self.operation.as_ref()? {
            Operation::ChatCompletions | Operation::Responses | Operation::Messages => Some(wanted),
            Operation::Embeddings => Some(wanted.without_output()),
            Operation::Anything => Some(wanted.without_output()).filter(|wanted| wanted.credits.is_some()),
            _ => None,
        }
    }

    /// Whether the body of a call of the demo API is read for what it costs: its head says that it plays.
    pub(crate) fn plays(&self, headers: &http::HeaderMap) -> bool {
        self.operation == Some(Operation::Anything) && headers.contains_key("x-play")
    }

    /// Whether the model, and with it the partition, stands in the body.
    pub(crate) fn model_in_body(&self) -> bool {
        matches!(
            self.operation,
            Some(
                Operation::ChatCompletions
                    | Operation::Responses
                    | Operation::Embeddings
                    | Operation::Transcriptions
                    | Operation::Messages
            )
        )
    }
}

/// A request as the dialects see it.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// The body's length in bytes.
    pub length: usize,
    /// The body as JSON; null when there was none.
    pub body: &'a Value,
    /// Tells answers apart.
    pub sequence: u64,
    pub wall: Timestamp,
    /// What the call uses.
    pub usage: Usage,
    pub wanted: Wanted,
    /// Output tokens in a chunk of a stream.
    pub tokens_per_chunk: u64,
}

impl Asked<'_> {
    /// What one choice says, a word a token, in the chunks of a stream.
    fn words(&self) -> Vec<String> {
        let visible = (self.usage.output - self.usage.reasoning) / self.wanted.choices.max(1);
        let word = |place: u64| WORDS[place as usize % WORDS.len()];
        let chunk = |from: u64| (from..visible.min(from + self.tokens_per_chunk)).map(word).collect();
        (0..visible).step_by(self.tokens_per_chunk as usize).map(chunk).collect()
    }

    /// Whether the answer ends because no more output is allowed.
    fn cut(&self) -> bool {
        self.wanted.cut_short(&self.usage)
    }
}

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    pub status: u16,
    pub message: String,
    pub account: Option<&'a str>,
    pub model: Option<&'a str>,
    /// The limit it was over; absent where the control port forced the answer.
    pub exceeded: Option<&'a (Limit, LimitState)>,
    /// How much it would have drawn of that.
    pub requested: u64,
    pub sequence: u64,
}

/// A status and a body, whole or in chunks.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub content_type: &'static str,
    /// What the call has cost in credits, where a header says it.
    pub cost: Option<u64>,
    pub chunks: Vec<Bytes>,
    pub streamed: bool,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        let chunks = vec![Bytes::from(body.to_string())];
        Self { status, content_type: "application/json", cost: None, chunks, streamed: false }
    }

    fn events(chunks: Vec<String>) -> Self {
        let chunks = chunks.into_iter().map(Bytes::from).collect();
        Self {
            status: StatusCode::OK,
            content_type: "text/event-stream; charset=utf-8",
            cost: None,
            chunks,
            streamed: true,
        }
    }
}

/// Finds the provider by the host and, where the host is none of theirs, by the path.
pub(crate) fn route(host: Option<&str>, method: &Method, path: &str) -> Route {
    let host = host.map(|host| host.split(':').next().unwrap_or(host).to_ascii_lowercase());
    let by_host = HOSTS.iter().find(|(name, _)| Some(*name) == host.as_deref()).map(|(_, dialect)| *dialect);
    let by_path = || match path {
        _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
        _ if path.starts_with("/v1/") => Dialect::Openai,
        _ if path.starts_with("/crm/") => Dialect::Hubspot,
        _ => Dialect::Demo,
    };
    let dialect = by_host.unwrap_or_else(by_path);
    let (get, post) = (method == Method::GET, method == Method::POST);
    let operation = match dialect {
        Dialect::Openai => match path {
            "/v1/chat/completions" if post => Some(Operation::ChatCompletions),
            "/v1/responses" if post => Some(Operation::Responses),
            "/v1/embeddings" if post => Some(Operation::Embeddings),
            "/v1/models" if get => Some(Operation::Models),
            "/v1/audio/transcriptions" if post => Some(Operation::Transcriptions),
            "/v1/files" if post => Some(Operation::FileUpload),
            _ if path.starts_with("/v1/batches/") && get => Some(Operation::Batch),
            _ => None,
        },
        Dialect::Anthropic => (path == "/v1/messages" && post).then_some(Operation::Messages),
        Dialect::Hubspot => match path.strip_prefix("/crm/v3/objects/contacts") {
            Some("") if get => Some(Operation::ContactsPage),
            Some("") if post => Some(Operation::ContactCreate),
            Some("/batch/read") if post => Some(Operation::ContactsBatchRead),
            Some("/search") if post => Some(Operation::ContactsSearch),
            Some(rest) if get => rest
                .strip_prefix('/')
                .filter(|id| !id.is_empty() && !id.contains('/'))
                .map(|id| Operation::Contact(id.to_owned())),
            _ => None,
        },
        Dialect::Demo => {
            let under =
                path.strip_prefix("/anything").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            (under && (get || post)).then_some(Operation::Anything)
        }
    };
    Route { dialect, operation }
}

impl Dialect {
    /// The credential of a request: the account.
    pub(crate) fn credential(self, headers: &HeaderMap) -> Option<String> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization")
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token);
        let key = text("x-api-key").filter(|_| self == Self::Anthropic);
        key.or(bearer).map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned)
    }

    /// What a body lacks to be answered, in the provider's words.
    pub(crate) fn complaint(self, operation: &Operation, body: &Value) -> Option<String> {
        let required: &[&str] = match operation {
            Operation::ChatCompletions => &["model", "messages"],
            Operation::Responses => &["model"],
            Operation::Embeddings => &["model", "input"],
            Operation::Transcriptions => &["file", "model"],
            Operation::FileUpload => &["file", "purpose"],
            Operation::Messages => &["model", "messages", "max_tokens"],
            Operation::ContactsBatchRead => &["inputs"],
            _ => &[],
        };
        let missing = required.iter().find(|field| body.get(**field).is_none_or(Value::is_null))?;
        Some(match self {
            Self::Anthropic => format!("{missing}: Field required"),
            _ => format!("Missing required parameter: '{missing}'."),
        })
    }

    /// The headers that say what has been counted, and those that every answer to this account carries.
    pub(crate) fn headers(
        self,
        account: &str,
        endpoint: Option<&str>,
        states: &[(Limit, LimitState)],
        sequence: u64,
        wall: Timestamp,
    ) -> Vec<(&'static str, String)> {
        match self {
            Self::Openai => openai::headers(account, states, sequence),
            Self::Anthropic => anthropic::headers(account, states, sequence, wall),
            Self::Hubspot => hubspot::headers(endpoint, states, sequence),
            Self::Demo => demo::headers(states),
        }
    }

    /// Whether this provider's own rejections say how long to wait.
    pub(crate) fn sends_retry_after(self) -> bool {
        self != Self::Hubspot
    }

    /// The body of a refusal.
    pub(crate) fn refusal(self, refusal: &Refusal<'_>) -> Value {
        match self {
            Self::Openai => openai::refusal(refusal),
            Self::Anthropic => anthropic::refusal(refusal),
            Self::Hubspot => hubspot::refusal(refusal),
            Self::Demo => demo::refusal(refusal),
        }
    }
}

/// Answers an accepted call.
pub(crate) fn answer(operation: &Operation, asked: &Asked<'_>) -> Reply {
    match operation {
        Operation::ChatCompletions => openai::chat_completion(asked),
        Operation::Responses => responses::response(asked),
        Operation::Embeddings => openai::embeddings(asked),
        Operation::Models => openai::models(),
        Operation::Transcriptions => openai::transcription(),
        Operation::FileUpload => openai::file(asked),
        Operation::Batch => openai::batch(asked),
        Operation::Messages => anthropic::message(asked),
        Operation::ContactsPage => hubspot::page(asked),
        Operation::ContactCreate => hubspot::create(asked),
        Operation::Contact(id) => hubspot::contact(id, asked),
        Operation::ContactsBatchRead => hubspot::batch_read(asked),
        Operation::ContactsSearch => hubspot::search(asked),
        Operation::Anything => demo::echo(asked),
    }
}

/// What the models say, a token a word.
const WORDS: [&str; 8] = ["Each", " call", " waits", " its", " turn", ",", " then", " goes."];

/// The first limit of this unit among those that matched.
fn of_unit(states: &[(Limit, LimitState)], unit: Unit) -> Option<&(Limit, LimitState)> {
    states.iter().find(|(limit, _)| limit.unit == unit)
}

/// An organisation's id that doesn't give the credential away (FNV-1a).
fn organization(account: &str) -> String {
    let hash = account.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("org-{hash:016x}")
}

/// What headers call remaining. Of a bucket it is the count less what is missing from full: providers speak of the
/// window's count and keep the size of their bucket to themselves, so a rejection may say that much is left.
fn left(limit: &Limit, state: &LimitState) -> u64 {
    limit.count.saturating_sub(state.used)
}

/// Whole seconds, rounded up, at least one: as Retry-After says them.
pub(crate) fn seconds_up(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000).max(1)
}

#[cfg(test)]
mod tests;
