//! Keeps a proxy's session with the limiter up, for as long as the proxy lives.

mod backoff;
mod session;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use self::backoff::Backoff;
use self::session::{Lost, session};
use crate::link::{Link, ProxyGone};
use crate::tls::{self, TlsError};

/// Where the limiter is, and how one knows that it is the one.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address, `host:port`.
    pub endpoint: String,
    /// The name that its certificate must have.
    pub server_name: String,
    /// The CA that must have signed it, in PEM; no other is trusted.
    pub ca_pem: String,
    /// The file that holds the pod's token; read anew for every connection, because it is renewed.
    pub token_file: PathBuf,
}

/// A target that no connection can be made to, ever.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The CA.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name.
    #[error("{name:?} is no server name ({source}); give the DNS name in the limiter's certificate")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong.
        source: InvalidDnsNameError,
    },
}

/// Opens TCP connections.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// When nobody answers there; it is tried again.
    fn dial(&self, endpoint: &str) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// Resolves names as the system does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDial;

impl Dial for SystemDial {
    async fn dial(&self, endpoint: &str) -> io::Result<TcpStream> {
        TcpStream::connect(endpoint).await
    }
}

/// A target that has been checked.
struct Way<D> {
    target: Target,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    dial: D,
}

/// Connects the proxy behind `link` with the limiter, again and again, until the proxy is gone.
/// Between two attempts it waits 50 ms at first and 2 s at most, at random within each step.
///
/// # Errors
/// [`TargetError`], at once. Whatever else fails may succeed later.
pub async fn keep_connected(target: Target, dial: impl Dial, link: impl Link) -> Result<(), TargetError> {
    let tls = tls::client_config(&target.ca_pem)?;
    let name = ServerName::try_from(target.server_name.clone())
        .map_err(|source| TargetError::Name { name: target.server_name.clone(), source })?;
    let way = Way { target, name, tls, dial };
    let Err(ProxyGone) = keep(&way, &link).await;
    Ok(())
}

async fn keep<D: Dial>(way: &Way<D>, link: &impl Link) -> Result<std::convert::Infallible, ProxyGone> {
    let endpoint = &way.target.endpoint;
    let mut backoff = Backoff::default();
    let mut told = String::new();
    loop {
        let Lost { why, greeted } = session(way, link).await?;
        link.disconnect().await?;
        if greeted && !why.blames_us() {
            backoff.reset();
        }
        let wait = backoff.next();
        let sentence = why.to_string();
        if greeted {
            info!(endpoint, why = sentence, "the session with the limiter ended; connecting again");
        } else if sentence != told {
            warn!(endpoint, why = sentence, "no session with the limiter; calls wait, trying on");
        } else {
            debug!(endpoint, why = sentence, ?wait, "still no session with the limiter");
        }
        told = sentence;
        sleep(wait).await;
    }
}
