//! A proxy's side of the session: which calls wait, which hold a grant, what is still to be reported.
//!
//! Pure: the caller brings the clock (`CLOCK_BOOTTIME`) and the bytes. It calls
//! [`Session::next_message`] with a clock read *just before* it sends, [`Session::may_write`] just
//! before it writes a request, and [`Session::wrote`] with a clock read *after* the write returned.
//!
//! A call waits, holds a grant, is written, is answered, and is over. A lost connection changes nothing of
//! that: the hello of the next one reports all calls, and the attempts that have ended without proof that the
//! last report arrived.

mod call;
mod outgoing;
mod progress;
mod receiving;
mod resend;
mod terms;
mod unacknowledged;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quotakeeper_engine::event::{CallClass, CallId, Observation, Rejection};
use quotakeeper_engine::time::Stamp;
use quotakeeper_engine::tokens::{CallEnd, TokenUsage};

use self::call::{Call, Grant, State};
use self::outgoing::Outgoing;
pub use self::terms::{AskError, Counters, Identity, SessionEvent};
use self::unacknowledged::EndedAttempts;
pub use self::unacknowledged::MOST as MOST_ENDED;
use crate::message::{
    AccountIndex, CallDetails, Ending, Epoch, FingerprintKey, Notice, NoticeKind, ProxyMessage, Report,
};
use crate::mutant::{self, Mutant};

/// `Sent` is reported when no answer has begun this long after the write: most answers come
/// sooner, and report more.
pub const SENT_AFTER: Duration = Duration::from_millis(50);

/// The proxy's side of the session.
#[derive(Clone, Debug)]
pub struct Session {
    identity: Identity,
    calls: BTreeMap<CallId, Call>,
    last_call: u64,
    link: Link,
    newest: Epoch,
    /// D and the heartbeat, from the newest welcome.
    terms: Option<Terms>,
    outgoing: Outgoing,
    ended: EndedAttempts,
    /// Written calls whose `Sent` is due unless an answer begins, in the order of the writes.
    unanswered: VecDeque<(Stamp, CallId, u32)>,
    /// Calls whose answers have grown since a heartbeat last said so …
    grown: BTreeSet<CallId>,
    /// … and when that was.
    progress_sent: Option<Stamp>,
    counters: Counters,
    /// What the workload's author should know; the limiter forgets it with the connection.
    notices: BTreeMap<(AccountIndex, NoticeKind), String>,
    last_look: u64,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    validity: Duration,
    heartbeat: Duration,
    fingerprint_key: Option<FingerprintKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; the hello is not sent yet.
    Fresh,
    /// The hello was sent at this stamp; every grant of this connection has an echo of at least that.
    Greeted(Stamp),
}

impl Session {
    /// A proxy that has just started.
    pub fn new(identity: Identity) -> Session {
        Session {
            identity,
            calls: BTreeMap::new(),
            last_call: 0,
            link: Link::Down,
            newest: Epoch(0),
            terms: None,
            outgoing: Outgoing::default(),
            ended: EndedAttempts::default(),
            unanswered: VecDeque::new(),
            grown: BTreeSet::new(),
            progress_sent: None,
            counters: Counters::default(),
            notices: BTreeMap::new(),
            last_look: 0,
        }
    }

    /// There is a connection. The hello is the next message.
    pub fn connected(&mut self) {
        self.link = Link::Fresh;
        self.outgoing.forget();
    }

    /// The connection is lost. The next hello reports what was not sent.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
        self.outgoing.forget();
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.link != Link::Down
    }

    /// The key of the credentials' fingerprints, from the newest welcome; `None`: none are wanted, or no limiter has
    /// answered yet.
    pub fn fingerprint_key(&self) -> Option<FingerprintKey> {
        self.terms.and_then(|terms| terms.fingerprint_key)
    }

    /// A call begins to wait. `patience`: how long its client still waits for the answer; the
    /// caller ends a call whose client has given up by [`Session::cancel`].
    ///
    /// # Errors
    /// [`AskError`] when the proxy is full or the account is unknown.
    pub fn ask(
        &mut self,
        now: Stamp,
        account: AccountIndex,
        details: impl Into<CallDetails>,
        patience: Option<Duration>,
    ) -> Result<CallId, AskError> {
        if account.0 as usize >= self.identity.quotas.len() {
            return Err(AskError::UnknownAccount(account.0));
        }
        let max = self.identity.max_calls;
        if self.calls.len() >= max || self.outgoing.len() >= max.saturating_mul(8) {
            return Err(AskError::TooManyCalls { max });
        }
        self.last_call += 1;
        let call = CallId(self.last_call);
        let details = details.into();
        self.queue(ProxyMessage::Ask { account, call, details: details.clone(), patience });
        self.calls.insert(call, Call::new(now, account, details, patience));
        Ok(call)
    }

    /// Whether the request may be written now. `true` is returned once per grant: write at once, or
    /// [give it back](Session::give_back). `false`: the call waits (an outdated grant has been
    /// returned) and [`SessionEvent::Granted`] will come again.
    pub fn may_write(&mut self, now: Stamp, id: CallId) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let State::Granted(grant) = call.state else {
            return false;
        };
        let newest = grant.reference.epoch == self.newest || mutant::active(Mutant::EpochsIgnored);
        if newest && now <= grant.expires {
            call.state = State::Writing(grant);
            return true;
        }
        self.counters.expired += 1;
        self.unused(now, id, grant, true);
        false
    }

    /// Returns a grant of which not one byte has been written, before or after
    /// [`Session::may_write`]: the connection to the provider was not ready, or failed. With
    /// `again` the call waits for another grant; otherwise it is forgotten.
    pub fn give_back(&mut self, now: Stamp, id: CallId, again: bool) {
        if let Some(State::Granted(grant) | State::Writing(grant)) =
            self.calls.get(&id).map(|call| call.state)
        {
            self.unused(now, id, grant, again);
        }
    }

    /// The write has returned; `now` was read after it.
    pub fn wrote(&mut self, now: Stamp, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let State::Writing(grant) = call.state else {
            return;
        };
        call.state = State::Sent { grant, written: now };
        if now > grant.expires {
            // The limiter assumes a write before the end of validity, and an answer would not correct that.
            self.counters.late_writes += 1;
            self.report_sent(id);
        } else {
            self.unanswered.push_back((now, id, grant.reference.attempt));
        }
    }

    /// The answer has begun; `now` was read after its first byte.
    pub fn first_byte(&mut self, now: Stamp, id: CallId, observations: Vec<Observation>) {
        // An answer may begin before the whole request is written.
        self.wrote(now, id);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let State::Sent { grant, .. } = call.state else {
            return;
        };
        call.state = State::Answered { grant, at: now };
        self.report(id, grant, Report::FirstByte { at: now, observations });
    }

    /// The answer is a rejection; `now` was read after its first byte. With `again` the call waits
    /// for another grant; otherwise it is over.
    pub fn rejected(
        &mut self,
        now: Stamp,
        id: CallId,
        observations: Vec<Observation>,
        rejection: Rejection,
        again: bool,
    ) {
        // An answer may begin before the whole request is written.
        self.wrote(now, id);
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        // A stream may have begun well: its rejection comes in an event.
        let (State::Sent { grant, .. } | State::Answered { grant, .. }) = call.state else {
            return;
        };
        self.report(
            id,
            grant,
            Report::Rejected {
                at: now,
                observations: observations.clone(),
                rejection: rejection.clone(),
                again,
            },
        );
        let ending = Ending::Rejected { at: now, observations, rejection };
        self.end_attempt(now, id, grant, ending, again);
    }

    /// The call is over: its answer was read to the end or given up, or its request failed after
    /// it may have been written in part. `end`: whether the provider may go on with what was written of it;
    /// `usage`: what it has used, if that is known.
    pub fn done(&mut self, now: Stamp, id: CallId, end: CallEnd, usage: Option<TokenUsage>) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        match call.state {
            State::Waiting { .. } => {
                let account = call.account;
                self.queue(ProxyMessage::Cancel { account, call: id });
                self.calls.remove(&id);
            }
            State::Granted(grant) => self.unused(now, id, grant, false),
            State::Writing(_) => {
                self.wrote(now, id);
                self.done(now, id, end, usage);
            }
            State::Sent { grant, written } => {
                self.report_sent(id);
                self.report(id, grant, Report::Done { end, usage });
                self.end_attempt(now, id, grant, Ending::Sent { written }, false);
            }
            State::Answered { grant, at } => {
                self.report(id, grant, Report::Done { end, usage });
                self.end_attempt(now, id, grant, Ending::Answered { at, end, usage }, false);
            }
        }
    }

    /// The client hung up, at whatever point of the call's life.
    pub fn cancel(&mut self, now: Stamp, call: CallId) {
        self.done(now, call, CallEnd::Lost, None);
    }

    /// The workload's author should know this. Of each kind and account, the first is reported.
    pub fn notice(&mut self, account: AccountIndex, notice: Notice) {
        let key = (account, notice.kind);
        if (account.0 as usize) < self.identity.quotas.len() && !self.notices.contains_key(&key) {
            self.notices.insert(key, notice.detail.clone());
            self.queue(ProxyMessage::Notice { account, notice });
        }
    }

    /// Asks how one more call of this class would fare; returns the number that the answer will have. None: no limiter is
    /// there to ask, or the account is unknown.
    pub fn look(&mut self, account: AccountIndex, class: CallClass) -> Option<u64> {
        if !self.is_connected() || account.0 as usize >= self.identity.quotas.len() {
            return None;
        }
        self.last_look += 1;
        let look = self.last_look;
        self.queue(ProxyMessage::Look { account, look, class });
        Some(look)
    }

    /// How many calls are not over.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call is under way.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How long the call has waited for grants, all of its attempts together; `None`: it is over.
    pub fn waited(&self, now: Stamp, id: CallId) -> Option<Duration> {
        self.calls.get(&id).map(|call| call.waited(now))
    }

    /// Until when a grant that the call holds may be written; `None`: it holds none.
    pub fn granted_until(&self, id: CallId) -> Option<Stamp> {
        match self.calls.get(&id)?.state {
            State::Granted(grant) => Some(grant.expires),
            _ => None,
        }
    }

    /// Figures that only grow.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The newest limiter incarnation that a message came from.
    pub fn newest(&self) -> Epoch {
        self.newest
    }

    fn unused(&mut self, now: Stamp, id: CallId, grant: Grant, again: bool) {
        self.report(id, grant, Report::Unused { again });
        self.end_attempt(now, id, grant, Ending::Unused, again);
    }

    fn report_sent(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let State::Sent { grant, written } = call.state
            && call.sent_reported < grant.reference.attempt
        {
            call.sent_reported = grant.reference.attempt;
            self.report(id, grant, Report::Sent { written });
        }
    }

    fn end_attempt(&mut self, now: Stamp, id: CallId, grant: Grant, ending: Ending, again: bool) {
        self.grown.remove(&id);
        if let Some(call) = self.calls.get_mut(&id) {
            self.ended.remember(id, call, grant, ending);
            if again {
                call.wait_again(now);
            } else {
                self.calls.remove(&id);
            }
        }
    }

    fn report(&mut self, id: CallId, grant: Grant, report: Report) {
        if let Some(call) = self.calls.get(&id) {
            let account = call.account;
            let attempt = grant.reference.attempt;
            self.queue(ProxyMessage::Report { account, call: id, attempt, report });
        }
    }

    /// Queues a message, unless the next hello will report the same.
    fn queue(&mut self, body: ProxyMessage) {
        if let Link::Greeted(_) = self.link {
            self.outgoing.push(body);
        }
    }
}
