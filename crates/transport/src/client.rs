//! The proxy's end of the session: it reconnects for as long as the proxy lives.

mod backoff;
mod race;
mod session;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use quotakeeper_wire::bootstrap::Endpoint;
use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use self::backoff::Backoff;
use self::race::Limiters;
use self::session::{Lost, session};
use crate::link::{Link, ProxyGone};
use crate::tls::{self, TlsError};

/// An endpoint that can never be connected to.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Its CA.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its server name.
    #[error("{name:?} is no server name ({source}); give the DNS name in the limiter's certificate")]
    Name {
        /// The name that was given.
        name: String,
        source: InvalidDnsNameError,
    },
}

/// Opens TCP connections.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// If the address can't be reached; it is tried again.
    fn dial(&self, address: &str) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// The addresses of `host:port`: of limiters, one of which is active.
    ///
    /// # Errors
    /// If there is none; it is tried again.
    fn addresses(&self, address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        let address = address.to_owned();
        async move { Ok(tokio::net::lookup_host(address).await?.collect()) }
    }
}

/// Resolves names as the system does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDial;

impl Dial for SystemDial {
    async fn dial(&self, address: &str) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// A connector to an endpoint that has been checked.
struct Connector<D> {
    address: String,
    token_file: PathBuf,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    dial: D,
}

/// Connects the proxy behind `link` to the limiter, again and again, until the proxy is gone. Between two
/// attempts it waits 50 ms at first and 2 s at most, with full jitter. The session is with the one that accepts it of
/// the limiters that the endpoint's name leads to, and that those on standby name. `token_file` holds the pod's token; it is
/// read for every connection, because Kubernetes renews it.
///
/// # Errors
/// [`EndpointError`], at once. Other failures are retried.
pub async fn keep_connected(
    endpoint: Endpoint,
    token_file: PathBuf,
    dial: impl Dial,
    link: impl Link,
) -> Result<(), EndpointError> {
    let Endpoint { address, server_name, ca_pem } = endpoint;
    let tls = tls::client_config(&ca_pem)?;
    let name = ServerName::try_from(server_name.clone())
        .map_err(|source| EndpointError::Name { name: server_name, source })?;
    let connector = Connector { address, token_file, name, tls, dial };
    let Err(ProxyGone) = reconnect(&connector, &link).await;
    Ok(())
}

async fn reconnect<D: Dial>(
    connector: &Connector<D>,
    link: &impl Link,
) -> Result<std::convert::Infallible, ProxyGone> {
    let address = &connector.address;
    let mut backoff = Backoff::default();
    let mut logged = String::new();
    let mut limiters = Limiters::default();
    loop {
        let Lost { why, greeted } = session(connector, link, &mut limiters).await?;
        link.disconnect().await?;
        if greeted && !why.is_ours() {
            backoff.reset();
        }
        let wait = backoff.next();
        let sentence = why.to_string();
        if greeted {
            info!(address, why = sentence, "the session with the limiter ended; connecting again");
        } else if sentence != logged {
            warn!(address, why = sentence, "no session with the limiter; calls wait, retrying");
        } else {
            debug!(address, why = sentence, ?wait, "still no session with the limiter");
        }
        logged = sentence;
        sleep(wait).await;
    }
}
