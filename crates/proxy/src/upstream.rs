//! Connections to providers: made ready first, then used for one request per grant, never for a blind resend.
//!
//! | room | holds |
//! |---|---|
//! | `write_permit` | what a connection asks before it writes a request, and reports after |
//! | `socket` | HTTP/1.1: the grant is asked in the same poll as the first write |
//! | `frames` | HTTP/2: when a request's headers have left |
//! | `connect` | TCP, TLS and the protocol's start |
//! | `http1`, `http2` | one request on a ready connection |
//! | `body` | the answer's body, whatever the protocol |
//!
//! The protocol follows the client's: an HTTP/1.1 client gets an HTTP/1.1 connection upstream; for an HTTP/2
//! client, ALPN offers both. The provider sees what it would see without the proxy, and the SDKs, which use
//! HTTP/1.1, get the path on which the grant is checked closest to the wire.

mod body;
mod connect;
mod frames;
mod http1;
mod http2;
mod pool;
mod socket;
pub mod write_permit;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;

pub use body::UpstreamBody;
pub use connect::ConnectError;
pub use pool::{PoolSettings, Upstreams};
use write_permit::WritePermit;

/// Any error, with its sources.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body on its way to the provider.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Where a provider is: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    tls: bool,
    host: Arc<str>,
    port: u16,
}

/// A text that is no origin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin; write http:// or https:// with a host and at most a port")]
pub struct OriginError(String);

impl Origin {
    /// An origin of a host; the port is 443 with TLS and 80 without.
    pub fn new(tls: bool, host: &str) -> Self {
        Self { tls, host: host.to_ascii_lowercase().into(), port: if tls { 443 } else { 80 } }
    }

    /// The same host at another port.
    pub fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Reads `https://api.example.com` or `http://localhost:8080`.
    ///
    /// # Errors
    /// [`OriginError`] for anything else, a path included.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let error = || OriginError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| error())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(error()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(error)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('@') {
            return Err(error());
        }
        let origin = Self::new(tls, host);
        Ok(match uri.port_u16() {
            Some(port) => origin.at_port(port),
            None => origin,
        })
    }

    /// The value of `Host` and `:authority`, without the scheme's default port.
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())
    }
}

/// Which protocols a connection may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 where the provider has it, else HTTP/1.1. Without TLS: HTTP/2 by prior knowledge.
    Http2First,
}

impl Protocols {
    /// Those for a request that came by this version.
    pub(crate) fn of(version: Version) -> Self {
        if version == Version::HTTP_2 { Self::Http2First } else { Self::Http1 }
    }
}

/// A connection that can take a request now.
pub enum Ready {
    /// HTTP/1.1: this request's alone until its answer is read.
    Http1(http1::Connection),
    /// HTTP/2: shared.
    Http2(http2::Slot),
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Its grant ran out; not one byte was written.
    #[error("the grant ran out before the request was written")]
    Expired,
    /// The connection was lost; not one byte was written.
    #[error("the connection was lost before the request was written ({0})")]
    Unwritten(#[source] BoxError),
    /// The answer began and is longer than what is read; a retry would get the same.
    #[error("its answer's head has more than {} headers or {} KiB", http1::HEADERS, http1::READ_AHEAD / 1024)]
    TooLarge,
    /// The connection was lost after at least a part was written.
    #[error("the connection was lost before the answer began ({source})")]
    Written {
        source: BoxError,
        /// The provider reports that it has not processed the request (RFC 9113 §8.7, REFUSED_STREAM).
        unprocessed: bool,
    },
}

impl Ready {
    /// Sends one request, once: `turn` is asked as near to the write as the protocol allows. The request's
    /// URI is absolute.
    ///
    /// # Errors
    /// [`SendError`] distinguishes whether the request can have reached the provider.
    pub async fn send(
        self,
        request: Request<RequestBody>,
        turn: Arc<dyn WritePermit>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        match self {
            Self::Http1(connection) => connection.send(request, turn).await,
            Self::Http2(slot) => slot.send(request, turn).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn origins_are_read_and_written() {
        for (text, authority) in [
            ("https://api.openai.com", "api.openai.com"),
            ("https://API.openai.com:443/", "api.openai.com"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://[::1]:443", "[::1]:443"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().authority(), authority, "{text}");
        }
        for text in ["api.openai.com", "ftp://x", "https://x/v1", "https://", "https://u:p@x", "https://x/?q"]
        {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
