//! Watches that pauses are kept: after a rejection is processed no call of its scope is granted
//! until the provider's time, then one, then more only when that one was not rejected.
//!
//! It sees the messages of both directions and knows true time, nothing of the limiter's insides.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::config::{AccountConfig, PauseConfig};
use quotakeeper_engine::event::{Attempt, CallClass, CallId, Rejection, RejectionClass, Scope, SessionId};
use quotakeeper_engine::name::Consumer;
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_wire::message::{
    AccountUpdate, Ending, Hello, LimiterMessage, Progress, ProxyMessage, Report,
};

use crate::history::History;
use crate::provider::in_scope;

/// What one limiter has received of pauses, and of calls that they hold.
#[derive(Debug)]
pub(crate) struct PauseWatch {
    config: PauseConfig,
    classes: BTreeMap<(SessionId, CallId), CallClass>,
    closed: BTreeMap<Scope, Closed>,
    /// Scopes that the message being processed closes. Grants that are sent before the pause is
    /// announced were decided before it.
    closing: Vec<(Scope, Time)>,
    consumers: BTreeMap<SessionId, Consumer>,
    /// The workload that was rejected last, since when it alone is, and for how long it was told to wait in all.
    last_word: Option<(Consumer, Time, Duration)>,
}

/// The longest pause that binds everyone on the word of one workload …
const WITHOUT_WITNESS: Duration = Duration::from_secs(60);
/// … and how long all of them together do so, while no other is rejected …
const IN_A_ROW: Duration = Duration::from_secs(180);
/// … within this time.
const ROW: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Closed {
    until: Time,
    probe: Option<(Attempt, Time)>,
}

impl PauseWatch {
    pub(crate) fn new(config: &AccountConfig) -> PauseWatch {
        PauseWatch {
            config: config.pause,
            classes: BTreeMap::new(),
            closed: BTreeMap::new(),
            closing: Vec::new(),
            consumers: BTreeMap::new(),
            last_word: None,
        }
    }

    /// The limiter has processed a message. `limiter_time`: what its clock showed at a proxy's stamp.
    pub(crate) fn receives(
        &mut self,
        now: Time,
        session: SessionId,
        message: &ProxyMessage,
        limiter_time: impl Fn(Stamp) -> Time,
    ) {
        match message {
            ProxyMessage::Hello(hello) => self.hello(now, hello, limiter_time),
            ProxyMessage::Heartbeat { .. } | ProxyMessage::Notice { .. } | ProxyMessage::Look { .. } => {}
            ProxyMessage::Ask { call, details, .. } => {
                // A call that is asked for again has lost its grant.
                self.withdraw(session, *call);
                self.classes.insert((session, *call), details.class.clone());
            }
            ProxyMessage::Cancel { call, .. } => {
                self.withdraw(session, *call);
                self.classes.remove(&(session, *call));
            }
            ProxyMessage::Report { call, attempt, report, .. } => {
                let attempt = Attempt { session, call: *call, number: *attempt };
                match report {
                    Report::Unused { .. } => self.withdraw(session, *call),
                    Report::Sent { .. } => {}
                    Report::FirstByte { .. } => self.answered(attempt),
                    Report::Rejected { at, rejection, .. } => {
                        self.rejected(now, attempt, limiter_time(*at), rejection);
                    }
                    Report::Done { .. } => self.done(attempt),
                }
            }
        }
    }

    fn hello(&mut self, now: Time, hello: &Hello, limiter_time: impl Fn(Stamp) -> Time) {
        let session = hello.session;
        self.consumers.insert(session, hello.consumer.clone());
        for ended in &hello.ended {
            let attempt = Attempt { session, call: ended.call, number: ended.grant.attempt };
            self.classes.insert((session, ended.call), ended.details.class.clone());
            match &ended.ending {
                Ending::Unused => self.withdraw(session, ended.call),
                Ending::Sent { .. } => self.done(attempt),
                Ending::Answered { .. } => {
                    self.answered(attempt);
                    self.done(attempt);
                }
                Ending::Rejected { at, rejection, .. } => {
                    self.rejected(now, attempt, limiter_time(*at), rejection);
                }
            }
        }
        for live in &hello.calls {
            if let Progress::Waiting { .. } = live.progress {
                self.withdraw(session, live.call);
            }
            self.classes.insert((session, live.call), live.details.class.clone());
            if let Progress::Answered { grant, .. } = live.progress {
                self.answered(Attempt { session, call: live.call, number: grant.attempt });
            }
        }
    }

    fn rejected(&mut self, now: Time, attempt: Attempt, at: Time, rejection: &Rejection) {
        if rejection.class != RejectionClass::Quota {
            return;
        }
        self.answered(attempt);
        // Without a time nothing can be held against the engine's own.
        let Some(wait) = rejection.wait else { return };
        let until = at + wait.min(self.config.cap);
        // Repeated by a hello, after its time: old news closes nothing. What is longer than a minute binds the others
        // on the word of a second workload alone.
        if until > now && wait <= WITHOUT_WITNESS && self.binds_everyone(now, attempt.session, wait) {
            self.closing.push((rejection.scope.clone(), until));
        }
    }

    /// Whether a pause of this length surely binds everyone, on the word of the workload of this session.
    fn binds_everyone(&mut self, now: Time, session: SessionId, wait: Duration) -> bool {
        let Some(by) = self.consumers.get(&session) else { return true };
        let last = self.last_word.take().filter(|(last, since, _)| last == by && now.since(*since) <= ROW);
        let (_, since, told) = last.unwrap_or_else(|| (by.clone(), now, Duration::ZERO));
        let told = told + wait;
        self.last_word = Some((by.clone(), since, told));
        told <= IN_A_ROW
    }

    /// What this call has asked is answered.
    fn answered(&mut self, attempt: Attempt) {
        self.closed.retain(|_, closed| closed.probe.is_none_or(|(probe, _)| probe != attempt));
    }

    /// The call asks nothing of the provider any more.
    fn withdraw(&mut self, session: SessionId, call: CallId) {
        for closed in self.closed.values_mut() {
            closed.probe = closed.probe.filter(|(probe, _)| (probe.session, probe.call) != (session, call));
        }
    }

    fn done(&mut self, attempt: Attempt) {
        self.withdraw(attempt.session, attempt.call);
        self.classes.remove(&(attempt.session, attempt.call));
    }

    pub(crate) fn pod_deleted(&mut self, session: SessionId) {
        self.classes.retain(|(of, _), _| *of != session);
    }

    /// The limiter sends a message to this session.
    pub(crate) fn sends(
        &mut self,
        now: Time,
        session: SessionId,
        message: &LimiterMessage,
        history: &mut History,
    ) {
        match message {
            LimiterMessage::Account { update: AccountUpdate::Paused { scope, .. }, .. } => {
                let (closing, later) =
                    std::mem::take(&mut self.closing).into_iter().partition(|(closing, _)| closing == scope);
                self.closing = later;
                self.close(now, closing);
            }
            LimiterMessage::Grant { call, attempt, .. } => {
                self.granted(now, Attempt { session, call: *call, number: *attempt }, history);
            }
            _ => {}
        }
    }

    /// Everything that followed from a message has been sent.
    pub(crate) fn batch_ends(&mut self, now: Time) {
        let closing = std::mem::take(&mut self.closing);
        self.close(now, closing);
    }

    fn close(&mut self, now: Time, closing: Vec<(Scope, Time)>) {
        for (scope, until) in closing {
            let closed = self.closed.entry(scope).or_insert(Closed { until: now, probe: None });
            closed.until = closed.until.max(until);
            closed.probe = None;
        }
    }

    fn granted(&mut self, now: Time, attempt: Attempt, history: &mut History) {
        let patience = self.config.probe_patience;
        self.closed.retain(|_, closed| closed.probe.is_none_or(|(_, since)| since + patience > now));
        let class = self.classes.get(&(attempt.session, attempt.call));
        for (scope, closed) in &mut self.closed {
            if !class.is_some_and(|class| in_scope(scope, class)) {
                continue;
            }
            if now < closed.until {
                history.problem("a call was granted while its scope was paused");
            } else if closed.probe.is_some() {
                history.problem("a second probe was sent before the first was answered");
            }
            closed.probe = Some((attempt, now));
        }
    }
}
