//! How the active limiter hands its state to those on standby, when it ends by plan.
//!
//! ```text
//! standby                                    active
//!   │ POST /handover/v1, its certificate ─────► │ keeps the answer until it ends
//!   │ ◄──────────── length, what it hands over │ grants nothing more
//!   │ the end of the request ─────────────────► │ gives the Lease up
//! ```
//! Each side knows the other by its certificate. Whatever is lost on the way costs capacity: who takes the Lease without
//! a handover begins as after a crash.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::{Handover, Recovered};
use quotakeeper_transport::{Answer, Body, OtherLimiter};
use quotakeeper_wire::message::Epoch;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use crate::clock::machine_time;
use crate::door::{Door, Role};
use crate::ledger::{decode_handover, encode_handover};
use crate::stream::{refusal, standby};

/// Where it is asked for.
const PATH: &str = "/handover/v1";
/// How long a limiter that ends waits until one on standby has its state.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(1);
/// Timeout of a connection to the active limiter, and of the beginning of its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before it is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// A ping after this long without traffic, and the connection is closed without an answer for as long.
const PING: Duration = Duration::from_secs(5);
/// The largest handover, in bytes: a thousand accounts with hundreds of kilobytes each.
const LARGEST: u64 = 512 * 1024 * 1024;
/// For so long after a handover the Lease is looked at often.
const SOON: Duration = Duration::from_secs(3);

/// The active limiter's end, for one time of being active.
pub(crate) struct Giver {
    given: watch::Sender<Option<Bytes>>,
    accepted: mpsc::Receiver<()>,
    waiting: Arc<AtomicUsize>,
}

/// What those on standby find of it.
#[derive(Clone)]
pub struct Desk {
    given: watch::Receiver<Option<Bytes>>,
    accepted: mpsc::Sender<()>,
    waiting: Arc<AtomicUsize>,
}

impl Desk {
    /// How many limiters on standby wait for what is handed over.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A limiter on standby that waits.
struct Waiting(Desk);

impl Waiting {
    fn at(desk: Desk) -> Waiting {
        desk.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(desk)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both ends.
pub(crate) fn desk() -> (Giver, Desk) {
    let (given, waits) = watch::channel(None);
    let (accepts, accepted) = mpsc::channel(1);
    let waiting = Arc::default();
    let desk = Desk { given: waits, accepted: accepts, waiting: Arc::clone(&waiting) };
    (Giver { given, accepted, waiting }, desk)
}

impl Giver {
    /// Whether one on standby waits for it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Gives it to all who wait, and returns whether one of them has it.
    pub(crate) async fn give(mut self, handover: &Handover) -> bool {
        let encoded = match encode_handover(handover) {
            Ok(encoded) => encoded,
            Err(error) => {
                warn!(%error, "the state can't be handed over");
                return false;
            }
        };
        let mut framed = (encoded.len() as u64).to_be_bytes().to_vec();
        framed.extend(encoded);
        self.given.send_replace(Some(framed.into()));
        timeout(ACCEPTED_WITHIN, self.accepted.recv()).await.is_ok_and(|accepted| accepted.is_some())
    }
}

/// Answers `POST /handover/v1` of other limiters.
pub struct Handovers {
    /// Whether this limiter is active.
    pub door: Door,
}

/// How far an answer is.
enum Giving {
    Waits(Waiting, Incoming),
    Given(Waiting, Incoming),
}

impl Answer for Handovers {
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        if request.uri().path() != PATH {
            return None;
        }
        if request.method() != Method::POST {
            return Some(refusal(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed"));
        }
        if request.extensions().get::<OtherLimiter>().is_none() {
            info!("a request for a handover is refused: it shows no certificate of a limiter");
            return Some(refusal(
                StatusCode::FORBIDDEN,
                "only a limiter may ask for this, with its certificate",
            ));
        }
        let desk = match self.door.desk() {
            Ok(desk) => desk,
            Err(why) => return Some(standby(why)),
        };
        let frames =
            stream::unfold(Giving::Waits(Waiting::at(desk), request.into_body()), |giving| async move {
                match giving {
                    Giving::Waits(mut waiting, request) => {
                        // Fails if the limiter has ended without.
                        let given = waiting.0.given.wait_for(Option::is_some).await.ok()?.clone()?;
                        Some((Ok::<_, Infallible>(Frame::data(given)), Giving::Given(waiting, request)))
                    }
                    Giving::Given(waiting, mut request) => {
                        while let Some(frame) = request.frame().await {
                            frame.ok()?;
                        }
                        // Full: another has it too.
                        let _ = waiting.0.accepted.try_send(());
                        None
                    }
                }
            });
        Some(Response::new(Body::new(StreamBody::new(frames))))
    }
}

/// What another limiter has handed over, until this one is active.
#[derive(Clone, Default)]
pub(crate) struct Offers {
    offered: Arc<Mutex<Option<Offered>>>,
    news: Arc<Notify>,
}

struct Offered {
    handover: Handover,
    /// How far the clock that its times are of is ahead of this machine's, at most.
    shift: i64,
    at: Instant,
}

/// What a limiter begins with.
pub(crate) struct HandedOver {
    pub(crate) recovered: Recovered,
    /// How far its clock has to be ahead of the machine's, in nanoseconds.
    pub(crate) shift: i64,
}

impl Offers {
    fn locked(&self) -> MutexGuard<'_, Option<Offered>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, handover: Handover, received: Time) {
        let shift = i128::from(handover.sent.0) - i128::from(received.0);
        // Clocks of machines that have run for less than 292 years.
        let Ok(shift) = i64::try_from(shift) else { return };
        info!(
            epoch = handover.epoch.0,
            accounts = handover.records.len(),
            "the active limiter has handed over"
        );
        *self.locked() = Some(Offered { handover, shift, at: Instant::now() });
        self.news.notify_one();
    }

    /// Returns when something is handed over.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// The Lease is given up at any moment.
    pub(crate) fn is_fresh(&self) -> bool {
        self.locked().as_ref().is_some_and(|offered| offered.at.elapsed() < SOON)
    }

    /// The epoch of the limiter that has handed over.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.locked().as_ref().map(|offered| offered.handover.epoch.0)
    }

    /// What a limiter begins with that takes the Lease from one of the epoch `last`; none: nothing was handed over, or
    /// another has granted since.
    pub(crate) fn take(&self, last: Option<u64>) -> Option<HandedOver> {
        let Offered { handover, shift, .. } = self.locked().take()?;
        let recovered = handover.recovered(Epoch(last?))?;
        Some(HandedOver { recovered, shift })
    }
}

/// Something keeps the active limiter from telling its state.
#[derive(Debug, thiserror::Error)]
enum NotReceived {
    #[error("it can't be reached: {0}")]
    Connect(#[from] std::io::Error),
    #[error("it does not answer")]
    Silent,
    #[error("its answer is broken off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request can't be made: {0}")]
    Request(#[from] http::Error),
    #[error("it answers {0}")]
    Refused(StatusCode),
    #[error("it has ended without a handover")]
    Ended,
    #[error("its handover has more than {LARGEST} bytes")]
    TooLarge,
    #[error("its handover is that of another version, and of no use here")]
    OtherVersion,
}

/// While this limiter is on standby, asks the active one for what it hands over. `name`: that of the limiters'
/// certificates.
pub(crate) async fn listen(
    door: Door,
    tls: watch::Receiver<Option<Arc<ClientConfig>>>,
    name: ServerName<'static>,
    offers: Offers,
) {
    let (mut roles, mut logged) = (door.subscribe(), String::new());
    loop {
        let active = match &*roles.borrow_and_update() {
            Role::Standby { active } => *active,
            Role::Starting | Role::Active(..) => None,
        };
        let config = tls.borrow().clone();
        let (Some(active), Some(config)) = (active, config) else {
            match roles.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let received = tokio::select! {
            received = receive(active, config, name.clone(), &offers) => received,
            changed = roles.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let sentence = received.err().map(|error| error.to_string()).unwrap_or_default();
        if sentence != logged {
            debug!(%active, why = sentence, "no handover of the active limiter yet");
        }
        logged = sentence;
        sleep(AGAIN).await;
    }
}

/// Waits for what this limiter hands over.
async fn receive(
    active: SocketAddr,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    offers: &Offers,
) -> Result<(), NotReceived> {
    let uri = format!("https://{}{PATH}", name.to_str());
    let connected = async {
        let stream = TcpStream::connect(active).await?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok::<_, NotReceived>(connection)
    };
    let (mut sender, connection) = timeout(PATIENCE, connected).await.map_err(|_| NotReceived::Silent)??;
    let mut connection = std::pin::pin!(connection);
    let (accepts, accepted) = oneshot::channel::<()>();
    let request = Request::post(uri).body(StreamBody::new(until(accepted)))?;
    let exchange = async {
        let response = timeout(PATIENCE, sender.send_request(request)).await;
        let response = response.map_err(|_| NotReceived::Silent)??;
        if response.status() != StatusCode::OK {
            return Err(NotReceived::Refused(response.status()));
        }
        let mut body = response.into_body();
        let encoded = whole(&mut body).await?;
        // Read when all of it is here: the clock must not be ahead of the other's.
        let received = machine_time();
        let handover = decode_handover(&encoded).ok_or(NotReceived::OtherVersion)?;
        offers.receive(handover, received);
        drop(accepts);
        // Until the other has read that.
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    };
    tokio::select! {
        received = exchange => received,
        ended = &mut connection => {
            ended?;
            Err(NotReceived::Ended)
        }
    }
}

/// A body without content that ends with this.
fn until(
    ends: oneshot::Receiver<()>,
) -> Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>> {
    Box::pin(stream::once(ends).filter_map(|_| std::future::ready(None)))
}

/// The handover that follows its length.
async fn whole(body: &mut Incoming) -> Result<Vec<u8>, NotReceived> {
    let mut read = Vec::new();
    loop {
        if let Some((length, encoded)) = read.split_first_chunk::<8>() {
            let length = u64::from_be_bytes(*length);
            if length > LARGEST {
                return Err(NotReceived::TooLarge);
            }
            if encoded.len() as u64 >= length {
                return Ok(encoded.to_vec());
            }
        }
        let frame = body.frame().await.ok_or(NotReceived::Ended)??;
        read.extend(frame.into_data().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
