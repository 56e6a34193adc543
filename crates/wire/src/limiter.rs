//! The limiter's side of the session: translates the messages of one proxy into events of the engine, and
//! actions of the engine into messages to that proxy.
//!
//! Pure: one [`Session`] per connection. The caller reads the limiter's clock (`CLOCK_BOOTTIME`)
//! *after* it received a message and before anything is decided, hands the events to the engines
//! of the accounts, and sends the reply first. A [`Violation`] ends the connection; the proxy's
//! next hello names what it holds.

mod end;
mod newest;
mod pod;
mod proxy;
mod violation;

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::clock::SessionClock;
use quotakeeper_engine::event::{Action, Callers, Event, Pulse, SessionId};
use quotakeeper_engine::time::Time;

pub use self::end::SessionEnd;
pub use self::newest::NewestHellos;
pub use self::pod::PodIdentity;
use self::proxy::Proxy;
pub use self::violation::{MOST_CALLS, MOST_ENDED, MOST_QUOTAS, Violation};
use crate::message::{
    AccountIndex, AccountUpdate, Epoch, FingerprintKey, GrantRef, Hello, LimiterMessage, NoticeKind,
    Progress, ProxyMessage, ToLimiter, ToProxy,
};
use crate::name::QuotaName;

/// The parameters of a limiter that every proxy is welcomed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The limiter's incarnation.
    pub epoch: Epoch,
    /// The validity of grants (D): the least of all accounts'.
    pub validity: Duration,
    /// The interval of heartbeats; less than D/2, or a proxy's calls are not granted.
    pub heartbeat: Duration,
    /// The key of the credentials' fingerprints; `None`: credentials are not distinguished.
    pub fingerprint_key: Option<FingerprintKey>,
}

/// The limiter's side of one connection.
#[derive(Clone, Debug)]
pub struct Session {
    greeting: Greeting,
    ledger_since: Epoch,
    clock: SessionClock,
    proxy: Option<Proxy>,
}

impl Session {
    /// A connection that has been accepted.
    pub fn new(greeting: Greeting) -> Session {
        Session { greeting, ledger_since: greeting.epoch, clock: SessionClock::default(), proxy: None }
    }

    /// Sets the incarnation that began the ledger from which this one restarted. Since then, grants have
    /// times of this node's clock; the times of older incarnations have no meaning here.
    #[must_use]
    pub fn with_ledger_since(self, epoch: Epoch) -> Session {
        Session { ledger_since: epoch, ..self }
    }

    /// Who is at the other end; `None` before the hello.
    pub fn id(&self) -> Option<SessionId> {
        self.proxy.as_ref().map(|proxy| proxy.session)
    }

    /// The workload that the proxy names; empty before the hello.
    pub fn consumer(&self) -> &str {
        self.proxy.as_ref().map_or("", |proxy| &proxy.consumer)
    }

    /// The quotas that the proxy draws on, in the order of their indices; empty before the hello.
    pub fn quotas(&self) -> &[QuotaName] {
        self.proxy.as_ref().map_or(&[], |proxy| &proxy.quotas)
    }

    /// What the workload's author should know of an account, by kind: the detail that was seen first.
    pub fn notices(&self, account: AccountIndex) -> impl Iterator<Item = (NoticeKind, &str)> {
        let all = self.proxy.iter().flat_map(|proxy| &proxy.notices);
        all.filter(move |((of, _), _)| *of == account).map(|((_, kind), detail)| (*kind, detail.as_str()))
    }

    /// Handles a message. `now` is the limiter's clock, read after the message was received. The
    /// events are appended for the engines of the accounts named, in order; the reply, if there is
    /// one, is sent before anything that follows from them.
    ///
    /// # Errors
    /// [`Violation`] when the message breaks a rule of the session; then no event is appended, and the
    /// connection should be closed.
    pub fn receive(
        &mut self,
        now: Time,
        message: ToLimiter,
        events: &mut Vec<(AccountIndex, Event)>,
    ) -> Result<Option<ToProxy>, Violation> {
        let stamp = message.stamp;
        let Some(proxy) = &mut self.proxy else {
            let ProxyMessage::Hello(hello) = message.body else {
                return Err(Violation::NoHello);
            };
            violation::check_hello(self.greeting.epoch, stamp, &hello)?;
            let pulse = self.clock.observe(now, stamp);
            self.proxy = Some(self.greet(now, pulse, hello, events));
            return Ok(Some(self.welcome()));
        };
        violation::check(proxy.quotas.len(), stamp, &message.body)?;
        let pulse = self.clock.observe(now, stamp);
        proxy.alive(pulse, events);
        match message.body {
            ProxyMessage::Notice { account, notice } => proxy.notice(account, notice),
            body => proxy.events(now, &self.clock, body, events),
        }
        Ok(None)
    }

    /// The answer to a [`ProxyMessage::Look`], as JSON.
    pub fn outlook(&self, account: AccountIndex, look: u64, document: String) -> ToProxy {
        ToProxy { epoch: self.greeting.epoch, body: LimiterMessage::Outlook { account, look, document } }
    }

    /// The message to the proxy for an action that the engine of `account` decided at `now`; `None` when the
    /// action concerns another session.
    pub fn send(&self, now: Time, account: AccountIndex, action: &Action) -> Option<ToProxy> {
        let proxy = self.proxy.as_ref()?;
        if account.0 as usize >= proxy.quotas.len() {
            return None;
        }
        let body = match action {
            Action::Grant { attempt, echo } if attempt.session == proxy.session => LimiterMessage::Grant {
                account,
                call: attempt.call,
                attempt: attempt.number,
                echo: *echo,
                granted: now,
            },
            Action::Refuse { session, call, reason, retry_after, words } if *session == proxy.session => {
                let (call, reason, retry_after, words) = (*call, *reason, *retry_after, words.clone());
                LimiterMessage::Refuse { account, call, reason, retry_after, words }
            }
            Action::Grant { .. } | Action::Refuse { .. } => return None,
            Action::Paused { callers: Callers::Workload(workload), .. }
            | Action::Resumed { callers: Callers::Workload(workload), .. }
                if *workload != proxy.consumer =>
            {
                return None;
            }
            Action::Paused { scope, until, reason, .. } => {
                let (remaining, reason) = (until.since(now), reason.clone());
                let update = AccountUpdate::Paused { scope: scope.clone(), remaining, reason };
                LimiterMessage::Account { account, update }
            }
            Action::Resumed { scope, paused_for, .. } => {
                let update = AccountUpdate::Resumed { scope: scope.clone(), paused_for: *paused_for };
                LimiterMessage::Account { account, update }
            }
        };
        Some(ToProxy { epoch: self.greeting.epoch, body })
    }

    /// The events for the engines of the accounts when the connection is lost, or replaced by another one of
    /// the same proxy.
    pub fn lost(&self) -> Vec<(AccountIndex, Event)> {
        self.proxy.as_ref().map_or_else(Vec::new, |proxy| {
            proxy.indices().map(|account| (account, Event::Disconnected(proxy.session))).collect()
        })
    }

    fn on_our_clock(&self, grant: GrantRef) -> Option<Time> {
        (grant.epoch >= self.ledger_since).then_some(grant.granted)
    }

    fn welcome(&self) -> ToProxy {
        ToProxy {
            epoch: self.greeting.epoch,
            body: LimiterMessage::Welcome {
                validity: self.greeting.validity,
                heartbeat: self.greeting.heartbeat,
                fingerprint_key: self.greeting.fingerprint_key,
            },
        }
    }

    fn greet(&self, now: Time, pulse: Pulse, hello: Hello, events: &mut Vec<(AccountIndex, Event)>) -> Proxy {
        let proxy = Proxy {
            session: hello.session,
            consumer: hello.consumer,
            quotas: hello.quotas,
            notices: BTreeMap::new(),
        };
        proxy.alive(pulse, events);
        for ended in hello.ended {
            let granted = self.on_our_clock(ended.grant);
            proxy.ended(now, &self.clock, (ended, granted), events);
        }
        for live in hello.calls {
            let granted = match live.progress {
                Progress::Waiting { .. } => None,
                Progress::Granted(grant)
                | Progress::Sent { grant, .. }
                | Progress::Answered { grant, .. } => self.on_our_clock(grant),
            };
            proxy.live(now, &self.clock, (live, granted), events);
        }
        for account in proxy.indices() {
            events.push((account, Event::ResumeDone(proxy.session)));
        }
        proxy
    }
}
