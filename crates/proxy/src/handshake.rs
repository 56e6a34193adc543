//! TLS handshakes with clients, and what is said of clients that don't trust the proxy's CA.
//!
//! Such a client ends the handshake with an alert, or completes it and leaves without a request (GnuTLS). Its call never
//! becomes a request, so that no other place of the proxy could know of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quotakeeper_wire::message::NoticeKind;
use rustls::server::Acceptor;
use rustls::{AlertDescription, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::HostPattern;
use crate::forward::{ProxyContext, RareLog};

/// The server's side of TLS for the providers' hosts.
pub(crate) struct Handshakes {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) context: Arc<ProxyContext>,
    /// How a client can be made to trust the proxy's CA, as a sentence.
    pub(crate) remedy: String,
    pub(crate) told: RareLog,
}

/// A connection after its handshake.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    host: String,
}

impl Handshakes {
    /// The handshake of a new connection; none where it failed, which is counted and logged.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Option<Secured> {
        let hello = match LazyConfigAcceptor::new(Acceptor::default(), socket).await {
            Ok(hello) => hello,
            Err(error) => {
                self.failed("", &error);
                return None;
            }
        };
        let host = hello.client_hello().server_name().unwrap_or_default().to_owned();
        match hello.into_stream(Arc::clone(&self.config)).await {
            Ok(stream) => Some(Secured { stream, host }),
            Err(error) => {
                match error.kind() {
                    // Java's HttpClient says nothing.
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => self.left_unused(&host),
                    _ => self.failed(&host, &error),
                }
                None
            }
        }
    }

    fn failed(&self, host: &str, error: &io::Error) {
        let Some(alert) = distrust(error) else {
            self.context.telemetry.metrics.handshake_failed("Other");
            return tracing::warn!(host, %error, "a client's TLS handshake failed");
        };
        self.context.telemetry.metrics.handshake_failed("DistrustedCA");
        self.context.telemetry.counts.distrusted.fetch_add(1, Ordering::Relaxed);
        self.tell(
            format!(
                "a client does not trust the proxy's CA ({alert:?}), and its call to {host} failed: {}",
                self.remedy
            ),
            host,
        );
    }

    /// Logs it, rarely, and tells the limiter, once a quota.
    fn tell(&self, what: String, host: &str) {
        if self.told.is_news() {
            tracing::warn!("{what}");
        }
        let covers = |hosts: &[HostPattern]| hosts.iter().any(|pattern| pattern.covers(host));
        if let Some(endpoint) = self.context.endpoints.iter().find(|endpoint| covers(&endpoint.hosts)) {
            self.context.admission.notice(endpoint.index, NoticeKind::DistrustedCa, what);
        }
    }

    /// A client has closed its connection without a request.
    pub(crate) fn left_unused(&self, host: &str) {
        self.context.telemetry.metrics.handshake_failed("NoRequest");
        // Clients that are known to trust it may open connections ahead of need.
        if !self.context.telemetry.counts.has_calls() {
            self.context.telemetry.counts.distrusted.fetch_add(1, Ordering::Relaxed);
            self.tell(format!(
                "a client closed its connection to {host} without a request; if it does not trust the proxy's CA: {}",
                self.remedy
            ), host);
        }
    }
}

impl Secured {
    /// The connection, and the host that it is for.
    pub(crate) fn into_parts(self) -> (TlsStream<TcpStream>, String) {
        (self.stream, self.host)
    }
}

/// The alert by which a client says that it does not trust a certificate (RFC 8446 §6.2). OpenSSL and rustls say
/// `unknown_ca`, Go `bad_certificate`, Java `certificate_unknown`.
fn distrust(error: &io::Error) -> Option<AlertDescription> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown),
        ) => Some(*alert),
        _ => None,
    }
}
