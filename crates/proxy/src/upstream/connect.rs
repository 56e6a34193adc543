//! TCP, TLS and the start of the protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::frames::{Framed, Frames};
use super::socket::{Line, Watched};
use super::{BoxError, Origin, Protocols, http1, http2};
use crate::resolve::{ResolveError, Resolver, is_shortage};
use crate::trust::Trust;

/// A model may think for many minutes; idle connections must survive the address translators on the way.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host has no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// This machine has no file descriptor left: nothing is known of the provider.
    #[error("{origin} can't be connected to now ({source}); raise the limit of open files")]
    Shortage {
        /// Whom.
        origin: Origin,
        source: io::Error,
    },
    /// No address answers.
    #[error("{origin} can't be reached at {address} ({source})")]
    Tcp {
        /// Whom.
        origin: Origin,
        /// The last address tried.
        address: SocketAddr,
        source: io::Error,
    },
    /// TLS fails: most often the certificate isn't trusted.
    #[error(
        "{origin} can't be reached by TLS ({source}); if its CA is not trusted, name it by --upstream-ca, or in a \
         cluster by the chart's trust.extraCAs"
    )]
    Tls {
        /// Whom.
        origin: Origin,
        /// The TLS library's error.
        source: io::Error,
    },
    /// HTTP can't be started.
    #[error("{origin} can't be spoken to ({source})")]
    Http {
        /// Whom.
        origin: Origin,
        /// The HTTP library's error.
        source: BoxError,
    },
    /// It takes too long.
    #[error("{origin} can't be reached within {} s", after.as_secs())]
    Timeout {
        /// Whom.
        origin: Origin,
        /// How long it was tried.
        after: Duration,
    },
}

impl ConnectError {
    /// Whether this machine is short of something, so that the provider was not even asked.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(self, Self::Shortage { .. } | Self::Resolve(ResolveError::Shortage { .. }))
    }
}

/// A fresh connection.
pub(super) enum Connected {
    Http1(http1::Connection),
    Http2(http2::Shared),
}

/// Makes connections.
pub(super) struct Connector {
    resolver: Resolver,
    http1: Arc<ClientConfig>,
    both: Arc<ClientConfig>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(resolver: Resolver, trust: &Trust, limit: Duration) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trust.store())
            .with_no_client_auth();
        if let Some(verifier) = trust.verifier() {
            config.dangerous().set_certificate_verifier(verifier);
        }
        let with = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let (http1, both) = (with(&[b"http/1.1"]), with(&[b"h2", b"http/1.1"]));
        Ok(Self { resolver, http1, both, limit })
    }

    pub(super) async fn connect(
        &self,
        origin: &Origin,
        protocols: Protocols,
    ) -> Result<Connected, ConnectError> {
        let expired = |_| ConnectError::Timeout { origin: origin.clone(), after: self.limit };
        timeout(self.limit, self.connect_unbounded(origin, protocols)).await.map_err(expired)?
    }

    async fn connect_unbounded(
        &self,
        origin: &Origin,
        protocols: Protocols,
    ) -> Result<Connected, ConnectError> {
        let addresses = self.resolver.addresses(&origin.host, origin.port).await?;
        let socket = self.tcp(origin, &addresses).await?;
        let line = Arc::new(Line::default());
        let socket = Watched::new(socket, Arc::clone(&line));
        if !origin.tls {
            let http2 = protocols == Protocols::Http2First;
            return start(origin, socket, line, http2).await;
        }
        let config = match protocols {
            Protocols::Http1 => &self.http1,
            Protocols::Http2First => &self.both,
        };
        let tls = |source| ConnectError::Tls { origin: origin.clone(), source };
        let name = ServerName::try_from(origin.host.trim_matches(['[', ']']).to_owned())
            .map_err(|error| tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await;
        let stream = stream.map_err(tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        start(origin, stream, line, http2).await
    }

    /// One address after the other: a dead one costs its share of the limit, an unreachable one nothing.
    async fn tcp(&self, origin: &Origin, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let share = self.limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = None;
        for address in addresses {
            let tried = timeout(share, TcpStream::connect(address)).await;
            match tried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(socket) => {
                    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                    let tuned = socket
                        .set_nodelay(true)
                        .and_then(|()| SockRef::from(&socket).set_tcp_keepalive(&keepalive));
                    if let Err(error) = tuned {
                        tracing::debug!(%error, "a socket can't be tuned");
                    }
                    return Ok(socket);
                }
                // No other address would change that.
                Err(source) if is_shortage(&source) => {
                    return Err(ConnectError::Shortage { origin: origin.clone(), source });
                }
                Err(error) => last = Some((*address, error)),
            }
        }
        let (address, source) = last
            .unwrap_or_else(|| (SocketAddr::from(([0, 0, 0, 0], 0)), io::ErrorKind::AddrNotAvailable.into()));
        Err(ConnectError::Tcp { origin: origin.clone(), address, source })
    }
}

async fn start<S>(origin: &Origin, stream: S, line: Arc<Line>, http2: bool) -> Result<Connected, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |source| ConnectError::Http { origin: origin.clone(), source };
    if http2 {
        let frames = Arc::new(Frames::default());
        let stream = Framed::new(stream, Arc::clone(&frames));
        let shared = http2::Shared::start(stream, frames).await.map_err(failed)?;
        return Ok(Connected::Http2(shared));
    }
    let connection = http1::Connection::start(TokioIo::new(stream), line).await.map_err(failed)?;
    Ok(Connected::Http1(connection))
}
