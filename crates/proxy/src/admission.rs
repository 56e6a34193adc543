//! Where calls wait for a grant: the only room that exchanges messages with the limiter.
//!
//! The session is a pure state machine; this room gives it a clock, a link and a lock. The lock is held for one
//! step at a time and never across an await. A task of its own carries messages; it stamps each just before it
//! is sent.

mod looks;
mod permit;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use quotakeeper_engine::config::QueueConfig;
use quotakeeper_engine::event::{CallId, Fingerprint, RefusalReason, Scope};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::message::{
    AccountIndex, AccountUpdate, CallDetails, Epoch, Notice, NoticeKind, ToLimiter,
};
use quotakeeper_wire::proxy::{AskError, Counters, Identity, Session, SessionEvent};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::fingerprint::fingerprint;
use crate::link::{Link, LinkEvent};

use looks::Looks;
pub(crate) use looks::NoOutlook;
pub use permit::{Ended, Permit};

/// When a full proxy may have room again: as soon as any of its calls ends.
const FULL: Duration = Duration::from_secs(1);

/// A handle on the calls that wait for a grant.
#[derive(Clone)]
pub struct AdmissionClient {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// There may be a message to send, or an earlier time to wake.
    changed: Notify,
    connected: AtomicBool,
    waiting: AtomicUsize,
    stop: CancellationToken,
    /// The accounts whose calls are sent without a grant when the limiter does not answer.
    bypass: watch::Receiver<BTreeSet<AccountIndex>>,
    on_event: Box<dyn Fn(LimiterEvent) + Send + Sync>,
}

struct Inner {
    session: Session,
    /// Since when the limiter is connected, while it is.
    connected_since: Option<Instant>,
    slots: HashMap<CallId, Slot>,
    pauses: BTreeMap<(AccountIndex, Scope), String>,
    looks: Looks,
}

/// What is known of a call beyond the session.
#[derive(Default)]
struct Slot {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    /// The session has allowed the write: until when, and by a grant of which limiter incarnation.
    approved: Option<(Stamp, Epoch)>,
}

enum Outcome {
    Granted,
    Refused(Refused),
}

/// What happens between this proxy and the limiter, apart from the answers to single calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimiterEvent {
    /// The link to the limiter is up, or lost.
    Connected(bool),
    /// An account has changed.
    Account {
        /// An index into [`Identity::quotas`].
        account: AccountIndex,
        /// What has changed.
        update: AccountUpdate,
    },
}

/// The call will not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {reason}")]
pub struct Refused {
    pub reason: Reason,
    /// When another try makes sense; none: not known, or never.
    pub retry_after: Option<Duration>,
    /// The provider's word, where it is the reason.
    pub words: Option<String>,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The limiter refuses it.
    Limiter(RefusalReason),
    /// The limiter can't be reached, and the client's patience or the queue's bound ends.
    LimiterUnreachable,
    /// The proxy has as many open calls as it may.
    TooManyCalls,
    /// The quota has not come into force within the client's patience.
    NotInForce,
    /// The call's signature or token is too old to be sent.
    RequestExpired,
    /// The proxy ends.
    ProxyStopping,
}

impl Reason {
    /// Its name in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limiter(RefusalReason::WaitTooLong) => "WaitTooLong",
            Self::Limiter(RefusalReason::WaitExceeded) => "WaitExceeded",
            Self::Limiter(RefusalReason::QueueFull) => "QueueFull",
            Self::Limiter(RefusalReason::QuotaExceeded) => "QuotaExceeded",
            Self::Limiter(RefusalReason::NeverFits) => "NeverFits",
            Self::Limiter(RefusalReason::ProviderStopped) => "ProviderStopped",
            Self::Limiter(RefusalReason::BudgetExhausted) => "BudgetExhausted",
            Self::LimiterUnreachable => "LimiterUnreachable",
            Self::TooManyCalls => "TooManyCalls",
            Self::NotInForce => "QuotaNotInForce",
            Self::RequestExpired => "RequestExpired",
            Self::ProxyStopping => "ProxyStopping",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AdmissionClient {
    /// Starts a client on `link`, and its task. Calls of the accounts in `bypass` still ask for a grant, but are
    /// sent without one when the limiter does not answer. `on_event` must not block.
    pub fn start(
        identity: Identity,
        link: Link,
        bypass: watch::Receiver<BTreeSet<AccountIndex>>,
        on_event: impl Fn(LimiterEvent) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                session: Session::new(identity),
                connected_since: None,
                slots: HashMap::new(),
                pauses: BTreeMap::new(),
                looks: Looks::default(),
            }),
            changed: Notify::new(),
            connected: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            bypass,
            on_event: Box::new(on_event),
        });
        tokio::spawn(run_session(Arc::clone(&shared), link));
        Self { shared }
    }

    /// Waits until a call may be sent. Dropping the future takes the call out of the queue.
    ///
    /// `patience`: how long its client still waits for the answer. `queue`: how long the account lets it wait; only
    /// used while the limiter can't be reached or does not answer, for it knows better.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn admit(
        &self,
        account: AccountIndex,
        details: impl Into<CallDetails>,
        patience: Option<Duration>,
        queue: QueueConfig,
    ) -> Result<Permit, Refused> {
        let mut permit = self.ask(account, details.into(), patience, queue)?;
        permit.granted().await?;
        Ok(permit)
    }

    fn ask(
        &self,
        account: AccountIndex,
        details: CallDetails,
        patience: Option<Duration>,
        queue: QueueConfig,
    ) -> Result<Permit, Refused> {
        let call = {
            let mut inner = self.shared.inner();
            let asked = inner.session.ask(clock::now(), account, details, patience);
            let call = asked.map_err(|error| match error {
                AskError::TooManyCalls { .. } => {
                    Refused { reason: Reason::TooManyCalls, retry_after: Some(FULL), words: None }
                }
                AskError::UnknownAccount(_) => Refused {
                    reason: Reason::Limiter(RefusalReason::NeverFits),
                    retry_after: None,
                    words: None,
                },
            })?;
            inner.slots.insert(call, Slot::default());
            call
        };
        self.shared.changed.notify_one();
        Ok(Permit::new(Arc::clone(&self.shared), (account, call), patience, queue))
    }

    /// Tells the limiter what the workload's author should know; it reports each kind once.
    pub(crate) fn notice(&self, account: AccountIndex, kind: NoticeKind, detail: String) {
        self.shared.inner().session.notice(account, Notice { kind, detail });
        self.shared.changed.notify_one();
    }

    /// The fingerprint of a credential or an organisation, as the limiter distinguishes them; 0: not known.
    pub(crate) fn fingerprint(&self, text: Option<&[u8]>) -> Fingerprint {
        let key = self.shared.inner().session.fingerprint_key();
        fingerprint(key, text)
    }

    /// Whether the limiter is connected.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Calls that wait for a grant now.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Why calls of an account may wait now: a pause's reason, if one is in force.
    pub fn pause_of(&self, account: AccountIndex) -> Option<String> {
        let inner = self.shared.inner();
        let found = inner.pauses.iter().find(|((paused, _), _)| *paused == account);
        found.map(|(_, reason)| reason.clone())
    }

    /// Figures of the session that only grow.
    pub fn counters(&self) -> Counters {
        self.shared.inner().session.counters()
    }

    /// Sends what is queued and ends the task. Calls that still wait stay unanswered.
    pub fn close(&self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the session, after which there may be messages to send.
    fn step<T>(&self, step: impl FnOnce(&mut Inner, Stamp) -> T) -> T {
        let done = {
            let mut inner = self.inner();
            // Read under the lock: waiting for it must not make a grant look younger.
            let now = clock::now();
            step(&mut inner, now)
        };
        self.changed.notify_one();
        done
    }

    fn handle(&self, event: SessionEvent) {
        let (call, outcome) = match event {
            SessionEvent::Granted { call } => (call, Outcome::Granted),
            SessionEvent::Refused { call, reason, retry_after, words } => {
                let reason = Reason::Limiter(reason);
                (call, Outcome::Refused(Refused { reason, retry_after, words }))
            }
            SessionEvent::Account { account, update } => {
                self.remember_pause(account, &update);
                return (self.on_event)(LimiterEvent::Account { account, update });
            }
            SessionEvent::Outlook { look, document } => return self.inner().looks.answer(look, document),
        };
        let waker = self.inner().slots.get_mut(&call).and_then(|slot| {
            slot.outcome = Some(outcome);
            slot.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn remember_pause(&self, account: AccountIndex, update: &AccountUpdate) {
        match update {
            AccountUpdate::State(_) => {}
            AccountUpdate::Paused { scope, reason, .. } => {
                self.inner().pauses.insert((account, scope.clone()), reason.clone());
            }
            AccountUpdate::Resumed { scope, .. } => {
                self.inner().pauses.remove(&(account, scope.clone()));
            }
        }
    }

    fn set_connected(&self, connected: bool) {
        {
            let mut inner = self.inner();
            inner.connected_since = connected.then(Instant::now);
            if connected {
                inner.session.connected();
            } else {
                inner.session.disconnected();
                // After the next hello the limiter sends the pauses that are still in force.
                inner.pauses.clear();
            }
        }
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            (self.on_event)(LimiterEvent::Connected(connected));
        }
    }
}

/// Carries messages both ways until the client is closed.
async fn run_session(shared: Arc<Shared>, mut link: Link) {
    let mut limiter: Option<mpsc::Sender<ToLimiter>> = None;
    let mut link_open = true;
    loop {
        let flushed = flush(&shared, limiter.as_ref());
        if flushed == Flushed::Lost {
            limiter = None;
            shared.set_connected(false);
        }
        let wake = shared.inner().session.next_wake();
        let until_wake = wake.map_or(Duration::MAX, |wake| wake.since(clock::now()));
        tokio::select! {
            biased;
            event = link.events.recv(), if link_open => match event {
                Some(LinkEvent::Connected(sender)) => {
                    limiter = Some(sender);
                    shared.set_connected(true);
                }
                Some(LinkEvent::Disconnected) => {
                    limiter = None;
                    shared.set_connected(false);
                }
                Some(LinkEvent::Message(message)) => {
                    // The clock is read after the message was received.
                    let event = shared.inner().session.receive(clock::now(), message);
                    if let Some(event) = event {
                        shared.handle(event);
                    }
                }
                None => {
                    link_open = false;
                    limiter = None;
                    shared.set_connected(false);
                }
            },
            () = shared.changed.notified(), if flushed != Flushed::Full => {}
            () = channel_has_room(limiter.as_ref()), if flushed == Flushed::Full => {}
            // While the channel is full, nothing that is due could be sent.
            () = tokio::time::sleep(until_wake), if wake.is_some() && flushed != Flushed::Full => {
                shared.inner().session.wake(clock::now());
            }
            () = shared.stop.cancelled() => {
                flush(&shared, limiter.as_ref());
                return;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushed {
    /// Every queued message was sent.
    All,
    /// The channel is full; messages are left.
    Full,
    /// The connection is lost.
    Lost,
}

/// Sends what the session has queued.
fn flush(shared: &Shared, limiter: Option<&mpsc::Sender<ToLimiter>>) -> Flushed {
    let Some(limiter) = limiter else {
        return Flushed::All;
    };
    loop {
        match limiter.try_reserve() {
            Ok(slot) => {
                let mut inner = shared.inner();
                match inner.session.next_message(clock::now()) {
                    Some(message) => slot.send(message),
                    None => return Flushed::All,
                }
            }
            Err(mpsc::error::TrySendError::Full(())) => return Flushed::Full,
            Err(mpsc::error::TrySendError::Closed(())) => return Flushed::Lost,
        }
    }
}

/// Waits until the channel has room for a message, or is lost.
async fn channel_has_room(limiter: Option<&mpsc::Sender<ToLimiter>>) {
    if let Some(limiter) = limiter {
        // Either way the next round of the loop finds out.
        let _reserved = limiter.reserve().await;
    }
}
