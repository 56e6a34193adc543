//! The errors of decoding: each a sentence for the sender.

use thiserror::Error;

use super::{NEWEST, OLDEST};

/// Why bytes are not a message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not protobuf, or not of these messages.
    #[error(
        "the message does not read as quotakeeper.session.v1 ({0}); connect to the port of a Quotakeeper limiter"
    )]
    Malformed(#[from] prost::DecodeError),
    /// The whole message is too long.
    #[error("the message has {bytes} bytes, more than {most}; make fewer calls at a time")]
    TooLong { bytes: usize, most: usize },
    /// A list is too long.
    #[error("the message has more than {most} {what}; send fewer")]
    TooMany {
        /// Of what.
        what: &'static str,
        most: usize,
    },
    /// A text is too long.
    #[error("{what} has {bytes} bytes, more than {most}; shorten it")]
    TextTooLong {
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        most: usize,
    },
    /// There is no version of the session that both support.
    #[error(
        "the proxy supports versions {min} to {max} of the session, this limiter {OLDEST} to {NEWEST}; {}",
        if *max < OLDEST { "restart the pod to get a newer proxy" } else { "upgrade the limiter first" }
    )]
    NoCommonVersion {
        /// The oldest that the proxy supports.
        min: u32,
        /// The newest that it supports.
        max: u32,
    },
    /// The limiter chose a version that this proxy does not support.
    #[error(
        "the limiter uses version {0} of the session, this proxy supports {OLDEST} to {NEWEST}; restart the pod to get a newer proxy"
    )]
    StrangeVersion(u32),
    /// Something is not there, or of a kind that the agreed version does not have.
    #[error(
        "{0} is missing or of a kind that version {NEWEST} of the session does not have; use the version of the welcome"
    )]
    Unknown(&'static str),
}
