//! What an upstream connection must know of the grant that a request is written under.

use std::io;

/// A grant, as the connection sees it.
pub trait WritePermit: Send + Sync + 'static {
    /// Whether the request may be written now; asked as near to the write as can be.
    fn may_write(&self) -> bool;
    /// Called right after the write has returned, or as soon as that can be known.
    fn wrote(&self);
}

/// The request was not written because its grant had run out.
#[derive(Debug, thiserror::Error)]
#[error("the grant ran out before the request was written")]
pub struct GrantExpired;

impl From<GrantExpired> for io::Error {
    fn from(expired: GrantExpired) -> Self {
        io::Error::other(expired)
    }
}
