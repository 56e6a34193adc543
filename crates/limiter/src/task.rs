//! The task that keeps the state: it reads the clock, carries messages, wakes the engines, and has
//! the ledger written.
//!
//! One task for all accounts: a decision takes about a microsecond, and one owner makes every
//! order of events an order that the simulator has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::event::Reserve;
use quotakeeper_engine::time::Time;
use quotakeeper_transport::{Accept, Accepted, End, PodIdentity, Speak, Stopped};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{Epoch, ToLimiter, ToProxy};
use quotakeeper_wire::status::Report;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use super::clock::now;
use super::ledger::{Ledger, LedgerError, Record, Recovered};
use super::state::{AccountStatus, Configuration, ConnectionId, LimiterState, Outbox};

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
/// The same where proxies outlive the limiter. A proxy tells the next limiter of attempts that ended
/// up to a second before the newest grant that it has heard; nothing may be granted for longer than
/// that on the strength of a commit that does not know of them.
const PROXIES_REMEMBER: Duration = Duration::from_millis(900);

/// A running limiter, for those who speak to it.
#[derive(Clone)]
pub struct Limiter {
    inbox: mpsc::Sender<Inbound>,
}

/// A connection to the limiter: what it says, and where to say something.
pub struct Connection {
    speaker: Speaker,
    /// What the limiter says; ends when the limiter has ended the connection.
    pub says: mpsc::Receiver<ToProxy>,
}

/// Where what one proxy says goes.
pub struct Speaker {
    id: ConnectionId,
    inbox: mpsc::Sender<Inbound>,
}

/// How a limiter stands.
#[derive(Clone, Debug)]
pub struct Health {
    /// Its accounts.
    pub report: Report,
    /// Its ledger, if it keeps one.
    pub ledger: Option<LedgerHealth>,
}

/// How a ledger stands.
#[derive(Clone, Copy, Debug)]
pub struct LedgerHealth {
    /// The last commit failed: calls wait for the next.
    pub failing: bool,
    /// How long the last commit took.
    pub took: Duration,
}

enum Inbound {
    Connected(Option<PodIdentity>, oneshot::Sender<Opened>),
    Says(ConnectionId, ToLimiter),
    Lost(ConnectionId),
    Configure(Configuration),
    PodGone(String),
    Status(oneshot::Sender<Vec<AccountStatus>>),
    Health(oneshot::Sender<Health>),
    AccountDocument(Result<Vec<(String, Reserve)>, LedgerError>),
    Close(oneshot::Sender<Result<(), LedgerError>>),
}

struct Opened {
    id: ConnectionId,
    says: mpsc::Receiver<ToProxy>,
    ended: oneshot::Receiver<End>,
}

impl Limiter {
    /// Starts a limiter that keeps no ledger: what it knows is gone with its process, and so is all
    /// that could draw on it.
    pub fn start(accounts: Vec<CompiledAccount>) -> Limiter {
        let (sender, inbox) = mpsc::channel(INBOX);
        let state = LimiterState::new(accounts.into(), (Recovered::default(), false), Epoch(1), now());
        tokio::spawn(LimiterTask::new(state, inbox, None).keep());
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
        let epoch = Epoch(ledger.last_epoch()?.map_or(1, |last| last.saturating_add(1)));
        let history = ledger.resume(epoch, true)?;
        // Its proxy ends with it.
        Limiter::start_after(accounts.into(), (ledger, history), epoch, LONGEST_HORIZON)
    }

    /// Starts the limiter of this epoch with what is known of the time before it: the history is
    /// what [`Ledger::resume`] has returned. Nothing is granted before the ledger says so.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn start_with_history(
        configuration: Configuration,
        (ledger, history): (Ledger, Recovered),
        epoch: Epoch,
    ) -> Result<Limiter, LedgerError> {
        Limiter::start_after(configuration, (ledger, history), epoch, PROXIES_REMEMBER)
    }

    fn start_after(
        configuration: Configuration,
        (mut ledger, history): (Ledger, Recovered),
        epoch: Epoch,
        longest: Duration,
    ) -> Result<Limiter, LedgerError> {
        let (sender, inbox) = mpsc::channel(INBOX);
        let begun = now();
        let mut state = LimiterState::new(configuration, (history, true), epoch, begun);
        let records = state.records_without_reserve(begun);
        let reserves = reserves(&records);
        ledger.write(records.iter().map(|(key, record)| (key.as_str(), record)))?;
        state.committed(now(), reserves, &mut Outbox::default());
        let took = now().since(begun);
        let writer = Writer::start(ledger, sender.downgrade(), (took, longest));
        tokio::spawn(LimiterTask::new(state, inbox, Some(writer)).keep());
        Ok(Limiter { inbox: sender })
    }

    /// Connects this process's own proxy, which may draw on every account.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn connect(&self) -> Result<Connection, Stopped> {
        let Opened { id, says, .. } = self.open(None).await?;
        Ok(Connection { speaker: Speaker { id, inbox: self.inbox.clone() }, says })
    }

    async fn open(&self, pod: Option<PodIdentity>) -> Result<Opened, Stopped> {
        self.ask(|reply| Inbound::Connected(pod, reply)).await
    }

    /// Puts a configuration in force in place of the one before.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Stopped> {
        self.inbox.send(Inbound::Configure(configuration)).await.map_err(|_| Stopped)
    }

    /// The pod of this UID is dead: it holds nothing any more.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn pod_gone(&self, uid: String) -> Result<(), Stopped> {
        self.inbox.send(Inbound::PodGone(uid)).await.map_err(|_| Stopped)
    }

    /// Stops granting and leaves the ledger as it is then.
    ///
    /// # Errors
    /// When the ledger can't be written: the next limiter then begins where the last commit was.
    pub async fn close(&self) -> anyhow::Result<()> {
        Ok(self.ask(Inbound::Close).await??)
    }

    /// Where all accounts stand.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<Vec<AccountStatus>, Stopped> {
        self.ask(Inbound::Status).await
    }

    /// Where all accounts stand, as the operator is told, and the ledger.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn standing(&self) -> Result<Health, Stopped> {
        self.ask(Inbound::Health).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Inbound) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(question(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

impl Accept for Limiter {
    type Speak = Speaker;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<Speaker>, Stopped> {
        let Opened { id, says, ended } = self.open(Some(pod)).await?;
        Ok(Accepted { speak: Speaker { id, inbox: self.inbox.clone() }, says, ended })
    }
}

impl Speak for Speaker {
    async fn say(&mut self, message: ToLimiter) -> Result<(), Stopped> {
        self.inbox.send(Inbound::Says(self.id, message)).await.map_err(|_| Stopped)
    }

    async fn close(self) {
        // A limiter that is gone needs no word.
        let _ = self.inbox.send(Inbound::Lost(self.id)).await;
    }
}

impl Connection {
    /// Says something to the limiter.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn say(&self, message: ToLimiter) -> Result<(), Stopped> {
        let Speaker { id, inbox } = &self.speaker;
        inbox.send(Inbound::Says(*id, message)).await.map_err(|_| Stopped)
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn close(self) -> Result<(), Stopped> {
        let Speaker { id, inbox } = self.speaker;
        inbox.send(Inbound::Lost(id)).await.map_err(|_| Stopped)
    }
}

struct LimiterTask {
    state: LimiterState,
    proxies: BTreeMap<ConnectionId, ToOne>,
    next: u64,
    inbox: mpsc::Receiver<Inbound>,
    writer: Option<Writer>,
}

/// The way to one proxy.
struct ToOne {
    says: mpsc::Sender<ToProxy>,
    end: oneshot::Sender<End>,
}

impl LimiterTask {
    fn new(state: LimiterState, inbox: mpsc::Receiver<Inbound>, writer: Option<Writer>) -> LimiterTask {
        LimiterTask { state, proxies: BTreeMap::new(), next: 0, inbox, writer }
    }

    async fn keep(mut self) {
        let mut out = Outbox::default();
        loop {
            let wake = self.state.next_wake().into_iter().chain(self.next_commit(now())).min();
            let until_wake = wake.map_or(Duration::MAX, |at| at.since(now()));
            tokio::select! {
                biased;
                inbound = self.inbox.recv() => match inbound {
                    Some(Inbound::Close(reply)) => return self.close(reply),
                    Some(inbound) => self.take(inbound, &mut out),
                    None => return,
                },
                () = tokio::time::sleep(until_wake), if wake.is_some() => {
                    self.state.wake(now(), &mut out);
                }
            }
            self.send(&mut out);
            self.commit();
        }
    }

    /// Leaves the ledger as it is now: nothing is granted any more, so nothing is reserved.
    fn close(mut self, reply: oneshot::Sender<Result<(), LedgerError>>) {
        for proxy in std::mem::take(&mut self.proxies).into_values() {
            // One that is gone needs no word.
            let _ = proxy.end.send(End::Stopped(Stopped));
        }
        match self.writer.take() {
            Some(writer) => {
                let records = self.state.records_without_reserve(now());
                // Its thread lives until it has worked off what was sent.
                let _ = writer.commits.send(Commit { records, last: Some(reply) });
            }
            // Nobody waits for it any more if this fails.
            None => drop(reply.send(Ok(()))),
        }
    }

    /// When the ledger is to be written next, unless it is being written.
    fn next_commit(&self, now: Time) -> Option<Time> {
        let writer = self.writer.as_ref().filter(|writer| writer.begun.is_none())?;
        self.state.commit_due(now).map(|at| at.max(writer.not_before))
    }

    fn commit(&mut self) {
        let now = now();
        if self.next_commit(now).is_none_or(|at| at > now) {
            return;
        }
        if let Some(writer) = &mut self.writer {
            writer.begun = Some(now);
            let records = self.state.due_records(now, writer.horizon);
            // Its thread lives as long as this task.
            let _ = writer.commits.send(Commit { records, last: None });
        }
    }

    fn take(&mut self, inbound: Inbound, out: &mut Outbox) {
        // Read after the message was received: a stamp in it lies before.
        let now = now();
        match inbound {
            Inbound::Connected(pod, reply) => self.open(now, pod, reply),
            Inbound::Says(connection, message) => self.state.receive(now, connection, message, out),
            Inbound::Lost(connection) => {
                self.proxies.remove(&connection);
                self.state.disconnect(now, connection, out);
            }
            Inbound::Configure(configuration) => self.state.configure(now, configuration, out),
            Inbound::PodGone(uid) => self.state.pod_gone(now, &uid, out),
            Inbound::Status(reply) => {
                // Nobody waits for it any more if this fails.
                let _ = reply.send(self.state.status(now));
            }
            Inbound::Health(reply) => {
                let ledger = self.writer.as_ref().map(Writer::standing);
                // Nobody waits for it any more if this fails.
                let _ = reply.send(Health { report: self.state.report(now), ledger });
            }
            Inbound::AccountDocument(written) => self.written(now, written, out),
            // The loop ends with it.
            Inbound::Close(_) => {}
        }
    }

    fn open(&mut self, now: Time, pod: Option<PodIdentity>, reply: oneshot::Sender<Opened>) {
        self.next += 1;
        let id = ConnectionId(self.next);
        let (to_proxy, says) = mpsc::channel(TO_PROXY);
        let (end, ended) = oneshot::channel();
        if reply.send(Opened { id, says, ended }).is_ok() {
            self.proxies.insert(id, ToOne { says: to_proxy, end });
            self.state.connect(now, id, pod);
        }
    }

    fn written(&mut self, now: Time, written: Result<Vec<(String, Reserve)>, LedgerError>, out: &mut Outbox) {
        let Some(writer) = &mut self.writer else { return };
        if let Some(begun) = writer.begun.take() {
            writer.took = now.since(begun);
            writer.horizon = horizon(writer.took, writer.longest);
        }
        writer.failing = written.is_err();
        match written {
            Ok(reserves) => self.state.committed(now, reserves, out),
            Err(error) => {
                error!(%error, "calls wait until the ledger can be written");
                writer.not_before = now + COMMIT_AGAIN;
            }
        }
    }

    /// Hands messages over. A proxy that is gone, or takes nothing, loses its connection, which may
    /// free turns for others: until nothing is left to be said.
    fn send(&mut self, out: &mut Outbox) {
        while !out.messages.is_empty() || !out.ended.is_empty() {
            let mut lost = Vec::new();
            for (connection, message) in out.messages.drain(..) {
                let sent = self.proxies.get(&connection).map(|proxy| proxy.says.try_send(message));
                if let Some(Err(error)) = sent {
                    lost.push((connection, error));
                }
            }
            for (connection, why) in out.ended.drain(..) {
                log_end(&why);
                if let Some(proxy) = self.proxies.remove(&connection) {
                    // One that is gone needs no word.
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

fn log_end(why: &End) {
    match why {
        End::Violation(_) | End::TooSlow => warn!(%why, "a proxy's session is ended"),
        End::NotAdmitted(_) => info!(%why, "a proxy's session is ended"),
        End::Replaced | End::Changed(_) | End::Stopped(_) => debug!(%why, "a proxy's session is ended"),
    }
}

/// The thread that waits for the disk, one group commit at a time.
struct Writer {
    commits: std::sync::mpsc::Sender<Commit>,
    /// When the commit that is under way was begun.
    begun: Option<Time>,
    not_before: Time,
    /// How far ahead of need calls are charged, …
    horizon: Duration,
    /// … at most.
    longest: Duration,
    /// How long the last commit took.
    took: Duration,
    failing: bool,
}

/// Records to be written, and who waits for it if they are the last.
struct Commit {
    records: Vec<(String, Record)>,
    last: Option<oneshot::Sender<Result<(), LedgerError>>>,
}

impl Writer {
    fn start(
        mut ledger: Ledger,
        inbox: mpsc::WeakSender<Inbound>,
        (first, longest): (Duration, Duration),
    ) -> Writer {
        let (sender, commits) = std::sync::mpsc::channel::<Commit>();
        // Ends when the task that sends is gone and all that it has sent is written.
        tokio::task::spawn_blocking(move || {
            for Commit { records, last } in commits {
                let reserves = reserves(&records);
                let written = ledger.write(records.iter().map(|(key, record)| (key.as_str(), record)));
                match last {
                    Some(reply) => {
                        // Closed before it is told, so that another may open it then.
                        drop(ledger);
                        // Nobody waits for it any more if this fails.
                        let _ = reply.send(written);
                        return;
                    }
                    // The task may be gone: its last commit is still to come. It ends when nobody
                    // speaks to it any more, so this thread must not seem to.
                    None => {
                        let told = Inbound::AccountDocument(written.map(|()| reserves));
                        inbox.upgrade().map(|inbox| inbox.blocking_send(told).is_ok());
                    }
                }
            }
        });
        Writer {
            commits: sender,
            begun: None,
            not_before: Time(0),
            horizon: horizon(first, longest),
            longest,
            took: first,
            failing: false,
        }
    }

    fn standing(&self) -> LedgerHealth {
        LedgerHealth { failing: self.failing, took: self.took }
    }
}

/// The reserve is of use only for what is left of it when its commit has ended: a slow disk needs
/// a longer one.
fn horizon(commit: Duration, longest: Duration) -> Duration {
    (commit * 4).clamp(SHORTEST_HORIZON, longest)
}

fn reserves(records: &[(String, Record)]) -> Vec<(String, Reserve)> {
    records.iter().map(|(key, record)| (key.clone(), record.reserve.clone())).collect()
}
