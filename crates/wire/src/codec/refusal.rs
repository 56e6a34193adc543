//! Why bytes are no message: each a sentence for the one who sent them.

use thiserror::Error;

use super::{NEWEST, OLDEST};

/// Why bytes are no message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not protobuf, or not of these messages.
    #[error(
        "the message does not read as quotakeeper.session.v1 ({0}); speak to a Quotakeeper limiter's port"
    )]
    Malformed(#[from] prost::DecodeError),
    /// The whole message is too long.
    #[error("the message has {bytes} bytes, more than {most}; hold fewer calls")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// A list is too long.
    #[error("the message holds more than {most} {what}; hold fewer")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// A text is too long.
    #[error("{what} has {bytes} bytes, more than {most}; cut it")]
    TextTooLong {
        /// Which text.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// Both speak versions of the session, but none that the other speaks.
    #[error(
        "the proxy speaks versions {min} to {max} of the session, this limiter {OLDEST} to {NEWEST}; {}",
        if *max < OLDEST { "restart the pod to get a newer proxy" } else { "upgrade the limiter first" }
    )]
    NoCommonVersion {
        /// The oldest that the proxy speaks.
        min: u32,
        /// The newest that it speaks.
        max: u32,
    },
    /// The limiter chose a version that this proxy does not speak.
    #[error(
        "the limiter speaks version {0} of the session, this proxy {OLDEST} to {NEWEST}; restart the pod to get a newer proxy"
    )]
    StrangeVersion(u32),
    /// Something is not there, or of a kind that the agreed version does not have.
    #[error(
        "{0} is missing or of a kind that version {NEWEST} of the session does not have; keep to the version of the welcome"
    )]
    Unknown(&'static str),
}
