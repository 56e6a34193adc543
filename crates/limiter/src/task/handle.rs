//! How others speak to a limiter: its own process, and the proxies.

use quotakeeper_limiter_core::{Configuration, ConnectionId, LedgerHealth};
use quotakeeper_transport::{Accept, Accepted, PodIdentity, SessionEnd, Speak, Stopped};
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use quotakeeper_wire::status::Report;
use tokio::sync::{mpsc, oneshot};

use super::builder::Builder;
use crate::ledger::LedgerError;

/// Commands, messages of all proxies among them, that may wait for the task.
pub(super) const COMMANDS: usize = 8192;

/// A running limiter, for those who speak to it. Cheap to clone.
#[derive(Clone)]
pub struct Limiter {
    pub(super) commands: mpsc::Sender<Command>,
}

/// A connection of this process's own proxy.
pub struct Connection {
    speaker: Speaker,
    /// Messages of the limiter; ends when the limiter has ended the connection.
    pub messages: mpsc::Receiver<ToProxy>,
}

/// Where messages of one proxy go.
pub struct Speaker {
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
}

/// What the task is asked to do.
pub(super) enum Command {
    Connect(Option<PodIdentity>, oneshot::Sender<NewConnection>),
    Receive(ConnectionId, ToLimiter),
    Disconnect(ConnectionId),
    Configure(Configuration),
    PodDeleted(String),
    Health(oneshot::Sender<Health>),
    /// The commit under way has ended.
    Written(Result<(), LedgerError>),
    Close(oneshot::Sender<Result<(), LedgerError>>),
}

pub(super) struct NewConnection {
    pub(super) id: ConnectionId,
    pub(super) messages: mpsc::Receiver<ToProxy>,
    pub(super) ended: oneshot::Receiver<SessionEnd>,
}

impl Limiter {
    /// Builds a limiter in which this is in force.
    pub fn builder(configuration: impl Into<Configuration>) -> Builder {
        Builder::new(configuration.into())
    }

    /// Connects this process's own proxy, which may draw on every account.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn connect(&self) -> Result<Connection, Stopped> {
        let NewConnection { id, messages, .. } = self.open(None).await?;
        Ok(Connection { speaker: Speaker { id, commands: self.commands.clone() }, messages })
    }

    async fn open(&self, pod: Option<PodIdentity>) -> Result<NewConnection, Stopped> {
        self.ask(|reply| Command::Connect(pod, reply)).await
    }

    /// Puts a configuration in force in place of the one before.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn configure(&self, configuration: Configuration) -> Result<(), Stopped> {
        self.send(Command::Configure(configuration)).await
    }

    /// The pod of this UID is deleted: it holds nothing any more.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn pod_deleted(&self, uid: String) -> Result<(), Stopped> {
        self.send(Command::PodDeleted(uid)).await
    }

    /// Stops granting and leaves the ledger as it is then.
    ///
    /// # Errors
    /// When the ledger can't be written: the next limiter then begins where the last commit was.
    pub async fn close(&self) -> anyhow::Result<()> {
        Ok(self.ask(Command::Close).await??)
    }

    /// All accounts, and the ledger.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn health(&self) -> Result<Health, Stopped> {
        self.ask(Command::Health).await
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
    type Speak = Speaker;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<Speaker>, Stopped> {
        let NewConnection { id, messages, ended } = self.open(Some(pod)).await?;
        Ok(Accepted { speak: Speaker { id, commands: self.commands.clone() }, says: messages, ended })
    }
}

impl Speak for Speaker {
    async fn say(&mut self, message: ToLimiter) -> Result<(), Stopped> {
        self.send(message).await
    }

    async fn close(self) {
        // Fails if the limiter is gone: then nobody has to know.
        let _ = self.disconnect().await;
    }
}

impl Speaker {
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
        self.speaker.send(message).await
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn close(self) -> Result<(), Stopped> {
        self.speaker.disconnect().await
    }
}
