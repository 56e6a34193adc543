//! The messages as bytes: protobuf, defined in `proto/quotakeeper/session/v1/session.proto`.
//!
//! Pure and total: any bytes are decoded, ignored or refused with an error, in bounded memory. The head of
//! the .proto describes how the format grows and what a receiver does with unknown parts.
//!
//! | module | holds |
//! |---|---|
//! | `encoding` | messages into their protobuf form; texts that are too long are cut |
//! | `decoding` | the protobuf form into messages, with all checks |
//! | `bounds` | how much a message may hold |
//! | `refusal` | the errors of decoding |
//! | `generated` | the protobuf form, generated; a test fails when it is stale |

mod bounds;
mod decoding;
mod encoding;
mod refusal;

/// The protobuf form of the messages.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!("codec/generated/quotakeeper.session.v1.rs");
}

use prost::bytes::BufMut;
use prost::{EncodeError, Message};

pub use self::bounds::{
    MOST_BYTES, MOST_CAPABILITIES, MOST_DOCUMENT, MOST_NAME, MOST_OBSERVATIONS, MOST_PRODUCED, MOST_REASON,
    MOST_TO_PROXY, MOST_WITHOUT_HELLO,
};
pub use self::refusal::DecodeError;
use crate::message::{ToLimiter, ToProxy};

/// The oldest version of the session that this program supports.
pub const OLDEST: u32 = 1;
/// The newest.
pub const NEWEST: u32 = 1;

/// The gRPC method that carries a session, a stream of messages in both directions.
pub const METHOD: &str = "/quotakeeper.session.v1.Sessions/Session";

/// A message that can be written and read.
pub trait Coded: Sized {
    /// Appends the message to `buf`. Texts that are longer than a receiver accepts are cut: a model's
    /// name of more than [`MOST_NAME`] bytes matches no limit in any case.
    ///
    /// # Errors
    /// When `buf` has too little capacity and can't grow.
    fn encode(self, buf: &mut impl BufMut) -> Result<(), EncodeError>;

    /// Decodes a message from all of `bytes`. `None`: a message of a kind that this version does not
    /// know, to be ignored.
    ///
    /// # Errors
    /// [`DecodeError`]: a sentence for the other end; the session should end.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError>;

    /// The message alone.
    fn to_bytes(self) -> Vec<u8>;
}

impl Coded for ToLimiter {
    fn encode(self, buf: &mut impl BufMut) -> Result<(), EncodeError> {
        encoding::to_limiter(self).encode(buf)
    }

    fn to_bytes(self) -> Vec<u8> {
        encoding::to_limiter(self).encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        bounds::check_to_limiter(bytes)?;
        decoding::to_limiter(generated::ToLimiter::decode(bytes)?).map(Some)
    }
}

impl Coded for ToProxy {
    fn encode(self, buf: &mut impl BufMut) -> Result<(), EncodeError> {
        encoding::to_proxy(self).encode(buf)
    }

    fn to_bytes(self) -> Vec<u8> {
        encoding::to_proxy(self).encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        bounds::check_to_proxy(bytes)?;
        decoding::to_proxy(generated::ToProxy::decode(bytes)?)
    }
}
