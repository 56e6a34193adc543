//! The session with a limiter across the network.

use std::io;
use std::net::SocketAddr;

use quotakeeper_transport::{Dial, ProxyGone};
use quotakeeper_wire::bootstrap::Endpoint;
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Layout;
use crate::LinkPeer;
use crate::resolve::{HostsFile, Intercepted, Resolver};

/// Connects the proxy behind `peer` with the limiter, again and again, until the proxy is gone.
///
/// # Errors
/// When the address, its name or its CA can't be used at all.
pub(super) fn keep_connected(
    limiter: &Endpoint,
    layout: &Layout,
    peer: LinkPeer,
) -> anyhow::Result<JoinHandle<()>> {
    // A CA that can never work fails the start.
    quotakeeper_transport::tls::client_config(&limiter.ca_pem)?;
    let (endpoint, token_file) = (limiter.clone(), layout.token.clone());
    let dial = ByDns(Resolver::new(layout.resolve.clone(), HostsFile::past(Intercepted::default())));
    Ok(tokio::spawn(async move {
        let connected = quotakeeper_transport::keep_connected(endpoint, token_file, dial, Session(peer));
        if let Err(error) = connected.await {
            tracing::error!(%error, "no session with the limiter is possible; calls wait until the pod is replaced");
        }
    }))
}

/// By the proxy's own resolver: a static program has no other.
struct ByDns(Resolver);

impl Dial for ByDns {
    async fn dial(&self, address: &str) -> io::Result<TcpStream> {
        TcpStream::connect(self.addresses(address).await?.as_slice()).await
    }

    async fn addresses(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is no host:port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        self.0.addresses(host, port).await.map_err(io::Error::other)
    }
}

/// The proxy, as the client of the session sees it.
struct Session(LinkPeer);

impl quotakeeper_transport::Link for Session {
    async fn connect(&self) -> Result<mpsc::Receiver<ToLimiter>, ProxyGone> {
        self.0.connect().await.map_err(|_| ProxyGone)
    }

    async fn disconnect(&self) -> Result<(), ProxyGone> {
        self.0.disconnect().await.map_err(|_| ProxyGone)
    }

    async fn deliver(&self, message: ToProxy) -> Result<(), ProxyGone> {
        self.0.say(message).await.map_err(|_| ProxyGone)
    }
}
