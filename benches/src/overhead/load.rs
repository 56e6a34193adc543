//! The client: connections that each send a small call, wait for its answer, and send the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A round ends after so many calls on a connection, whatever its time.
const CALLS_AT_MOST: usize = 1_000_000;

/// Where calls go.
#[derive(Clone)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// With TLS, trusting this; none: in clear.
    pub tls: Option<Arc<ClientConfig>>,
    /// The host that is asked for.
    pub host: String,
    /// The path that is asked for.
    pub path: String,
    /// What is sent.
    pub body: &'static str,
}

/// What came of a round.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the first call to the last answer.
    pub took: Duration,
    /// Until the answer's body begins, of each call, in ascending order.
    first_bytes: Vec<Duration>,
    /// Until its end.
    latencies: Vec<Duration>,
}

/// When the answer to a call began and ended.
#[derive(Clone, Copy, Debug)]
struct Answered {
    first_byte: Duration,
    end: Duration,
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

impl Outcome {
    fn new(took: Duration, answers: &[Answered]) -> Outcome {
        let sorted = |of: fn(&Answered) -> Duration| {
            let mut all: Vec<Duration> = answers.iter().map(of).collect();
            all.sort_unstable();
            all
        };
        Outcome { took, first_bytes: sorted(|it| it.first_byte), latencies: sorted(|it| it.end) }
    }

    /// Calls that were answered.
    pub fn calls(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that so many percent of the calls did not exceed; of no calls: zero.
    pub fn quantile(&self, percent: usize) -> Duration {
        quantile(&self.latencies, percent)
    }

    /// The same of the time until the answer's body begins.
    pub fn first_byte(&self, percent: usize) -> Duration {
        quantile(&self.first_bytes, percent)
    }
}

/// Calls on so many connections for so long.
///
/// # Errors
/// When a connection fails, or a call is answered with anything but 200.
pub async fn drive(target: &Target, connections: usize, time: Duration) -> anyhow::Result<Outcome> {
    let mut senders = Vec::with_capacity(connections);
    for _ in 0..connections {
        senders.push(connect(target).await?);
    }
    let began = Instant::now();
    let end = began + time;
    let workers: Vec<_> =
        senders.into_iter().map(|sender| tokio::spawn(call_until(sender, target.clone(), end))).collect();
    let mut answers = Vec::new();
    for worker in workers {
        answers.extend(worker.await??);
    }
    Ok(Outcome::new(began.elapsed(), &answers))
}

async fn call_until(
    mut sender: SendRequest<Full<Bytes>>,
    target: Target,
    end: Instant,
) -> anyhow::Result<Vec<Answered>> {
    let mut answers = Vec::with_capacity(16 * 1024);
    while answers.len() < CALLS_AT_MOST && Instant::now() < end {
        let request = Request::post(&target.path)
            .header("host", &target.host)
            .header("authorization", "Bearer bench")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(target.body.as_bytes())))?;
        let began = Instant::now();
        let answer = sender.send_request(request).await.context("a call broke off")?;
        ensure!(answer.status() == StatusCode::OK, "a call was answered with {}", answer.status());
        let (mut body, mut first_byte) = (answer.into_body(), None);
        while let Some(frame) = body.frame().await {
            frame.context("an answer broke off")?;
            first_byte.get_or_insert_with(|| began.elapsed());
        }
        let end = began.elapsed();
        answers.push(Answered { first_byte: first_byte.unwrap_or(end), end });
    }
    Ok(answers)
}

async fn connect(target: &Target) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target.address).await;
    let stream = stream.with_context(|| format!("{} does not listen", target.address))?;
    stream.set_nodelay(true)?;
    match &target.tls {
        None => {
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            // What ends a connection is told by the call that needs it.
            tokio::spawn(async move { connection.await.ok() });
            Ok(sender)
        }
        Some(config) => {
            let name = ServerName::try_from(target.host.clone())?;
            let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(async move { connection.await.ok() });
            Ok(sender)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_latency_that_was_seen() {
        let micros = Duration::from_micros;
        let answers: Vec<_> = (1..=200)
            .rev()
            .map(|number| Answered { first_byte: micros(number), end: micros(2 * number) })
            .collect();
        let outcome = Outcome::new(Duration::from_secs(1), &answers);
        assert_eq!((outcome.quantile(50), outcome.first_byte(50)), (micros(200), micros(100)));
        assert_eq!((outcome.quantile(99), outcome.first_byte(99)), (micros(396), micros(198)));
        assert_eq!(Outcome::new(Duration::ZERO, &[]).quantile(99), Duration::ZERO);
    }
}
