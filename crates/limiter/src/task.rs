//! The task that owns the [`LimiterState`]: it reads the clock, delivers messages, wakes the engines,
//! and has the ledger written.
//!
//! One task for all accounts: a decision takes about a microsecond, and one owner makes every
//! order of events an order that the simulator can produce.
//!
//! | module | holds |
//! |---|---|
//! | `builder` | starts a limiter |
//! | `checkpointing` | has checkpoints read and written |
//! | `handle` | the handles of a running limiter |
//! | `recovery` | what happens when the state panics |
//! | `writer` | the thread that waits for the disk |

mod builder;
mod checkpointing;
mod handle;
mod recovery;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::{Configuration, ConnectionId, Handover, LimiterState, Outbox};
use quotakeeper_transport::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::{Epoch, ToProxy};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

pub use self::builder::{Builder, EarlierRuns};
use self::checkpointing::{Checkpointed, Checkpointing};
use self::handle::{Closing, Command, NewConnection};
pub use self::handle::{Connection, Health, Inbox, Limiter};
pub use self::recovery::{NextEpoch, Succession};
use self::recovery::{Panicked, Restart, guarded};
use self::writer::Writer;
use crate::clock::now;

/// Messages to a proxy that may be queued. A proxy that does not read them is disconnected, so that it
/// delays no other.
const TO_PROXY: usize = 8192;

struct LimiterTask {
    state: LimiterState,
    epoch: Epoch,
    proxies: BTreeMap<ConnectionId, ProxyChannel>,
    last_connection: u64,
    commands: mpsc::Receiver<Command>,
    ledger: Option<OpenLedger>,
    /// Panics are being recovered from.
    recovering: Arc<AtomicBool>,
}

/// A ledger, and how to begin again from it.
struct OpenLedger {
    writer: Writer,
    restart: Restart,
    /// None: long windows need no checkpoints.
    checkpointing: Option<Checkpointing>,
    task: mpsc::WeakSender<Command>,
}

/// How a task ends.
enum End {
    /// Nobody has a handle any more.
    Dropped,
    /// It hands over, and is closed then.
    HandOver(oneshot::Sender<Handover>),
    /// It was closed.
    Close(Closing),
}

/// The channels to one proxy.
struct ProxyChannel {
    messages: mpsc::Sender<ToProxy>,
    end: oneshot::Sender<SessionEnd>,
}

impl LimiterTask {
    async fn run(mut self) {
        loop {
            match self.run_until_panic().await {
                Ok(End::Dropped) => return,
                Ok(End::HandOver(reply)) => return self.hand_over(reply).await,
                Ok(End::Close(closing)) => return self.close(closing).await,
                Err(Panicked) => match self.recovered().await {
                    Some(again) => self = again,
                    None => return,
                },
            }
        }
    }

    async fn run_until_panic(&mut self) -> Result<End, Panicked> {
        let mut out = Outbox::default();
        loop {
            let wake = guarded(|| self.state.next_wake(now()))?;
            let until_wake = wake.map_or(Duration::MAX, |at| at.since(now()));
            let command = tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::HandOver(reply)) => return Ok(End::HandOver(reply)),
                    Some(Command::Close(closing)) => return Ok(End::Close(closing)),
                    Some(command) => Some(command),
                    None => return Ok(End::Dropped),
                },
                () = tokio::time::sleep(until_wake), if wake.is_some() => None,
            };
            guarded(|| self.step(command, &mut out))?;
        }
    }

    /// One command, or the time that was waited for.
    fn step(&mut self, command: Option<Command>, out: &mut Outbox) {
        match command {
            Some(command) => self.handle(command, out),
            None => {
                self.state.read_wall_clock(now(), Timestamp::now());
                self.state.wake(now(), out);
            }
        }
        self.send(out);
        if let Some(ledger) = &self.ledger
            && let Some(records) = self.state.due_records(now())
        {
            ledger.writer.write(self.epoch, records);
        }
        if let Some(OpenLedger { checkpointing: Some(checkpointing), .. }) = &self.ledger {
            for task in self.state.due_checkpoints(now()) {
                checkpointing.begin(self.epoch, task);
            }
        }
    }

    /// The task with a new state, from the ledger; none: that is not possible, and the limiter ends.
    async fn recovered(mut self) -> Option<LimiterTask> {
        self.end_sessions();
        let Some(OpenLedger { writer, mut restart, checkpointing, task }) = self.ledger.take() else {
            error!("the limiter has panicked, and has no ledger to recover from");
            return None;
        };
        self.recovering.store(true, Ordering::Relaxed);
        let mut ledger = writer.into_ledger().await?;
        match restart.recover(self.epoch, &mut ledger).await {
            Ok((epoch, state)) => (self.epoch, self.state) = (epoch, state),
            Err(error) => {
                error!(%error, "the limiter has panicked, and can't recover from its ledger");
                return None;
            }
        }
        let writer = Writer::start(ledger, task.clone());
        self.ledger = Some(OpenLedger { writer, restart, checkpointing, task });
        self.recovering.store(false, Ordering::Relaxed);
        Some(self)
    }

    /// Proxies connect again and name all of their calls.
    fn end_sessions(&mut self) {
        for proxy in std::mem::take(&mut self.proxies).into_values() {
            // Fails if the proxy has disconnected: then there is nothing to do.
            let _ = proxy.end.send(SessionEnd::Stopped);
        }
    }

    /// Grants nothing more, and waits to be closed.
    async fn hand_over(mut self, reply: oneshot::Sender<Handover>) {
        self.end_sessions();
        if let Ok(handover) = guarded(|| self.state.hand_over(now())) {
            // Fails if nobody waits for it any more.
            let _ = reply.send(handover);
        }
        while let Some(command) = self.commands.recv().await {
            if let Command::Close(closing) = command {
                return self.close(closing).await;
            }
        }
    }

    /// Writes the ledger a last time: nothing is granted any more, so nothing is reserved.
    async fn close(mut self, Closing { handed_over, reply }: Closing) {
        self.end_sessions();
        match self.ledger.take() {
            // After a panic, the next limiter begins from the last commit.
            Some(OpenLedger { writer, checkpointing, .. }) => {
                if let Some(checkpointing) = checkpointing.filter(|_| !handed_over) {
                    let last = guarded(|| self.state.closing_checkpoints(now())).unwrap_or_default();
                    checkpointing.close(last).await;
                }
                let records = guarded(|| self.state.closing_records(now())).unwrap_or_default();
                writer.close(records, reply);
            }
            // Fails if nobody waits for the reply any more.
            None => drop(reply.send(Ok(()))),
        }
    }

    fn handle(&mut self, command: Command, out: &mut Outbox) {
        // Read after the message was received: a stamp in it lies before.
        let now = now();
        match command {
            Command::Connect(pod, reply) => self.connect(now, pod, reply),
            // What is left of connections from before a panic has no meaning any more.
            Command::Receive(connection, message) => {
                if self.proxies.contains_key(&connection) {
                    self.state.receive(now, connection, message, out);
                }
            }
            Command::Disconnect(connection) => {
                self.proxies.remove(&connection);
                self.state.disconnect(now, connection, out);
            }
            Command::Configure(configuration) => self.configure(now, configuration, out),
            Command::PodDeleted(uid) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.restart.pod_deleted(&uid);
                }
                self.state.pod_deleted(now, &uid, out);
            }
            Command::AwaitPods(pods) => self.state.await_pods(now, pods, out),
            Command::RenewLease(right, reply) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.restart.right = Some(right);
                }
                self.state.renew_lease(now, right, out);
                // Fails if nobody waits for it any more.
                let _ = reply.send(self.state.leaves_something_out(now));
            }
            Command::Health(reply) => {
                let panics = self.ledger.as_ref().map_or(0, |ledger| ledger.restart.panics.total);
                let report = self.state.report(now);
                // Fails if nobody waits for it any more.
                let _ = reply.send(Health {
                    report,
                    ledger: self.state.ledger_health(),
                    panics,
                    offline: self.state.is_offline(now),
                    leaves_out: self.state.leaves_something_out(now),
                });
            }
            Command::Written(epoch, _) if epoch != self.epoch => {}
            Command::Written(_, Ok(())) => self.state.committed(now, out),
            Command::Written(_, Err(error)) => {
                error!(%error, "calls wait until the ledger can be written");
                self.state.commit_failed(now);
            }
            Command::Checkpointed(epoch, outcome) => {
                if epoch == self.epoch {
                    self.checkpointed(now, outcome, out);
                }
            }
            // The loop ends with them.
            Command::HandOver(_) | Command::Close(_) => {}
        }
    }

    fn checkpointed(&mut self, now: Time, outcome: Checkpointed, out: &mut Outbox) {
        match outcome {
            Checkpointed::Read(key, Ok(found)) => self.state.checkpoint_read(now, &key, found, out),
            Checkpointed::Read(key, Err(why)) => self.state.checkpoint_not_read(now, &key, why),
            Checkpointed::Written(key, written) => self.state.checkpoint_written(now, &key, written, out),
        }
    }

    fn configure(&mut self, now: Time, configuration: Configuration, out: &mut Outbox) {
        let open = match &mut self.ledger {
            Some(OpenLedger { restart, .. }) => {
                restart.configuration = configuration.clone();
                restart.panics.open(configuration)
            }
            None => configuration,
        };
        self.state.read_wall_clock(now, Timestamp::now());
        self.state.configure(now, open, out);
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
