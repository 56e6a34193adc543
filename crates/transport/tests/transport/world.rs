//! What every test has: a CA, a server, tokens, a proxy's link.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotakeeper_listen::ClosedConnections;
use quotakeeper_proxy::LinkPeer;
use quotakeeper_transport::{
    Accept, Authenticate, Link, PodIdentity, ProxyGone, SessionsAlone, Unauthenticated, serve, tls,
};
use quotakeeper_wire::bootstrap::Endpoint;
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use rustls::ServerConfig;
use tempfile::TempDir;
pub use test_support::certificates::Ca;
use test_support::ports::free_port;
pub use test_support::wait::until;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The name in the limiter's certificate.
pub const NAME: &str = "quotakeeper-limiter.quotakeeper.svc";

/// TLS of a server of this name.
pub fn server_tls(ca: &Ca, name: &str) -> Arc<ServerConfig> {
    let leaf = ca.issue(name);
    tls::server_config(&leaf.certificate, &leaf.key).unwrap()
}

/// Tokens that are valid, and how often one was shown.
#[derive(Clone, Default)]
pub struct Tokens {
    valid: Arc<Mutex<BTreeSet<String>>>,
    shown: Arc<AtomicUsize>,
}

impl Tokens {
    pub fn of(token: &str) -> Tokens {
        let tokens = Tokens::default();
        tokens.admit(token);
        tokens
    }

    pub fn admit(&self, token: &str) {
        self.valid.lock().unwrap().insert(token.to_owned());
    }

    pub fn shown(&self) -> usize {
        self.shown.load(Ordering::Relaxed)
    }
}

impl Authenticate for Tokens {
    async fn authenticate(&self, token: &str) -> Result<PodIdentity, Unauthenticated> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        if !self.valid.lock().unwrap().contains(token) {
            return Err(Unauthenticated::Refused("the token is not for this limiter".to_owned()));
        }
        Ok(PodIdentity {
            namespace: "sales".to_owned(),
            pod: token.to_owned(),
            uid: format!("uid-of-{token}"),
            service_account: "default".to_owned(),
            consumer: CONSUMER.into(),
            labels: Default::default(),
        })
    }
}

/// The workload of every pod.
pub const CONSUMER: &str = "sales/Job/enrich";

/// A server that runs until it is stopped.
pub struct Server {
    pub address: SocketAddr,
    pub tls: watch::Sender<Arc<ServerConfig>>,
    pub closed: ClosedConnections,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// At `address`; port 0 takes a free one.
    pub async fn start(
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        tokens: Tokens,
        limiter: impl Accept,
    ) -> Server {
        // A port that has just been left may be busy for a moment.
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let address = listener.local_addr().unwrap();
        let (tls, newest) = watch::channel(tls);
        let stop = CancellationToken::new();
        let closed = ClosedConnections::default();
        let others = (SessionsAlone, closed.clone());
        let task = tokio::spawn(serve(listener, newest, tokens, limiter, others, stop.clone()));
        Server { address, tls, closed, stop, task }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As a killed process stops: its peers get no reason.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// A token file, and where a proxy is to connect.
pub struct Pod {
    folder: TempDir,
}

impl Pod {
    pub fn new() -> Pod {
        Pod { folder: tempfile::tempdir().unwrap() }
    }

    pub fn with_token(token: &str) -> Pod {
        let pod = Pod::new();
        pod.renew(token);
        pod
    }

    /// As the kubelet renews it: by renaming, with a line's end.
    pub fn renew(&self, token: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{token}\n")).unwrap();
        std::fs::rename(new, self.token_file()).unwrap();
    }

    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }
}

pub fn endpoint(address: SocketAddr, ca: &Ca) -> Endpoint {
    Endpoint { address: address.to_string(), server_name: NAME.to_owned(), ca_pem: ca.pem() }
}

/// The proxy's own link, as the client needs it.
pub struct Peer(pub LinkPeer);

impl Link for Peer {
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

pub fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// One that nobody else takes while a server that starts again leaves it.
pub fn kept() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
