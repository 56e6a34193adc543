//! What a request says of the tokens that it may cost, and what an answer says of those that it has cost.
//!
//! A token is the provider's own: nobody but the provider can count them exactly before the answer.

use serde::{Deserialize, Serialize};

/// The parts of a request that its tokens are estimated from. Parts that nobody could read are at their most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSize {
    /// Bytes of text in its body, decompressed: prompts, tools, schemas. Media that are inlined as base64 are left out.
    pub text_bytes: u64,
    /// The most tokens that its images, sounds and files cost, by the constants of the provider's profile.
    pub media_tokens: u64,
    /// The most output tokens of one completion that it allows; `None`: it names no bound.
    pub max_output: Option<u64>,
    /// Completions that it requests (`n`, `best_of`); 0 counts as 1.
    pub choices: u32,
    /// It refers to input that the provider has stored, or has the provider call tools: nothing in it bounds its input.
    pub stored_input: bool,
}

impl CallSize {
    /// Completions that are counted.
    pub fn choices(&self) -> u64 {
        u64::from(self.choices.max(1))
    }

    /// Whether it costs no tokens, whatever its answer says.
    pub fn is_nothing(&self) -> bool {
        let CallSize { text_bytes, media_tokens, max_output, choices: _, stored_input } = self;
        *text_bytes == 0 && *media_tokens == 0 && *max_output == Some(0) && !stored_input
    }
}

/// What a call has used, in tokens and in the provider's own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsage {
    /// All of its input, whether a cache knew it or not.
    pub input: u64,
    /// Of the input, read from a cache.
    pub cached: u64,
    /// Of the input, written to a cache.
    pub cache_write: u64,
    /// Its output, hidden reasoning included.
    pub output: u64,
    /// The provider has reported it; otherwise it is estimated from what has passed.
    pub exact: bool,
    /// What the provider says that it has cost in its own units; `None`: it doesn't say.
    pub credits: Option<u64>,
}

/// How an attempt ended, as far as the provider's counting is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CallEnd {
    /// The last byte of its answer was read, as its framing says, or nothing of the request was written: the provider
    /// counts nothing more.
    Seen,
    /// It was given up: a hang-up, a reset, a timeout. The provider may go on, and counts what it produces.
    #[default]
    Lost,
}
