//! A running provider: starts the doors, hands out their addresses, takes orders and answers questions in process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::Book;
use crate::certificates::{self, CertificateError};
use crate::control;
use crate::dialect::Dialect;
use crate::force::{Force, ForceError};
use crate::log::Entry;
use crate::rules::{RuleBook, Rules, RulesError};
use crate::server;
use crate::shared::Shared;
use crate::stalls;
use crate::summary::Summary;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;

/// Where to listen, and by which rules to judge. By default on free ports of 127.0.0.1, by the built-in table.
#[derive(Debug, Clone)]
pub struct Options {
    /// TLS, HTTP/1.1 and HTTP/2 by ALPN; port 0 takes a free one.
    pub https: Option<SocketAddr>,
    /// Cleartext, HTTP/1.1 and HTTP/2 with prior knowledge.
    pub http: Option<SocketAddr>,
    /// The control port.
    pub control: Option<SocketAddr>,
    /// What differs from the built-in table.
    pub rules: RuleBook,
}

impl Default for Options {
    fn default() -> Self {
        let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { https: free, http: free, control: free, rules: RuleBook::default() }
    }
}

/// The provider could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}; choose another address, or port 0 for a free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No certificates.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
}

/// A running provider. It stops when it is dropped.
#[derive(Debug)]
pub struct Provider {
    shared: Arc<Shared>,
    https: Option<SocketAddr>,
    http: Option<SocketAddr>,
    control: Option<SocketAddr>,
    stop: CancellationToken,
    doors: TaskTracker,
}

/// Starts a provider; when this returns, every address is listening.
///
/// # Errors
/// When an address is taken or the certificates can't be made.
pub async fn start(options: Options) -> Result<Provider, StartError> {
    let (ca_pem, tls) = certificates::make()?;
    let acceptor = TlsAcceptor::from(tls);
    let shared = Arc::new(Shared::new(Book::new(options.rules), ca_pem));
    let (stop, doors) = (CancellationToken::new(), TaskTracker::new());
    doors.spawn(stalls::watch(shared.clone(), stop.clone()));
    let (https_door, https) = open(options.https)?;
    let (http_door, http) = open(options.http)?;
    let (control_door, control) = open(options.control)?;
    if let Some(listener) = https_door {
        let shared = shared.clone();
        let serve = move |stream| server::serve_tls(shared.clone(), acceptor.clone(), stream);
        doors.spawn(server::accept(listener, stop.clone(), serve));
    }
    if let Some(listener) = http_door {
        let shared = shared.clone();
        doors.spawn(server::accept(listener, stop.clone(), move |stream| {
            server::serve(shared.clone(), stream)
        }));
    }
    if let Some(listener) = control_door {
        let shared = shared.clone();
        doors.spawn(server::accept(listener, stop.clone(), move |stream| {
            control::serve(shared.clone(), stream)
        }));
    }
    doors.close();
    Ok(Provider { shared, https, http, control, stop, doors })
}

fn open(address: Option<SocketAddr>) -> Result<(Option<TcpListener>, Option<SocketAddr>), StartError> {
    let Some(address) = address else {
        return Ok((None, None));
    };
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((Some(listener), Some(bound)))
    };
    listen().map_err(|source| StartError::Listen { address, source })
}

impl Provider {
    /// The TLS address, if it listens there.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// The cleartext address, if it listens there.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The control port's address, if it listens there.
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The certificate of the authority that signed the server's, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.shared.ca_pem
    }

    /// Nanoseconds since the start: the clock of the log.
    pub fn now_nanos(&self) -> u64 {
        self.shared.now()
    }

    /// An account's requests in the order of the decisions; empty before its first.
    pub fn log(&self, account: &str) -> Vec<Entry> {
        self.shared.book().log(Some(account))
    }

    /// All requests, those without a credential too.
    pub fn whole_log(&self) -> Vec<Entry> {
        self.shared.book().log(None)
    }

    /// What an account's log adds up to.
    pub fn summary(&self, account: &str) -> Summary {
        self.shared.book().summary(account)
    }

    /// Every account that has called, with its provider and its number of requests.
    pub fn accounts(&self) -> Vec<(String, Dialect, u64)> {
        self.shared.book().accounts()
    }

    /// Lays `rules` over what the account has. Changed limits are filled from the log.
    ///
    /// # Errors
    /// When a limit can't be counted.
    pub fn set_rules(&self, account: &str, rules: Rules) -> Result<(), RulesError> {
        rules.check()?;
        self.shared.book().set_rules(account, rules);
        Ok(())
    }

    /// Answers the next requests as told.
    ///
    /// # Errors
    /// When the answer can't be sent.
    pub fn force(&self, force: Force) -> Result<(), ForceError> {
        force.check()?;
        let now = self.shared.now();
        self.shared.book().force(force, now);
        Ok(())
    }

    /// Goes down for so long: open connections close now, and each request closes its connection without an answer.
    /// With zero it comes up again.
    pub fn down(&self, time: Duration) {
        self.shared.down(time);
    }

    /// Forgets an account's log, counts and forced answers, or everybody's; the rules stay.
    pub fn reset(&self, account: Option<&str>) {
        self.shared.book().reset(account);
    }

    /// Stops: closes every connection and waits until nothing listens any more.
    pub async fn stop(self) {
        self.stop.cancel();
        self.doors.wait().await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
