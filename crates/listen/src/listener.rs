//! Accepts connections, and closes those that give way.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::closed::{ClosedConnections, Reason};
use crate::places::{Arrival, Bounds, Id, Places};

/// The pause after an accept that failed: it fails for want of file descriptors, at once and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Closed connections are logged this often at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// A socket that is listened on, with its bounds.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// What it serves, as the log names it.
    serves: &'static str,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Mutex<Places<CancellationToken>>,
    /// A connection has ended or is trusted now.
    room: Notify,
    closed: ClosedConnections,
    said: Mutex<Option<Instant>>,
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places<CancellationToken>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Bounds the connections of `socket`, which serves `serves`: "the sessions of proxies", as the log names it. Those
    /// that give way or are turned away are counted in `closed`.
    pub fn new(socket: TcpListener, bounds: Bounds, serves: &'static str, closed: ClosedConnections) -> Self {
        let shared = Shared {
            places: Mutex::new(Places::new(bounds)),
            room: Notify::new(),
            closed,
            said: Mutex::new(None),
        };
        Self { socket, serves, shared: Arc::new(shared) }
    }

    /// The next connection and its place, however many fail. Safe to cancel: a connection that is not returned yet is
    /// closed, or stays in the system's queue.
    pub async fn accept(&self) -> (TcpStream, Place) {
        loop {
            match self
                .socket
                .accept()
                .await
                .and_then(|(stream, peer)| stream.set_nodelay(true).map(|()| (stream, peer)))
            {
                Ok((stream, peer)) => {
                    if let Some(place) = self.seat(peer.ip().to_canonical()).await {
                        return (stream, place);
                    }
                }
                Err(error) => {
                    debug!(%error, serves = self.serves, "a connection can't be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    async fn seat(&self, peer: IpAddr) -> Option<Place> {
        let mut token = CancellationToken::new();
        loop {
            let mut room = std::pin::pin!(self.shared.room.notified());
            // Listens from now on, so that no end is missed between the look and the wait.
            room.as_mut().enable();
            let arrival = self.shared.places().arrive(peer, token.clone());
            match arrival {
                Arrival::Admitted { id, evicted } => {
                    if let Some((whose, evicted)) = evicted {
                        evicted.cancel();
                        self.say_closed(whose, Reason::GaveWay);
                    }
                    return Some(Place { id, evicted: token, shared: Arc::clone(&self.shared) });
                }
                Arrival::Waits(kept) => {
                    token = kept;
                    room.await;
                }
                Arrival::TurnedAway => {
                    self.say_closed(peer, Reason::TurnedAway);
                    return None;
                }
            }
        }
    }

    fn say_closed(&self, peer: IpAddr, reason: Reason) {
        let counts = &self.shared.closed;
        counts.count(reason);
        let closed = counts.of(Reason::GaveWay) + counts.of(Reason::TurnedAway);
        let mut said = self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAID_EVERY) {
            *said = Some(Instant::now());
            warn!(%peer, closed, serves = self.serves, "too many connections: the oldest of the peer that has most are closed");
        }
    }
}

/// A connection's place. Dropped, it is free for another.
#[derive(Debug)]
pub struct Place {
    id: Id,
    evicted: CancellationToken,
    shared: Arc<Shared>,
}

impl Place {
    /// It is known now whose the connection is: it is pending no longer.
    pub fn trust(&self) {
        self.shared.places().trust(self.id);
        self.shared.room.notify_one();
    }

    /// Waits until the connection has to give way; it is to be closed at once then.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Runs `serve` until it ends, or the connection has to give way.
    pub async fn hold<T>(&self, serve: impl Future<Output = T>) -> Option<T> {
        let mut serve = std::pin::pin!(serve);
        let mut evicted = std::pin::pin!(self.evicted());
        poll_fn(|context| match evicted.as_mut().poll(context) {
            std::task::Poll::Ready(()) => std::task::Poll::Ready(None),
            std::task::Poll::Pending => serve.as_mut().poll(context).map(Some),
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.places().leave(self.id);
        self.shared.room.notify_one();
    }
}
