//! The task that keeps the book: it reads the clock, carries messages, and wakes the engines.
//!
//! One task for all accounts: a decision takes about a microsecond, and one owner makes every
//! order of events an order that the simulator has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{Epoch, ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::book::{AccountStatus, Book, ConnectionId};

/// Messages to a proxy that may be under way; one that does not take them is disconnected, so
/// that it holds nobody else up.
const TO_PROXY: usize = 8192;
/// Messages of all proxies that may be under way.
const INBOX: usize = 8192;

/// A running limiter, for those who speak to it.
#[derive(Clone)]
pub struct Limiter {
    inbox: mpsc::Sender<Inbound>,
}

/// A connection to the limiter: what it says, and where to say something.
pub struct Connection {
    id: ConnectionId,
    inbox: mpsc::Sender<Inbound>,
    /// What the limiter says; ends when the limiter has ended the connection.
    pub says: mpsc::Receiver<ToProxy>,
}

/// The limiter has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limiter has stopped")]
pub struct Stopped;

enum Inbound {
    Connected(oneshot::Sender<(ConnectionId, mpsc::Receiver<ToProxy>)>),
    Says(ConnectionId, ToLimiter),
    Lost(ConnectionId),
    Status(oneshot::Sender<Vec<AccountStatus>>),
}

impl Limiter {
    /// Starts the task.
    pub fn start(accounts: Vec<CompiledAccount>, epoch: Epoch) -> Limiter {
        let (sender, inbox) = mpsc::channel(INBOX);
        let host =
            Host { book: Book::new(accounts, epoch, now()), connections: BTreeMap::new(), next: 0, inbox };
        tokio::spawn(host.keep());
        Limiter { inbox: sender }
    }

    /// Connects a proxy.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn connect(&self) -> Result<Connection, Stopped> {
        let (reply, connected) = oneshot::channel();
        self.inbox.send(Inbound::Connected(reply)).await.map_err(|_| Stopped)?;
        let (id, says) = connected.await.map_err(|_| Stopped)?;
        Ok(Connection { id, inbox: self.inbox.clone(), says })
    }

    /// Where all accounts stand.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<Vec<AccountStatus>, Stopped> {
        let (reply, status) = oneshot::channel();
        self.inbox.send(Inbound::Status(reply)).await.map_err(|_| Stopped)?;
        status.await.map_err(|_| Stopped)
    }
}

impl Connection {
    /// Says something to the limiter.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn say(&self, message: ToLimiter) -> Result<(), Stopped> {
        self.inbox.send(Inbound::Says(self.id, message)).await.map_err(|_| Stopped)
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn close(self) -> Result<(), Stopped> {
        self.inbox.send(Inbound::Lost(self.id)).await.map_err(|_| Stopped)
    }
}

struct Host {
    book: Book,
    connections: BTreeMap<ConnectionId, mpsc::Sender<ToProxy>>,
    next: u64,
    inbox: mpsc::Receiver<Inbound>,
}

impl Host {
    async fn keep(mut self) {
        let mut out = Vec::new();
        loop {
            let wake = self.book.next_wake();
            let until_wake = wake.map_or(Duration::MAX, |at| at.since(now()));
            tokio::select! {
                biased;
                inbound = self.inbox.recv() => match inbound {
                    Some(inbound) => self.take(inbound, &mut out),
                    None => return,
                },
                () = tokio::time::sleep(until_wake), if wake.is_some() => {
                    self.book.wake(now(), &mut out);
                }
            }
            self.send(&mut out);
        }
    }

    fn take(&mut self, inbound: Inbound, out: &mut Vec<(ConnectionId, ToProxy)>) {
        // Read after the message was received: a stamp in it lies before.
        let now = now();
        match inbound {
            Inbound::Connected(reply) => {
                self.next += 1;
                let id = ConnectionId(self.next);
                let (sender, says) = mpsc::channel(TO_PROXY);
                if reply.send((id, says)).is_ok() {
                    self.connections.insert(id, sender);
                    self.book.connect(id);
                }
            }
            Inbound::Says(connection, message) => {
                if let Err(violation) = self.book.receive(now, connection, message, out) {
                    warn!(%violation, "a proxy broke the session's rules; its connection is closed");
                    self.end(now, connection, out);
                }
            }
            Inbound::Lost(connection) => self.end(now, connection, out),
            Inbound::Status(reply) => {
                // Nobody waits for it any more if this fails.
                let _ = reply.send(self.book.status(now));
            }
        }
    }

    fn end(&mut self, now: Time, connection: ConnectionId, out: &mut Vec<(ConnectionId, ToProxy)>) {
        self.connections.remove(&connection);
        self.book.disconnect(now, connection, out);
    }

    /// Hands messages over. A proxy that is gone, or takes nothing, loses its connection, which may
    /// free turns for others: until nothing is left to be said.
    fn send(&mut self, out: &mut Vec<(ConnectionId, ToProxy)>) {
        while !out.is_empty() {
            let mut lost = Vec::new();
            for (connection, message) in out.drain(..) {
                let sent = self.connections.get(&connection).map(|proxy| proxy.try_send(message));
                if let Some(Err(error)) = sent {
                    warn!(%error, "a proxy takes no messages; its connection is closed");
                    lost.push(connection);
                }
            }
            for connection in lost {
                self.end(now(), connection, out);
            }
        }
    }
}

/// `CLOCK_BOOTTIME`: monotonic, and it goes on while the machine is suspended.
fn now() -> Time {
    Time(quotakeeper_proxy::clock::now().0)
}
