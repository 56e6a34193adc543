//! The handles of a limiter: for its own process, and for the proxies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quotakeeper_limiter_core::offline::Right;
use quotakeeper_limiter_core::{Configuration, ConnectionId, Handover, LedgerHealth};
use quotakeeper_transport::{Accept, Accepted, NotAccepted, PodIdentity, SessionEnd, Stopped};
use quotakeeper_wire::message::{Epoch, ToLimiter, ToProxy};
use quotakeeper_wire::status::Report;
use tokio::sync::{mpsc, oneshot};

use super::builder::Builder;
use super::checkpointing::Checkpointed;
use crate::ledger::LedgerError;

/// Commands that may wait for the task, messages of all proxies among them.
pub(super) const COMMANDS: usize = 8192;

/// A handle of a running limiter. Cheap to clone.
#[derive(Clone)]
pub struct Limiter {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) recovering: Arc<AtomicBool>,
}

/// A connection of this process's own proxy.
pub struct Connection {
    inbox: Inbox,
    /// Messages to the proxy. The channel is closed when the limiter has ended the connection.
    pub messages: mpsc::Receiver<ToProxy>,
}

/// Receives the messages of one proxy.
pub struct Inbox {
    id: ConnectionId,
    commands: mpsc::Sender<Command>,
}

/// The state of a limiter.
#[derive(Clone, Debug)]
pub struct Health {
    /// Its accounts.
    pub report: Report,
    /// Its ledger, if it has one.
    pub ledger: Option<LedgerHealth>,
    /// How often its state has panicked and was recovered from the ledger.
    pub panics: u64,
    /// It can't renew its Lease, and grants what is left to it for that time.
    pub offline: bool,
    /// It leaves out what another limiter may grant that can't renew its Lease.
    pub leaves_out: bool,
}

/// A command to the task.
pub(super) enum Command {
    Connect(Option<PodIdentity>, oneshot::Sender<NewConnection>),
    Receive(ConnectionId, ToLimiter),
    Disconnect(ConnectionId),
    Configure(Configuration),
    PodDeleted(String),
    AwaitPods(BTreeMap<String, String>),
    /// The right to grant is this from now on.
    RenewLease(Right, oneshot::Sender<bool>),
    Health(oneshot::Sender<Health>),
    /// The commit under way of the state with this epoch has ended.
    Written(Epoch, Result<(), LedgerError>),
    /// What became of a checkpoint of the state with this epoch.
    Checkpointed(Epoch, Checkpointed),
    /// It is to grant nothing more, and to tell what a successor needs.
    HandOver(oneshot::Sender<Handover>),
    Close(Closing),
}

/// The end of a limiter.
pub(super) struct Closing {
    /// A successor has its state, and needs no last checkpoints.
    pub(super) handed_over: bool,
    pub(super) reply: oneshot::Sender<Result<(), LedgerError>>,
}

pub(super) struct NewConnection {
    pub(super) id: ConnectionId,
    pub(super) messages: mpsc::Receiver<ToProxy>,
    pub(super) ended: oneshot::Receiver<SessionEnd>,
}

impl Limiter {
    /// Builds a limiter with this configuration.
    pub fn builder(configuration: impl Into<Configuration>) -> Builder {
        Builder::new(configuration.into())
    }

    /// Connects this process's own proxy, which may draw on every account.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn connect(&self) -> Result<Connection, Stopped> {
        let NewConnection { id, messages, .. } = self.open(None).await?;
        Ok(Connection { inbox: Inbox { id, commands: self.commands.clone() }, messages })
    }

    async fn open(&self, pod: Option<PodIdentity>) -> Result<NewConnection, Stopped> {
        self.ask(|reply| Command::Connect(pod, reply)).await
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Stopped> {
        self.send(Command::Configure(configuration)).await
    }

    /// The pod with this UID was deleted: its sessions end, and its slots are free.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn pod_deleted(&self, uid: String) -> Result<(), Stopped> {
        self.send(Command::PodDeleted(uid)).await
    }

    /// The limiter before may have granted these pods, by UID and namespace, calls that no ledger has. To be called
    /// before sessions are served.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn await_pods(&self, pods: BTreeMap<String, String>) -> Result<(), Stopped> {
        self.send(Command::AwaitPods(pods)).await
    }

    /// The right to grant, unless it is renewed again. Returns whether something is left out that another limiter may
    /// grant.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn renew_lease(&self, right: impl Into<Right>) -> Result<bool, Stopped> {
        self.ask(|reply| Command::RenewLease(right.into(), reply)).await
    }

    /// Stops granting and writes the ledger a last time.
    ///
    /// # Errors
    /// When the ledger can't be written: the next limiter then begins from the last commit.
    pub async fn close(&self) -> anyhow::Result<()> {
        self.end(false).await
    }

    /// The same after [`Limiter::hand_over`], where a successor has what that returned.
    ///
    /// # Errors
    /// As of [`Limiter::close`].
    pub async fn close_handed_over(&self) -> anyhow::Result<()> {
        self.end(true).await
    }

    async fn end(&self, handed_over: bool) -> anyhow::Result<()> {
        Ok(self.ask(|reply| Command::Close(Closing { handed_over, reply })).await??)
    }

    /// Stops granting, and returns what a successor needs. Nothing more is answered until it is closed.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn hand_over(&self) -> Result<Handover, Stopped> {
        self.ask(Command::HandOver).await
    }

    /// All accounts, and the ledger.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn health(&self) -> Result<Health, Stopped> {
        self.ask(Command::Health).await
    }

    /// Whether the state has panicked, and a new one is about to begin; until then, nothing is answered.
    pub fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Relaxed)
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(question(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }
}

impl Accept for Limiter {
    type Inbox = Inbox;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<Inbox>, NotAccepted> {
        let NewConnection { id, messages, ended } = self.open(Some(pod)).await?;
        Ok(Accepted { inbox: Inbox { id, commands: self.commands.clone() }, outgoing: messages, ended })
    }
}

impl quotakeeper_transport::Inbox for Inbox {
    async fn deliver(&mut self, message: ToLimiter) -> Result<(), Stopped> {
        self.send(message).await
    }

    async fn close(self) {
        // Fails if the limiter has stopped: then there is nothing to do.
        let _ = self.disconnect().await;
    }
}

impl Inbox {
    async fn send(&self, message: ToLimiter) -> Result<(), Stopped> {
        self.commands.send(Command::Receive(self.id, message)).await.map_err(|_| Stopped)
    }

    async fn disconnect(self) -> Result<(), Stopped> {
        self.commands.send(Command::Disconnect(self.id)).await.map_err(|_| Stopped)
    }
}

impl Connection {
    /// Sends a message to the limiter.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn send(&self, message: ToLimiter) -> Result<(), Stopped> {
        self.inbox.send(message).await
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn close(self) -> Result<(), Stopped> {
        self.inbox.disconnect().await
    }
}
