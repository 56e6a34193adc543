//! The task that owns the [`LimiterState`]: it reads the clock, delivers messages, wakes the engines,
//! and has the ledger written.
//!
//! One task for all accounts: a decision takes about a microsecond, and one owner makes every
//! order of events an order that the simulator can produce.
//!
//! | module | holds |
//! |---|---|
//! | `builder` | starts a limiter |
//! | `handle` | the handles of a running limiter |
//! | `writer` | the thread that waits for the disk |

mod builder;
mod handle;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::{ConnectionId, LimiterState, Outbox};
use quotakeeper_transport::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::ToProxy;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

pub use self::builder::{Builder, EarlierRuns};
use self::handle::{Command, NewConnection};
pub use self::handle::{Connection, Health, Inbox, Limiter};
use self::writer::Writer;
use crate::clock::now;
use crate::ledger::LedgerError;

/// Messages to a proxy that may be queued. A proxy that does not read them is disconnected, so that it
/// delays no other.
const TO_PROXY: usize = 8192;

struct LimiterTask {
    state: LimiterState,
    proxies: BTreeMap<ConnectionId, ProxyChannel>,
    last_connection: u64,
    commands: mpsc::Receiver<Command>,
    writer: Option<Writer>,
}

/// The channels to one proxy.
struct ProxyChannel {
    messages: mpsc::Sender<ToProxy>,
    end: oneshot::Sender<SessionEnd>,
}

impl LimiterTask {
    fn new(state: LimiterState, commands: mpsc::Receiver<Command>, writer: Option<Writer>) -> LimiterTask {
        LimiterTask { state, proxies: BTreeMap::new(), last_connection: 0, commands, writer }
    }

    async fn run(mut self) {
        let mut out = Outbox::default();
        loop {
            let wake = self.state.next_wake(now());
            let until_wake = wake.map_or(Duration::MAX, |at| at.since(now()));
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Close(reply)) => return self.close(reply),
                    Some(command) => self.handle(command, &mut out),
                    None => return,
                },
                () = tokio::time::sleep(until_wake), if wake.is_some() => {
                    self.state.wake(now(), &mut out);
                }
            }
            self.send(&mut out);
            if let Some(writer) = &self.writer
                && let Some(records) = self.state.due_records(now())
            {
                writer.write(records);
            }
        }
    }

    /// Writes the ledger a last time: nothing is granted any more, so nothing is reserved.
    fn close(mut self, reply: oneshot::Sender<Result<(), LedgerError>>) {
        for proxy in std::mem::take(&mut self.proxies).into_values() {
            // Fails if the proxy has disconnected: then there is nothing to do.
            let _ = proxy.end.send(SessionEnd::Stopped);
        }
        match self.writer.take() {
            Some(writer) => writer.close(self.state.closing_records(now()), reply),
            // Fails if nobody waits for the reply any more.
            None => drop(reply.send(Ok(()))),
        }
    }

    fn handle(&mut self, command: Command, out: &mut Outbox) {
        // Read after the message was received: a stamp in it lies before.
        let now = now();
        match command {
            Command::Connect(pod, reply) => self.connect(now, pod, reply),
            Command::Receive(connection, message) => self.state.receive(now, connection, message, out),
            Command::Disconnect(connection) => {
                self.proxies.remove(&connection);
                self.state.disconnect(now, connection, out);
            }
            Command::Configure(configuration) => {
                self.state.read_wall_clock(now, Timestamp::now());
                self.state.configure(now, configuration, out);
            }
            Command::PodDeleted(uid) => self.state.pod_deleted(now, &uid, out),
            Command::Health(reply) => {
                let health = Health { report: self.state.report(now), ledger: self.state.ledger_health() };
                // Fails if nobody waits for it any more.
                let _ = reply.send(health);
            }
            Command::Written(Ok(())) => self.state.committed(now, out),
            Command::Written(Err(error)) => {
                error!(%error, "calls wait until the ledger can be written");
                self.state.commit_failed(now);
            }
            // The loop ends with it.
            Command::Close(_) => {}
        }
    }

    fn connect(&mut self, now: Time, pod: Option<PodIdentity>, reply: oneshot::Sender<NewConnection>) {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let (sender, messages) = mpsc::channel(TO_PROXY);
        let (end, ended) = oneshot::channel();
        if reply.send(NewConnection { id, messages, ended }).is_ok() {
            self.proxies.insert(id, ProxyChannel { messages: sender, end });
            self.state.connect(now, id, pod);
        }
    }

    /// Sends what is in the outbox. A proxy that has disconnected or reads nothing loses its connection,
    /// which may let other calls be granted, so this repeats until the outbox is empty.
    fn send(&mut self, out: &mut Outbox) {
        while !out.messages.is_empty() || !out.ended.is_empty() {
            let mut lost = Vec::new();
            for (connection, message) in out.messages.drain(..) {
                let Some(proxy) = self.proxies.get(&connection) else { continue };
                if let Err(error) = proxy.messages.try_send(message) {
                    lost.push((connection, error));
                }
            }
            for (connection, why) in out.ended.drain(..) {
                log_end(&why);
                if let Some(proxy) = self.proxies.remove(&connection) {
                    // Fails if the proxy has disconnected: then there is nothing to do.
                    let _ = proxy.end.send(why);
                }
            }
            for (connection, error) in lost {
                match error {
                    mpsc::error::TrySendError::Full(_) => self.state.too_slow(now(), connection, out),
                    mpsc::error::TrySendError::Closed(_) => {
                        self.proxies.remove(&connection);
                        self.state.disconnect(now(), connection, out);
                    }
                }
            }
        }
    }
}

fn log_end(why: &SessionEnd) {
    match why {
        SessionEnd::Violation(_) | SessionEnd::TooSlow => warn!(%why, "a proxy's session is ended"),
        SessionEnd::NotAdmitted(_) => info!(%why, "a proxy's session is ended"),
        SessionEnd::Replaced | SessionEnd::Changed(_) | SessionEnd::Stopped => {
            debug!(%why, "a proxy's session is ended");
        }
    }
}
