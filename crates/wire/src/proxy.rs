//! A proxy's side of the session: which calls wait, which hold a grant, what the limiter has yet
//! to be told.
//!
//! Pure: the caller brings the clock (`CLOCK_BOOTTIME`) and the bytes. It calls
//! [`Session::next_message`] with a clock read *just before* it sends, [`Session::may_write`] just
//! before it writes a request, and [`Session::wrote`] with a clock read *after* the write returned.
//!
//! A call waits, holds a grant, is written, is answered, and is over. While no connection lasts
//! it keeps its place in that life; the next connection's hello tells the limiter of all calls,
//! and of the attempts that have ended while nobody could say whether the last report arrived.

mod call;
mod ended;
mod outgoing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quotakeeper_engine::event::{
    CallId, Observation, RefusalReason, Rejection, Scope, SessionId, Shape,
};
use quotakeeper_engine::time::Stamp;
use thiserror::Error;

use self::call::{Call, Grant, State};
use self::ended::EndedAttempts;
use self::outgoing::Outgoing;
use crate::message::{
    AccountIndex, Ending, Epoch, Hello, LimiterSays, LiveCall, ProxySays, Report, ToLimiter,
    ToProxy,
};

/// `Sent` is reported when no answer has begun this long after the write: most answers come
/// sooner, and say more.
pub const SENT_AFTER: Duration = Duration::from_millis(50);

/// Who this proxy is, and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A number that no other proxy has drawn.
    pub session: SessionId,
    /// The workload that the pod belongs to.
    pub consumer: String,
    /// The keys of the accounts that it draws on. A call names its account by the place here.
    pub accounts: Vec<String>,
    /// The most calls that are not over at the same time.
    pub max_calls: usize,
}

/// Why a call could not begin to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// The proxy holds as many calls as it may.
    #[error("the proxy holds {max} calls already; let some finish or raise its bound")]
    TooManyCalls {
        /// The bound.
        max: usize,
    },
    /// The account is not one of the session's.
    #[error("account {0} is not one of the session's accounts; use a place in Identity::accounts")]
    UnknownAccount(u32),
}

/// What a message means for the proxy's callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The call may be written, if [`Session::may_write`] still says so just before.
    Granted {
        /// Which call.
        call: CallId,
    },
    /// The call will not be granted and is forgotten.
    Refused {
        /// Which call.
        call: CallId,
        /// Why.
        reason: RefusalReason,
        /// When another try makes sense.
        retry_after: Option<Duration>,
    },
    /// A part of an account is paused.
    Paused {
        /// Which account.
        account: AccountIndex,
        /// Which calls.
        scope: Scope,
        /// For how long at least, from now.
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

/// Figures of a session that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Grants that were accepted.
    pub granted: u64,
    /// Grants that were returned because they were no longer valid when they were to be written.
    pub expired: u64,
    /// Requests whose write returned after the grant's validity had passed.
    pub late_writes: u64,
    /// Messages of an older limiter or an older connection, ignored.
    pub stale: u64,
}

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
    counters: Counters,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    validity: Duration,
    heartbeat: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; the hello is not taken yet.
    Fresh,
    /// The hello left at this stamp; every grant of this connection has an echo of at least that.
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
            counters: Counters::default(),
        }
    }

    /// A connection stands. The hello is the next message to take.
    pub fn connected(&mut self) {
        self.link = Link::Fresh;
        self.outgoing.forget();
    }

    /// The connection is lost. Calls keep what they have; what was not taken is told by the next
    /// hello.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
        self.outgoing.forget();
    }

    /// Whether a connection stands.
    pub fn is_connected(&self) -> bool {
        self.link != Link::Down
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
        shape: Shape,
        patience: Option<Duration>,
    ) -> Result<CallId, AskError> {
        if account.0 as usize >= self.identity.accounts.len() {
            return Err(AskError::UnknownAccount(account.0));
        }
        let max = self.identity.max_calls;
        if self.calls.len() >= max || self.outgoing.len() >= max.saturating_mul(8) {
            return Err(AskError::TooManyCalls { max });
        }
        self.last_call += 1;
        let call = CallId(self.last_call);
        self.say(ProxySays::Ask {
            account,
            call,
            shape: shape.clone(),
            patience,
        });
        self.calls
            .insert(call, Call::new(now, account, shape, patience));
        Ok(call)
    }

    /// Whether the request may be written now. `true` is said once per grant: write at once, or
    /// [give it back](Session::give_back). `false`: the call waits (an outdated grant has been
    /// returned) and [`Notice::Granted`] will come again.
    pub fn may_write(&mut self, now: Stamp, id: CallId) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let State::Granted(grant) = call.state else {
            return false;
        };
        if grant.epoch == self.newest && now <= grant.expires {
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
        call.state = State::Sent {
            grant,
            written: now,
        };
        if now > grant.expires {
            // The limiter counts on a write before the end of validity; the answer would not tell
            // it otherwise.
            self.counters.late_writes += 1;
            self.report_sent(id);
        } else {
            self.unanswered.push_back((now, id, grant.attempt));
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
        self.report(
            id,
            grant,
            Report::FirstByte {
                at: now,
                observations,
            },
        );
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
        let State::Sent { grant, .. } = call.state else {
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
        let ending = Ending::Rejected {
            at: now,
            observations,
            rejection,
        };
        self.end_attempt(now, id, grant, ending, again);
    }

    /// The call is over: its answer was read to the end or given up, or its request failed after
    /// it may have been written in part.
    pub fn done(&mut self, now: Stamp, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        match call.state {
            State::Waiting { .. } => {
                let account = call.account;
                self.say(ProxySays::Cancel { account, call: id });
                self.calls.remove(&id);
            }
            State::Granted(grant) => self.unused(now, id, grant, false),
            State::Writing(_) => {
                self.wrote(now, id);
                self.done(now, id);
            }
            State::Sent { grant, written } => {
                self.report_sent(id);
                self.report(id, grant, Report::Done);
                self.end_attempt(now, id, grant, Ending::Sent { written }, false);
            }
            State::Answered { grant, at } => {
                self.report(id, grant, Report::Done);
                self.end_attempt(now, id, grant, Ending::Answered { at }, false);
            }
        }
    }

    /// The client hung up, at whatever point of the call's life.
    pub fn cancel(&mut self, now: Stamp, call: CallId) {
        self.done(now, call);
    }

    /// Takes a message of the current connection.
    pub fn receive(&mut self, now: Stamp, message: ToProxy) -> Option<Notice> {
        let Link::Greeted(greeted) = self.link else {
            self.counters.stale += 1;
            return None;
        };
        if message.epoch < self.newest {
            self.counters.stale += 1;
            return None;
        }
        self.newest = message.epoch;
        match message.body {
            LimiterSays::Welcome {
                validity,
                heartbeat,
            } => {
                self.terms = Some(Terms {
                    validity,
                    heartbeat,
                });
                None
            }
            LimiterSays::Grant {
                account,
                call,
                attempt,
                echo,
            } => {
                if echo < greeted {
                    // Decided for an earlier connection: the hello has said that it was not had.
                    self.counters.stale += 1;
                    return None;
                }
                self.ended.confirm(echo);
                let validity = self.terms.map_or(Duration::ZERO, |terms| terms.validity);
                let grant = Grant {
                    attempt,
                    epoch: message.epoch,
                    expires: echo + validity,
                };
                self.granted(now, account, call, grant)
            }
            LimiterSays::Refuse {
                account,
                call,
                reason,
                retry_after,
            } => {
                let waits = self.calls.get(&call).is_some_and(|known| {
                    known.account == account && matches!(known.state, State::Waiting { .. })
                });
                waits.then(|| {
                    self.calls.remove(&call);
                    Notice::Refused {
                        call,
                        reason,
                        retry_after,
                    }
                })
            }
            LimiterSays::Paused {
                account,
                scope,
                remaining,
                reason,
            } => Some(Notice::Paused {
                account,
                scope,
                remaining,
                reason,
            }),
            LimiterSays::Resumed {
                account,
                scope,
                paused_for,
            } => Some(Notice::Resumed {
                account,
                scope,
                paused_for,
            }),
        }
    }

    /// The next message to send, stamped `now`; read the clock just before. `None`: nothing to say.
    pub fn next_message(&mut self, now: Stamp) -> Option<ToLimiter> {
        let body = match self.link {
            Link::Down => return None,
            Link::Fresh => {
                self.link = Link::Greeted(now);
                ProxySays::Hello(self.hello(now))
            }
            Link::Greeted(_) => self.outgoing.pop()?,
        };
        if let ProxySays::Report { call, attempt, .. } = &body {
            self.ended.told(now, *call, *attempt);
        }
        self.outgoing.said(now);
        Some(ToLimiter { stamp: now, body })
    }

    /// When [`Session::wake`] has something to do, if nothing else happens before.
    pub fn next_wake(&self) -> Option<Stamp> {
        let Link::Greeted(_) = self.link else {
            return None;
        };
        let sent = self
            .unanswered
            .front()
            .map(|&(written, ..)| written + SENT_AFTER);
        let heartbeat = self
            .terms
            .and_then(|terms| self.outgoing.silent_until(terms.heartbeat));
        [sent, heartbeat].into_iter().flatten().min()
    }

    /// Says what is due by now: `Sent` of calls without an answer, a heartbeat.
    pub fn wake(&mut self, now: Stamp) {
        while let Some(&(written, id, attempt)) = self.unanswered.front() {
            let waits = self.calls.get(&id).is_some_and(
                |call| matches!(call.state, State::Sent { grant, .. } if grant.attempt == attempt),
            );
            if waits && now < written + SENT_AFTER {
                break;
            }
            self.unanswered.pop_front();
            if waits {
                self.report_sent(id);
            }
        }
        let due = self
            .terms
            .and_then(|terms| self.outgoing.silent_until(terms.heartbeat));
        if self.outgoing.is_empty() && due.is_some_and(|due| due <= now) {
            self.say(ProxySays::Heartbeat);
        }
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

    /// The newest limiter that was heard.
    pub fn newest(&self) -> Epoch {
        self.newest
    }

    fn granted(
        &mut self,
        now: Stamp,
        account: AccountIndex,
        id: CallId,
        grant: Grant,
    ) -> Option<Notice> {
        match self.calls.get_mut(&id) {
            Some(call) if call.account == account => {
                if grant.attempt <= call.attempts {
                    // Of an attempt whose fate was told already.
                    self.counters.stale += 1;
                    return None;
                }
                if let State::Waiting { .. } = call.state {
                    call.begin_attempt(now, grant);
                    self.counters.granted += 1;
                    return Some(Notice::Granted { call: id });
                }
            }
            _ => {}
        }
        // Hung up while the grant was on its way.
        self.say(ProxySays::Report {
            account,
            call: id,
            attempt: grant.attempt,
            report: Report::Unused { again: false },
        });
        None
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
            && call.sent_reported < grant.attempt
        {
            call.sent_reported = grant.attempt;
            self.report(id, grant, Report::Sent { written });
        }
    }

    fn end_attempt(&mut self, now: Stamp, id: CallId, grant: Grant, ending: Ending, again: bool) {
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
            self.say(ProxySays::Report {
                account,
                call: id,
                attempt: grant.attempt,
                report,
            });
        }
    }

    /// Queues a message, unless the coming hello tells the same.
    fn say(&mut self, body: ProxySays) {
        if let Link::Greeted(_) = self.link {
            self.outgoing.push(body);
        }
    }

    fn hello(&mut self, now: Stamp) -> Hello {
        self.unanswered.clear();
        let calls = self
            .calls
            .iter_mut()
            .map(|(&id, call)| {
                if let State::Sent { grant, .. } = call.state {
                    call.sent_reported = grant.attempt;
                }
                LiveCall {
                    account: call.account,
                    call: id,
                    shape: call.shape.clone(),
                    progress: call.progress(now),
                }
            })
            .collect();
        Hello {
            session: self.identity.session,
            consumer: self.identity.consumer.clone(),
            accounts: self.identity.accounts.clone(),
            newest: self.newest,
            ended: self.ended.tell_all(now),
            calls,
        }
    }
}
