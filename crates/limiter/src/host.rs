//! The task that keeps the book: it reads the clock, carries messages, wakes the engines, and has
//! the ledger written.
//!
//! One task for all accounts: a decision takes about a microsecond, and one owner makes every
//! order of events an order that the simulator has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::event::Reserve;
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{Epoch, ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::book::{AccountStatus, Book, ConnectionId, Past};
use super::clock::now;
use super::ledger::{Ledger, LedgerError, Record};

/// Messages to a proxy that may be under way; one that does not take them is disconnected, so
/// that it holds nobody else up.
const TO_PROXY: usize = 8192;
/// Messages of all proxies that may be under way.
const INBOX: usize = 8192;
/// After a failed commit: what is charged ahead is granted, then calls wait for the disk.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);
/// How far ahead of need calls are charged: what a crash may cost, on a quick disk …
const SHORTEST_HORIZON: Duration = Duration::from_millis(100);
/// … and on one that can hardly be used.
const LONGEST_HORIZON: Duration = Duration::from_secs(10);

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
    Written(Result<Vec<(String, Reserve)>, LedgerError>),
    Close(oneshot::Sender<Result<(), LedgerError>>),
}

impl Limiter {
    /// Starts a limiter that keeps no ledger: what it knows is gone with its process, and so is all
    /// that could draw on it.
    pub fn start(accounts: Vec<CompiledAccount>) -> Limiter {
        let accounts = accounts.into_iter().map(|account| (account, Past::Unknown)).collect();
        let (sender, inbox) = mpsc::channel(INBOX);
        let book = Book::new(accounts, Epoch(1), now());
        tokio::spawn(Host { book, connections: BTreeMap::new(), next: 0, inbox, writer: None }.keep());
        Limiter { inbox: sender }
    }

    /// Starts a limiter that goes on where its ledger ends. Nothing is granted before the ledger
    /// says so.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn start_with_ledger(
        accounts: Vec<CompiledAccount>,
        mut ledger: Ledger,
    ) -> Result<Limiter, LedgerError> {
        let epoch = Epoch(ledger.next_epoch()?);
        let mut opened = Vec::new();
        for account in accounts {
            let record = ledger.read(&account.key)?;
            opened.push((account, record.map_or(Past::Unknown, |record| Past::Ledger(Box::new(record)))));
        }
        let (sender, inbox) = mpsc::channel(INBOX);
        let begun = now();
        let mut book = Book::new(opened, epoch, begun);
        let records = book.records_without_reserve(begun);
        let reserves = reserves(&records);
        ledger.write(records.iter().map(|(key, record)| (key.as_str(), record)))?;
        book.committed(now(), reserves, &mut Vec::new());
        let writer = Some(Writer::start(ledger, sender.clone(), now().since(begun)));
        tokio::spawn(Host { book, connections: BTreeMap::new(), next: 0, inbox, writer }.keep());
        Ok(Limiter { inbox: sender })
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

    /// Stops granting and leaves the ledger as it is then.
    ///
    /// # Errors
    /// When the ledger can't be written: the next limiter then begins where the last commit was.
    pub async fn close(&self) -> anyhow::Result<()> {
        let (reply, closed) = oneshot::channel();
        self.inbox.send(Inbound::Close(reply)).await.map_err(|_| Stopped)?;
        Ok(closed.await.map_err(|_| Stopped)??)
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
    writer: Option<Writer>,
}

impl Host {
    async fn keep(mut self) {
        let mut out = Vec::new();
        loop {
            let wake = self.book.next_wake().into_iter().chain(self.next_commit(now())).min();
            let until_wake = wake.map_or(Duration::MAX, |at| at.since(now()));
            tokio::select! {
                biased;
                inbound = self.inbox.recv() => match inbound {
                    Some(Inbound::Close(reply)) => return self.close(reply),
                    Some(inbound) => self.take(inbound, &mut out),
                    None => return,
                },
                () = tokio::time::sleep(until_wake), if wake.is_some() => {
                    self.book.wake(now(), &mut out);
                }
            }
            self.send(&mut out);
            self.commit();
        }
    }

    /// Leaves the ledger as it is now: nothing is granted any more, so nothing is reserved.
    fn close(mut self, reply: oneshot::Sender<Result<(), LedgerError>>) {
        match self.writer.take() {
            Some(writer) => {
                let records = self.book.records_without_reserve(now());
                // Its thread lives as long as this task.
                let _ = writer.commits.send(Commit { records, last: Some(reply) });
            }
            // Nobody waits for it any more if this fails.
            None => drop(reply.send(Ok(()))),
        }
    }

    /// When the ledger is to be written next, unless it is being written.
    fn next_commit(&self, now: Time) -> Option<Time> {
        let writer = self.writer.as_ref().filter(|writer| writer.begun.is_none())?;
        self.book.commit_due(now).map(|at| at.max(writer.not_before))
    }

    fn commit(&mut self) {
        let now = now();
        if self.next_commit(now).is_none_or(|at| at > now) {
            return;
        }
        if let Some(writer) = &mut self.writer {
            writer.begun = Some(now);
            let records = self.book.due_records(now, writer.horizon);
            // Its thread lives as long as this task.
            let _ = writer.commits.send(Commit { records, last: None });
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
                if let Err(reason) = self.book.receive(now, connection, message, out) {
                    warn!(%reason, "a proxy's connection is closed");
                    self.end(now, connection, out);
                }
            }
            Inbound::Lost(connection) => self.end(now, connection, out),
            Inbound::Status(reply) => {
                // Nobody waits for it any more if this fails.
                let _ = reply.send(self.book.status(now));
            }
            Inbound::Written(written) => self.written(now, written, out),
            // The loop ends with it.
            Inbound::Close(_) => {}
        }
    }

    fn written(
        &mut self,
        now: Time,
        written: Result<Vec<(String, Reserve)>, LedgerError>,
        out: &mut Vec<(ConnectionId, ToProxy)>,
    ) {
        let Some(writer) = &mut self.writer else { return };
        if let Some(begun) = writer.begun.take() {
            writer.horizon = horizon(now.since(begun));
        }
        match written {
            Ok(reserves) => self.book.committed(now, reserves, out),
            Err(error) => {
                error!(%error, "calls wait until the ledger can be written");
                writer.not_before = now + COMMIT_AGAIN;
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

/// The thread that waits for the disk, one group commit at a time.
struct Writer {
    commits: std::sync::mpsc::Sender<Commit>,
    /// When the commit that is under way was begun.
    begun: Option<Time>,
    not_before: Time,
    /// How far ahead of need calls are charged.
    horizon: Duration,
}

/// Records to be written, and who waits for it if they are the last.
struct Commit {
    records: Vec<(String, Record)>,
    last: Option<oneshot::Sender<Result<(), LedgerError>>>,
}

impl Writer {
    fn start(mut ledger: Ledger, inbox: mpsc::Sender<Inbound>, first: Duration) -> Writer {
        let (sender, commits) = std::sync::mpsc::channel::<Commit>();
        // Ends when the task that sends is gone, or when there is none to answer.
        tokio::task::spawn_blocking(move || {
            for Commit { records, last } in commits {
                let reserves = reserves(&records);
                let written = ledger.write(records.iter().map(|(key, record)| (key.as_str(), record)));
                let told = match last {
                    Some(reply) => reply.send(written).is_ok(),
                    None => inbox.blocking_send(Inbound::Written(written.map(|()| reserves))).is_ok(),
                };
                if !told {
                    return;
                }
            }
        });
        Writer { commits: sender, begun: None, not_before: Time(0), horizon: horizon(first) }
    }
}

/// The reserve is of use only for what is left of it when its commit has ended: a slow disk needs
/// a longer one.
fn horizon(commit: Duration) -> Duration {
    (commit * 4).clamp(SHORTEST_HORIZON, LONGEST_HORIZON)
}

fn reserves(records: &[(String, Record)]) -> Vec<(String, Reserve)> {
    records.iter().map(|(key, record)| (key.clone(), record.reserve)).collect()
}
