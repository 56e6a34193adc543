//! One call that asks for a grant, from the request to the limiter to its end.
//!
//! The limiter always gets a report of the call's end: dropping a permit reports it as cancelled, unused or done,
//! as far as the call had come.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use quotakeeper_engine::config::QueueConfig;
use quotakeeper_engine::event::{CallId, Observation, RefusalReason, Rejection};
use quotakeeper_engine::patience::longest_wait;
use quotakeeper_engine::time::Stamp;
use quotakeeper_engine::tokens::{CallEnd, TokenUsage};
use quotakeeper_wire::message::{AccountIndex, Notice, NoticeKind};
use tokio::time::Instant;

use super::{Outcome, Reason, Refused, Shared};
use crate::clock;
use crate::upstream::write_permit::WritePermit;

/// How much longer than the longest allowed wait the limiter may take to answer.
const GRACE: Duration = Duration::from_secs(2);
/// How long a client waits whose timeout is not known.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(600);
/// With the bypass on: how long a call still waits for a connected limiter, so that it is counted.
const BYPASS_DELAY: Duration = Duration::from_millis(250);
/// How long a call without a grant may take to connect.
const BYPASS_CONNECT: Duration = Duration::from_secs(10);

/// A call that may be sent, or waits for a grant.
pub struct Permit {
    pending: Arc<PendingCall>,
    deadlines: Deadlines,
    /// How the attempt ended; until that is known it is lost.
    ended: Ended,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether the provider may go on.
    pub end: CallEnd,
    /// What it has used; none: not known.
    pub usage: Option<TokenUsage>,
}

impl Ended {
    /// The provider has done nothing for it and will do nothing.
    pub const UNPROCESSED: Ended = Ended {
        end: CallEnd::Seen,
        usage: Some(TokenUsage {
            input: 0,
            cached: 0,
            cache_write: 0,
            output: 0,
            exact: true,
            credits: None,
        }),
    };
}

/// When a call gives up on the limiter.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    asked: Instant,
    /// How long it waits for an answer of a limiter that is connected …
    answer: Duration,
    /// … and for one to connect.
    absence: Duration,
    /// How long it waits at all.
    patience: Duration,
}

impl Deadlines {
    fn new(patience: Option<Duration>, queue: QueueConfig) -> Deadlines {
        let unknown = || longest_wait(UNKNOWN_PATIENCE).max(queue.max_wait);
        let patience = patience.map_or_else(unknown, longest_wait);
        Deadlines {
            asked: Instant::now(),
            answer: queue.max_wait.min(patience),
            absence: queue.max_absence.unwrap_or(Duration::MAX).min(patience),
            patience,
        }
    }

    /// When it gives up, given since when the limiter is connected.
    fn gives_up_at(&self, connected_since: Option<Instant>) -> Option<Instant> {
        let Some(since) = connected_since else { return self.asked.checked_add(self.absence) };
        let answered = since.max(self.asked).checked_add(self.answer);
        let ends = self.asked.checked_add(self.patience);
        answered.into_iter().chain(ends).min()?.checked_add(GRACE)
    }
}

struct PendingCall {
    shared: Arc<Shared>,
    account: AccountIndex,
    call: CallId,
    /// The bypass is on and the limiter has not answered: the call is sent without a grant.
    bypassed: AtomicBool,
}

impl Permit {
    pub(super) fn new(
        shared: Arc<Shared>,
        (account, call): (AccountIndex, CallId),
        patience: Option<Duration>,
        queue: QueueConfig,
    ) -> Self {
        let pending = PendingCall { shared, account, call, bypassed: AtomicBool::new(false) };
        let ended = Ended::default();
        Self { pending: Arc::new(pending), deadlines: Deadlines::new(patience, queue), ended }
    }

    /// Waits for the limiter's answer.
    ///
    /// # Errors
    /// [`Refused`]; the call is over then.
    pub async fn granted(&mut self) -> Result<(), Refused> {
        if self.bypasses() {
            return Ok(());
        }
        let _waiting = Waiting::new(&self.pending.shared);
        // A call that was sent before may be past its deadline: the limiter still gets time to answer.
        let soonest = Instant::now() + GRACE;
        let mut late = pin!(sleep_until(self.gives_up_at(soonest)));
        let mut look = pin!(poll_fn(|cx| {
            let mut inner = self.pending.shared.inner();
            let Some(slot) = inner.slots.get_mut(&self.pending.call) else {
                return Poll::Ready(Err(self.pending.shared.late()));
            };
            match slot.outcome.take() {
                Some(Outcome::Granted) => Poll::Ready(Ok(())),
                Some(Outcome::Refused(refused)) => Poll::Ready(Err(refused)),
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }));
        let mut pass = pin!(self.pending.may_bypass());
        loop {
            tokio::select! {
                biased;
                outcome = &mut look => return outcome,
                () = &mut pass => {
                    self.pending.bypassed.store(true, Ordering::Relaxed);
                    self.pending.shared.step(|inner, now| inner.session.cancel(now, self.pending.call));
                    return Ok(());
                }
                () = &mut late => match self.gives_up_at(soonest) {
                    // The limiter was lost or has come back meanwhile.
                    at if at.is_none_or(|at| at > Instant::now()) => late.set(sleep_until(at)),
                    _ => break,
                },
            }
        }
        let late = self.pending.shared.late();
        self.pending.shared.step(|inner, now| inner.session.cancel(now, self.pending.call));
        Err(late)
    }

    /// When the call gives up, as the connection to the limiter is now.
    fn gives_up_at(&self, soonest: Instant) -> Option<Instant> {
        let connected_since = self.pending.shared.inner().connected_since;
        let at = self.deadlines.gives_up_at(connected_since)?;
        Some(if connected_since.is_some() { at.max(soonest) } else { at })
    }

    /// The part that the connection to the provider asks before the write, and reports the write to.
    pub fn write_permit(&self) -> Arc<dyn WritePermit> {
        Arc::clone(&self.pending) as Arc<dyn WritePermit>
    }

    /// Whether the call is sent without a grant, because the bypass is on and the limiter does not answer.
    pub fn bypasses(&self) -> bool {
        self.pending.bypassed.load(Ordering::Relaxed)
    }

    /// How long the grant may still be written.
    pub fn remaining(&self) -> Duration {
        if self.bypasses() {
            return BYPASS_CONNECT;
        }
        let inner = self.pending.shared.inner();
        let until = inner.session.granted_until(self.pending.call).unwrap_or_default();
        until.since(clock::now())
    }

    /// Returns the grant, of which not one byte was written, and waits for the next.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn unused(&mut self) -> Result<(), Refused> {
        self.again(|inner, now, call| inner.session.give_back(now, call, true));
        self.granted().await
    }

    /// The answer has begun at `at`.
    pub fn first_byte(&self, at: Stamp, observations: Vec<Observation>) {
        let call = self.pending.call;
        self.pending.shared.step(|inner, _| inner.session.first_byte(at, call, observations));
    }

    /// The answer, begun at `at`, is a rejection: waits for the next grant.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn rejected(
        &mut self,
        at: Stamp,
        observations: Vec<Observation>,
        rejection: Rejection,
    ) -> Result<(), Refused> {
        self.again(|inner, _, call| {
            inner.session.rejected(at, call, observations, rejection, true);
        });
        self.granted().await
    }

    /// The answer, begun at `at`, is a rejection and goes to the client.
    pub fn rejected_finally(&self, at: Stamp, observations: Vec<Observation>, rejection: Rejection) {
        let call = self.pending.call;
        self.pending.shared.step(|inner, _| inner.session.rejected(at, call, observations, rejection, false));
    }

    /// The answer has `output` tokens so far.
    pub fn produced(&self, output: u64) {
        // Heartbeats say it: nobody needs to be woken.
        self.pending.shared.inner().session.produced(self.pending.call, output);
    }

    /// Tells the limiter what the workload's author should know; it reports each kind once.
    pub(crate) fn notice(&self, kind: NoticeKind, detail: String) {
        self.pending.shared.inner().session.notice(self.pending.account, Notice { kind, detail });
    }

    /// The attempt is over.
    pub fn end(mut self, ended: Ended) {
        self.ended = ended;
    }

    fn again(&self, step: impl FnOnce(&mut super::Inner, Stamp, CallId)) {
        self.pending.shared.step(|inner, now| {
            if let Some(slot) = inner.slots.get_mut(&self.pending.call) {
                (slot.outcome, slot.approved) = (None, None);
            }
            step(inner, now, self.pending.call);
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let call = self.pending.call;
        let Ended { end, usage } = self.ended;
        self.pending.shared.step(|inner, now| {
            inner.slots.remove(&call);
            inner.session.done(now, call, end, usage);
        });
    }
}

impl PendingCall {
    /// Waits until the bypass is on and the limiter has had time to answer.
    async fn may_bypass(&self) {
        let mut open = self.shared.bypass.clone();
        if open.wait_for(|open| open.contains(&self.account)).await.is_err() {
            // The proxy ends.
            return std::future::pending().await;
        }
        if self.shared.connected.load(Ordering::Relaxed) {
            tokio::time::sleep(BYPASS_DELAY).await;
        }
    }
}

impl WritePermit for PendingCall {
    fn may_write(&self) -> bool {
        if self.bypassed.load(Ordering::Relaxed) {
            return true;
        }
        self.shared.step(|inner, now| {
            let newest = inner.session.newest();
            let Some(slot) = inner.slots.get_mut(&self.call) else {
                return false;
            };
            if let Some((until, epoch)) = slot.approved {
                // The socket accepted no byte at the first try.
                if epoch == newest && now <= until {
                    return true;
                }
                slot.approved = None;
                inner.session.give_back(now, self.call, true);
                return false;
            }
            let until = inner.session.granted_until(self.call);
            // A new grant may come as soon as this one is returned: the old answer must not be used for it.
            slot.outcome = None;
            let may = inner.session.may_write(now, self.call);
            slot.approved = until.filter(|_| may).map(|until| (until, newest));
            may
        })
    }

    fn wrote(&self) {
        self.shared.step(|inner, now| inner.session.wrote(now, self.call));
    }
}

/// Counts a call among the waiting while it lives.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Why a call that the limiter has not answered in time is refused.
    fn late(&self) -> Refused {
        let reason = match self.connected.load(Ordering::Relaxed) {
            true => Reason::Limiter(RefusalReason::WaitExceeded),
            false => Reason::LimiterUnreachable,
        };
        Refused { reason, retry_after: None, words: None }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
