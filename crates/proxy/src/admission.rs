//! Where calls wait: the one place that speaks to the limiter.
//!
//! The session is a pure state machine; this room gives it a clock, a link and a lock. The lock is held for one
//! step at a time and never across an await. A task of its own carries messages; it stamps each just before it
//! is sent.

mod permit;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use quotakeeper_engine::event::{CallClass, CallId, RefusalReason, Scope};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::message::{AccountIndex, AccountState, Epoch, ToLimiter};
use quotakeeper_wire::proxy::{AskError, Counters, Identity, Session, SessionEvent};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::link::{Link, LinkEvent};

pub use permit::Permit;

/// When a full proxy may have room again: as soon as any of its calls ends.
const FULL: Duration = Duration::from_secs(1);

/// The queue of calls that wait for a grant, for those who ask.
#[derive(Clone)]
pub struct AdmissionClient {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// There may be something to say, or an earlier time to wake.
    news: Notify,
    connected: AtomicBool,
    waiting: AtomicUsize,
    stop: CancellationToken,
    /// The accounts whose calls pass even where the limiter does not answer.
    open: watch::Receiver<BTreeSet<AccountIndex>>,
    hear: Box<dyn Fn(LimiterEvent) + Send + Sync>,
}

struct Inner {
    session: Session,
    slots: HashMap<CallId, Slot>,
    pauses: BTreeMap<(AccountIndex, Scope), String>,
}

/// What is known of a call beyond the session.
#[derive(Default)]
struct Slot {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    /// The session has said that the grant may be written: until when, and whose grant it is.
    approved: Option<(Stamp, Epoch)>,
}

enum Outcome {
    Granted,
    Refused(Refused),
}

/// What the limiter tells of an account, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimiterEvent {
    /// The link to the limiter stands or is lost.
    Connected(bool),
    /// How an account stands, from now on.
    Account {
        /// Which account.
        account: AccountIndex,
        /// How it stands.
        state: AccountState,
    },
    /// A part of an account is paused.
    Paused {
        /// Which account.
        account: AccountIndex,
        /// Which calls.
        scope: Scope,
        /// For how long at least.
        remaining: Duration,
        /// The provider's word, or who paused.
        reason: String,
    },
    /// A pause is over.
    Resumed {
        /// Which account.
        account: AccountIndex,
        /// Which calls.
        scope: Scope,
        /// How long it was paused.
        paused_for: Duration,
    },
}

/// The call will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {reason}")]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// When another try makes sense; none: not known, or never.
    pub retry_after: Option<Duration>,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The limiter's word.
    Limiter(RefusalReason),
    /// The limiter can't be reached, and the client's patience or the queue's bound ends.
    LimiterUnreachable,
    /// The proxy holds as many calls as it may.
    TooManyCalls,
    /// The quota has not come into force within the client's patience.
    NotInForce,
}

impl Reason {
    /// The word for it in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limiter(RefusalReason::WaitTooLong) => "WaitTooLong",
            Self::Limiter(RefusalReason::WaitExceeded) => "WaitExceeded",
            Self::Limiter(RefusalReason::QueueFull) => "QueueFull",
            Self::Limiter(RefusalReason::QuotaExceeded) => "QuotaExceeded",
            Self::Limiter(RefusalReason::NeverFits) => "NeverFits",
            Self::Limiter(RefusalReason::ProviderStopped) => "ProviderStopped",
            Self::LimiterUnreachable => "LimiterUnreachable",
            Self::TooManyCalls => "TooManyCalls",
            Self::NotInForce => "QuotaNotInForce",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AdmissionClient {
    /// Starts a client on `link`, and its task. Calls of the accounts in `open` are still asked for, but pass where
    /// the limiter does not answer. `hear` is told what the limiter tells; it must not block.
    pub fn start(
        identity: Identity,
        link: Link,
        open: watch::Receiver<BTreeSet<AccountIndex>>,
        hear: impl Fn(LimiterEvent) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                session: Session::new(identity),
                slots: HashMap::new(),
                pauses: BTreeMap::new(),
            }),
            news: Notify::new(),
            connected: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            open,
            hear: Box::new(hear),
        });
        tokio::spawn(run_session(Arc::clone(&shared), link));
        Self { shared }
    }

    /// Waits until a call may be sent. Dropping the future takes the call out of the queue.
    ///
    /// `patience`: how long its client still waits for the answer. `max_wait`: how long the queue lets it
    /// wait; only used while the limiter can't be reached, who knows better.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn admit(
        &self,
        account: AccountIndex,
        class: CallClass,
        patience: Option<Duration>,
        max_wait: Duration,
    ) -> Result<Permit, Refused> {
        let mut permit = self.ask(account, class, patience, max_wait)?;
        permit.granted().await?;
        Ok(permit)
    }

    fn ask(
        &self,
        account: AccountIndex,
        class: CallClass,
        patience: Option<Duration>,
        max_wait: Duration,
    ) -> Result<Permit, Refused> {
        let call = {
            let mut inner = self.shared.inner();
            let asked = inner.session.ask(clock::now(), account, class, patience);
            let call = asked.map_err(|error| match error {
                AskError::TooManyCalls { .. } => {
                    Refused { reason: Reason::TooManyCalls, retry_after: Some(FULL) }
                }
                AskError::UnknownAccount(_) => {
                    Refused { reason: Reason::Limiter(RefusalReason::NeverFits), retry_after: None }
                }
            })?;
            inner.slots.insert(call, Slot::default());
            call
        };
        self.shared.news.notify_one();
        Ok(Permit::new(Arc::clone(&self.shared), (account, call), patience, max_wait))
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

    /// Says what is still to be said and ends the task. Calls that still wait stay unanswered.
    pub fn close(&self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the session, after which there may be something to say.
    fn step<T>(&self, step: impl FnOnce(&mut Inner, Stamp) -> T) -> T {
        let done = {
            let mut inner = self.inner();
            // Read under the lock: waiting for it must not make a grant look younger.
            let now = clock::now();
            step(&mut inner, now)
        };
        self.news.notify_one();
        done
    }

    fn hear(&self, notice: SessionEvent) {
        let (call, outcome) = match notice {
            SessionEvent::Granted { call } => (call, Outcome::Granted),
            SessionEvent::Refused { call, reason, retry_after } => {
                let reason = Reason::Limiter(reason);
                (call, Outcome::Refused(Refused { reason, retry_after }))
            }
            SessionEvent::Account { account, state } => {
                return (self.hear)(LimiterEvent::Account { account, state });
            }
            SessionEvent::Paused { account, scope, remaining, reason } => {
                self.inner().pauses.insert((account, scope.clone()), reason.clone());
                return (self.hear)(LimiterEvent::Paused { account, scope, remaining, reason });
            }
            SessionEvent::Resumed { account, scope, paused_for } => {
                self.inner().pauses.remove(&(account, scope.clone()));
                return (self.hear)(LimiterEvent::Resumed { account, scope, paused_for });
            }
        };
        let waker = self.inner().slots.get_mut(&call).and_then(|slot| {
            slot.outcome = Some(outcome);
            slot.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn set_connected(&self, connected: bool) {
        {
            let mut inner = self.inner();
            if connected {
                inner.session.connected();
            } else {
                inner.session.disconnected();
                // The next connection tells the pauses that are still in force.
                inner.pauses.clear();
            }
        }
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            (self.hear)(LimiterEvent::Connected(connected));
        }
    }
}

/// Carries messages both ways until the client is closed.
async fn run_session(shared: Arc<Shared>, mut link: Link) {
    let mut limiter: Option<mpsc::Sender<ToLimiter>> = None;
    let mut link_open = true;
    loop {
        let told = tell(&shared, limiter.as_ref());
        if told == Told::Lost {
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
                Some(LinkEvent::Says(message)) => {
                    // The clock is read after the message was received.
                    let notice = shared.inner().session.receive(clock::now(), message);
                    if let Some(notice) = notice {
                        shared.hear(notice);
                    }
                }
                None => {
                    link_open = false;
                    limiter = None;
                    shared.set_connected(false);
                }
            },
            () = shared.news.notified(), if told != Told::Full => {}
            () = room(limiter.as_ref()), if told == Told::Full => {}
            // A full channel keeps what is due from being said.
            () = tokio::time::sleep(until_wake), if wake.is_some() && told != Told::Full => {
                shared.inner().session.wake(clock::now());
            }
            () = shared.stop.cancelled() => {
                tell(&shared, limiter.as_ref());
                return;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// All that there is to say.
    All,
    /// As much as the channel takes.
    Full,
    /// The connection is lost.
    Lost,
}

fn tell(shared: &Shared, limiter: Option<&mpsc::Sender<ToLimiter>>) -> Told {
    let Some(limiter) = limiter else {
        return Told::All;
    };
    loop {
        match limiter.try_reserve() {
            Ok(place) => {
                let mut inner = shared.inner();
                match inner.session.next_message(clock::now()) {
                    Some(message) => place.send(message),
                    None => return Told::All,
                }
            }
            Err(mpsc::error::TrySendError::Full(())) => return Told::Full,
            Err(mpsc::error::TrySendError::Closed(())) => return Told::Lost,
        }
    }
}

/// Waits until the channel takes a message, or is lost.
async fn room(limiter: Option<&mpsc::Sender<ToLimiter>>) {
    if let Some(limiter) = limiter {
        // Either way the next round finds out.
        let _reserved = limiter.reserve().await;
    }
}
