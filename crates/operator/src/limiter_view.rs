//! Reads the limiter's stream of reports while this replica leads.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use quotakeeper_transport::ACTIVE_LIMITER;
use quotakeeper_transport::tls::{TlsError, client_config};
use quotakeeper_wire::status::{EVERY_SECONDS, PATH, Report};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use crate::injection::endpoint;

/// After this time without a report the connection is dropped.
const SILENCE: Duration = Duration::from_secs(3 * EVERY_SECONDS);
/// After this time without a report the limiter counts as unavailable: a few reports are missed, which a moment's
/// stall of the machine does not explain.
pub const LIMITER_TIMEOUT: Duration = Duration::from_secs(4 * EVERY_SECONDS);
/// An ordinary replacement of the limiter's pod takes no longer than this.
pub const REPLACEMENT: Duration = Duration::from_secs(60);
/// The longest that connecting may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before connecting again.
const AGAIN: Duration = Duration::from_secs(1);
/// The same to a limiter that was named.
const NAMED: Duration = Duration::from_millis(50);
/// The longest report, in bytes: a thousand accounts with a thousand waiting workloads each.
const LONGEST: usize = 128 * 1024 * 1024;

/// The limiter whose reports are read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its address: `https://host:port`.
    pub limiter: String,
    /// Its namespace.
    pub namespace: String,
    /// The file with the operator's token; read for every connection, because it is renewed.
    pub token_file: PathBuf,
}

/// The newest report of the limiter.
#[derive(Clone, Debug)]
pub struct LimiterView {
    /// The report; none before the first.
    pub report: Option<Arc<Report>>,
    /// When it arrived; before the first: when the operator began to lead.
    pub at: Instant,
    /// The same time, for people.
    pub at_time: Timestamp,
}

impl LimiterView {
    /// No report yet.
    pub fn nothing() -> LimiterView {
        LimiterView::arrived(None)
    }

    fn arrived(report: Option<Arc<Report>>) -> LimiterView {
        LimiterView { report, at: Instant::now(), at_time: Timestamp::now() }
    }

    /// How long the limiter has been silent.
    pub fn silence(&self, now: Instant) -> Duration {
        now.duration_since(self.at)
    }

    /// The newest report; none: the limiter has not reported for [`LIMITER_TIMEOUT`], or not to this leader yet.
    pub fn current(&self, now: Instant) -> Option<&Arc<Report>> {
        self.report.as_ref().filter(|_| self.silence(now) < LIMITER_TIMEOUT)
    }
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("its certificate's CA is not known yet")]
    NoCa,
    #[error("its token can't be read from {0}: {1}; mount a ServiceAccount token there")]
    Token(PathBuf, io::Error),
    #[error("it does not answer")]
    Silent,
    #[error("{0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("it answers {0}")]
    Refused(StatusCode),
    #[error("it names an active limiter in a way that can't be read")]
    Standby,
    #[error("a report can't be read: {0}; limiter and operator must be of the same version")]
    Unreadable(#[from] serde_json::Error),
    #[error("a report is longer than {LONGEST} bytes")]
    TooLong,
    #[error("it has ended the stream")]
    Ended,
}

/// Reads reports, and connects again after each failure.
pub async fn listen(
    source: &Source,
    limiter_ca: watch::Receiver<Option<String>>,
    view: &watch::Sender<LimiterView>,
) {
    let mut logged = String::new();
    let mut named = None;
    loop {
        let before = view.borrow().at;
        let lost = match stream(source, named.take(), &limiter_ca, view).await {
            Ok(active) => {
                named = Some(active);
                // As soon as that: it may name another in turn.
                sleep(NAMED).await;
                continue;
            }
            Err(lost) => lost,
        };
        let sentence = lost.to_string();
        if view.borrow().at != before {
            info!(why = sentence, "the limiter's reports are interrupted; connecting again");
        } else if sentence != logged {
            warn!(why = sentence, "no connection to the limiter; trying again");
        } else {
            debug!(why = sentence, "still no connection to the limiter");
        }
        logged = sentence;
        sleep(AGAIN).await;
    }
}

/// Reads reports of the limiter at the address of the source, or of the one that was `named`. One on standby names the
/// active one, whose address this returns.
async fn stream(
    source: &Source,
    named: Option<String>,
    limiter_ca: &watch::Receiver<Option<String>>,
    view: &watch::Sender<LimiterView>,
) -> Result<String, Lost> {
    let ca_pem = limiter_ca.borrow().clone().ok_or(Lost::NoCa)?;
    let limiter = endpoint(&source.limiter, &source.namespace, ca_pem);
    let token = tokio::fs::read_to_string(&source.token_file).await;
    let token = token.map_err(|error| Lost::Token(source.token_file.clone(), error))?;
    let connector = TlsConnector::from(client_config(&limiter.ca_pem)?);
    let name = ServerName::try_from(limiter.server_name.clone())?;
    let connected = async {
        let stream = TcpStream::connect(named.as_ref().unwrap_or(&limiter.address)).await?;
        let stream = connector.connect(name, stream).await?;
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await?;
        Ok::<_, Lost>(connection)
    };
    let (mut sender, connection) = timeout(PATIENCE, connected).await.map_err(|_| Lost::Silent)??;
    let mut connection = std::pin::pin!(connection);
    let request = Request::get(format!("https://{}{PATH}", limiter.server_name))
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .body(Empty::<Bytes>::new())?;
    let reading = async {
        let response = timeout(SILENCE, sender.send_request(request)).await.map_err(|_| Lost::Silent)??;
        if let Some(active) = response.headers().get(ACTIVE_LIMITER) {
            return active.to_str().map(str::to_owned).map_err(|_| Lost::Standby);
        }
        if response.status() != StatusCode::OK {
            return Err(Lost::Refused(response.status()));
        }
        let mut body = response.into_body();
        let mut lines = Lines::default();
        loop {
            let frame = timeout(SILENCE, body.frame()).await.map_err(|_| Lost::Silent)?;
            let frame = frame.ok_or(Lost::Ended)??;
            let Ok(data) = frame.into_data() else { continue };
            for line in lines.take(&data)? {
                let report: Report = serde_json::from_slice(&line)?;
                view.send_replace(LimiterView::arrived(Some(Arc::new(report))));
            }
        }
    };
    tokio::select! {
        read = reading => read,
        ended = &mut connection => {
            ended?;
            Err(Lost::Ended)
        }
    }
}

/// Joins pieces of data into lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that are complete now.
    fn take(&mut self, data: &[u8]) -> Result<Vec<Vec<u8>>, Lost> {
        let mut whole = Vec::new();
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.begun);
            if !line.is_empty() {
                whole.push(line);
            }
            rest = &rest[end + 1..];
        }
        if self.begun.len() + rest.len() > LONGEST {
            return Err(Lost::TooLong);
        }
        self.begun.extend_from_slice(rest);
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_come_in_any_pieces() {
        let mut lines = Lines::default();
        assert!(lines.take(b"{\"a\"").unwrap().is_empty());
        assert_eq!(lines.take(b":1}\n\n{}\n{").unwrap(), [b"{\"a\":1}".to_vec(), b"{}".to_vec()]);
        assert_eq!(lines.take(b"}\n").unwrap(), [b"{}".to_vec()]);
    }
}
