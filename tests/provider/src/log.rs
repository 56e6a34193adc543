//! The log: one entry for each request, what came when and what it counted. Everything a summary says is in here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::tokens::{Usage, Wanted};

/// What the provider decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Accepted and counted.
    Ok,
    /// Rejected: over a limit.
    Over,
    /// Answered as told by the control port; not counted.
    Forced,
    /// The connection was closed without an answer; not counted.
    Down,
    /// No credential, or another provider's; not counted.
    Unauthorized,
    /// No such path, or a body that the API can't read; not counted.
    Invalid,
}

/// How an answer ended. A chunk counts as sent once the HTTP stack has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// It is still on its way.
    Running,
    /// All of it was sent.
    Finished,
    /// The client went away first.
    HungUp,
    /// The provider went down first.
    CutOff,
}

/// The HTTP version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1 (or 1.0).
    H1,
    /// HTTP/2.
    H2,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts up over all accounts, in the order of the decisions.
    pub sequence: u64,
    /// When the request's head had arrived, in nanoseconds since the start.
    pub arrival_nanos: u64,
    /// The instant it was counted at: its arrival, or the newest counted one of its account when a slower body let that
    /// one pass. So an account's count never goes back in time.
    pub counted_nanos: u64,
    /// The credential; absent without one.
    pub account: Option<String>,
    /// Whose API it called.
    pub provider: Dialect,
    /// The request's method.
    pub method: String,
    /// The request's path, without its query.
    pub path: String,
    /// The model that it asked for.
    pub model: Option<String>,
    /// The endpoint, where it has limits of its own.
    pub endpoint: Option<String>,
    /// The HTTP version.
    pub protocol: Protocol,
    /// The connection that it came on, counting up from 1.
    pub connection: u64,
    /// The answer's status; absent when there was none.
    pub status: Option<u16>,
    /// The decision.
    pub verdict: Verdict,
    /// The first limit that it was over; absent where too many calls were under way.
    pub exceeded: Option<String>,
    /// Calls of the account whose answers were not over then, this one included if it was accepted.
    pub under_way: u64,
    /// Each limit that matched, with the units in its window after this request (of a bucket: units missing from full).
    pub counts: BTreeMap<String, u64>,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: u64,
    /// How the answer ended.
    pub ended: Ended,
    /// Its tokens; absent where it costs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenEntry>,
}

/// The tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenEntry {
    /// Characters of its prompt.
    pub chars: u64,
    /// The most output of one choice that it allows.
    pub most_output: Option<u64>,
    /// How many choices it wants.
    pub choices: u64,
    /// What it uses when its answer is produced to the end.
    pub usage: Usage,
    /// Output that was produced until now; counted only where a limit of the account counts tokens.
    pub produced: u64,
    /// Nothing more is produced.
    pub over: bool,
}

impl TokenEntry {
    pub(crate) fn new(wanted: Wanted, usage: Usage) -> Self {
        let Wanted { chars, most_output, choices, .. } = wanted;
        Self { chars, most_output, choices, usage, produced: 0, over: false }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        let TokenEntry { chars, most_output, choices, .. } = *self;
        Wanted { chars, most_output, choices, ..Wanted::default() }
    }

    /// What it has used until now.
    pub fn used(&self) -> Usage {
        Usage { output: self.produced, reasoning: self.usage.reasoning.min(self.produced), ..self.usage }
    }
}
