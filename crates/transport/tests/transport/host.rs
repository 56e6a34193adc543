//! A limiter with one account: the real engine and the real sessions, in one task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::AccountStatus;
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{AccountConfig, LimitConfig, Unit};
use quotakeeper_engine::event::{Action, Event, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_proxy::clock;
use quotakeeper_transport::{Accept, Accepted, Inbox, NotAccepted, PodIdentity, SessionEnd, Stopped};
use quotakeeper_wire::limiter::{Greeting, Session};
use quotakeeper_wire::message::{AccountIndex, Epoch, ToLimiter, ToProxy};
use test_support::accounts::{VALIDITY, enforced, requests};
use tokio::sync::{mpsc, oneshot};

/// The key of the one account.
pub const ACCOUNT: &str = "demo/one";

/// A handle of the limiter.
#[derive(Clone)]
pub struct Host {
    inbox: mpsc::Sender<Inbound>,
    next: Arc<AtomicUsize>,
}

enum Inbound {
    Connected(usize, mpsc::Sender<ToProxy>, oneshot::Sender<SessionEnd>),
    Message(usize, Box<ToLimiter>),
    Lost(usize),
    Status(oneshot::Sender<AccountStatus>),
}

/// Receives the messages of one proxy.
pub struct HostInbox {
    id: usize,
    inbox: mpsc::Sender<Inbound>,
}

impl Host {
    pub fn start(account: AccountConfig, epoch: u64) -> Host {
        let (sender, inbox) = mpsc::channel(1024);
        let task = Task {
            engine: Engine::new(account, now()),
            epoch: Epoch(epoch),
            connections: BTreeMap::new(),
            current: BTreeMap::new(),
        };
        tokio::spawn(task.run(inbox));
        Host { inbox: sender, next: Arc::default() }
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    pub async fn status(&self) -> AccountStatus {
        let (reply, status) = oneshot::channel();
        self.inbox.send(Inbound::Status(reply)).await.ok().unwrap();
        status.await.unwrap()
    }
}

impl Accept for Host {
    type Inbox = HostInbox;

    async fn accept(&self, _pod: PodIdentity) -> Result<Accepted<HostInbox>, NotAccepted> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ((to_proxy, outgoing), (end, ended)) = (mpsc::channel(1024), oneshot::channel());
        self.inbox.send(Inbound::Connected(id, to_proxy, end)).await.map_err(|_| Stopped)?;
        Ok(Accepted { inbox: HostInbox { id, inbox: self.inbox.clone() }, outgoing, ended })
    }
}

impl Inbox for HostInbox {
    async fn deliver(&mut self, message: ToLimiter) -> Result<(), Stopped> {
        self.inbox.send(Inbound::Message(self.id, Box::new(message))).await.map_err(|_| Stopped)
    }

    async fn close(self) {
        // Fails if the limiter has stopped: then there is nothing to do.
        let _ = self.inbox.send(Inbound::Lost(self.id)).await;
    }
}

struct Connection {
    session: Session,
    to_proxy: mpsc::Sender<ToProxy>,
    end: oneshot::Sender<SessionEnd>,
}

struct Task {
    engine: Engine,
    epoch: Epoch,
    connections: BTreeMap<usize, Connection>,
    current: BTreeMap<SessionId, usize>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Inbound>) {
        loop {
            let until = self.engine.next_wake().map_or(Duration::from_secs(3600), |at| at.since(now()));
            tokio::select! {
                biased;
                inbound = inbox.recv() => match inbound {
                    Some(inbound) => self.handle(inbound),
                    None => return,
                },
                () = tokio::time::sleep(until) => self.apply(Event::Wake),
            }
        }
    }

    fn handle(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Connected(id, to_proxy, end) => {
                let heartbeat = VALIDITY / 4;
                let session = Session::new(Greeting {
                    epoch: self.epoch,
                    validity: VALIDITY,
                    heartbeat,
                    fingerprint_key: None,
                });
                self.connections.insert(id, Connection { session, to_proxy, end });
            }
            Inbound::Message(id, message) => self.receive(id, *message),
            Inbound::Lost(id) => self.lose(id, SessionEnd::Replaced),
            Inbound::Status(reply) => reply.send(self.engine.status(now())).unwrap(),
        }
    }

    fn receive(&mut self, id: usize, message: ToLimiter) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut events = Vec::new();
        match connection.session.receive(now(), message, &mut events) {
            Err(violation) => return self.lose(id, SessionEnd::Violation(violation)),
            Ok(None) => {}
            Ok(Some(welcome)) => {
                let session = connection.session.id().unwrap();
                let _ = connection.to_proxy.try_send(welcome);
                if let Some(old) = self.current.insert(session, id) {
                    self.lose(old, SessionEnd::Replaced);
                }
            }
        }
        events.into_iter().for_each(|(_, event)| self.apply(event));
    }

    fn lose(&mut self, id: usize, why: SessionEnd) {
        let Some(lost) = self.connections.remove(&id) else { return };
        let _ = lost.end.send(why);
        if let Some(session) = lost.session.id()
            && self.current.get(&session) == Some(&id)
        {
            self.current.remove(&session);
            lost.session.lost().into_iter().for_each(|(_, event)| self.apply(event));
        }
    }

    fn apply(&mut self, event: Event) {
        let (at, mut actions) = (now(), Vec::new());
        self.engine.handle(at, event, &mut actions);
        for action in &actions {
            let to: Vec<usize> = match action {
                Action::Grant { attempt, .. } => {
                    self.current.get(&attempt.session).copied().into_iter().collect()
                }
                Action::Refuse { session, .. } => self.current.get(session).copied().into_iter().collect(),
                Action::Paused { .. } | Action::Resumed { .. } => self.current.values().copied().collect(),
            };
            for id in to {
                let Some(connection) = self.connections.get(&id) else { continue };
                let message = connection.session.send(at, AccountIndex(0), action);
                let full = message.is_some_and(|message| connection.to_proxy.try_send(message).is_err());
                if full {
                    self.lose(id, SessionEnd::TooSlow);
                }
            }
        }
    }
}

fn now() -> Time {
    Time(clock::now().0)
}

/// An account with these limits.
pub fn account(limits: Vec<LimitConfig>) -> AccountConfig {
    let mut account = enforced(limits);
    account.queue.max_wait = Duration::from_secs(120);
    account
}

/// So many of a unit, in a window where the unit has one.
pub fn limit(unit: Unit, amount: u64, window: Duration) -> LimitConfig {
    LimitConfig { name: format!("{unit:?}"), unit, ..requests(amount, window) }
}
