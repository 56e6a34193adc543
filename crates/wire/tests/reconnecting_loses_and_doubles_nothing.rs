//! Two sessions and a limiter of few words, on links that break at any moment: whatever happens,
//! a grant is written at most once and in time, and every call ends exactly once.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::event::{
    Action, Attempt, CallClass, CallId, Event, Rejection, RejectionClass, ResumedGrant, Scope, SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::message::{AccountIndex, Epoch, ToLimiter, ToProxy};
use quotakeeper_wire::proxy::{Identity, SessionEvent};
use quotakeeper_wire::{limiter, proxy};

const ACCOUNT: AccountIndex = AccountIndex(0);
const D: Duration = Duration::from_secs(2);
/// The proxy's clock began an hour before the limiter's.
const OFFSET: u64 = 3_600_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Ask,
    Write(usize),
    WriteSlowly(usize, u64),
    GiveBack(usize, bool),
    FirstByte(usize),
    Reject(usize, bool),
    End(usize),
    Grant(usize),
    Up(usize),
    Down(usize),
    Lose,
    Connect,
    Takeover,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..6;
    prop_oneof![
        3 => (1u64..3000).prop_map(Step::Pass),
        4 => Just(Step::Ask),
        4 => which.clone().prop_map(Step::Write),
        1 => (which.clone(), 1u64..5000).prop_map(|(call, ms)| Step::WriteSlowly(call, ms)),
        1 => (which.clone(), any::<bool>()).prop_map(|(call, again)| Step::GiveBack(call, again)),
        3 => which.clone().prop_map(Step::FirstByte),
        2 => (which.clone(), any::<bool>()).prop_map(|(call, again)| Step::Reject(call, again)),
        3 => which.clone().prop_map(Step::End),
        6 => which.prop_map(Step::Grant),
        6 => (1usize..6).prop_map(Step::Up),
        6 => (1usize..6).prop_map(Step::Down),
        1 => Just(Step::Lose),
        2 => Just(Step::Connect),
        1 => Just(Step::Takeover),
    ]
}

/// What a limiter knows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Waiting { attempts: u32 },
    Granted { number: u32 },
}

/// A limiter that grants what the test wants, and trusts every message.
struct Limiter {
    epoch: u64,
    session: Option<limiter::Session>,
    known: BTreeMap<CallId, Known>,
    /// Grants that a hello has named since it began.
    listed: BTreeSet<CallId>,
    echo: Stamp,
}

impl Limiter {
    fn new(epoch: u64) -> Limiter {
        Limiter { epoch, session: None, known: BTreeMap::new(), listed: BTreeSet::new(), echo: Stamp(0) }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Heartbeat { pulse, .. } => self.echo = self.echo.max(pulse.stamp),
            Event::Ask(ask) => {
                let before = match self.known.get(&ask.call) {
                    Some(Known::Waiting { attempts: had } | Known::Granted { number: had }) => *had,
                    None => 0,
                };
                let attempts = ask.attempts.max(before);
                self.known.insert(ask.call, Known::Waiting { attempts });
            }
            Event::Cancel { call, .. } => {
                if let Some(Known::Waiting { .. }) = self.known.get(&call) {
                    self.known.remove(&call);
                }
            }
            Event::Unused { attempt, again } => self.end(attempt, again),
            Event::Rejected { attempt, again, .. } => self.end(attempt, again),
            Event::Done { attempt, .. } => self.end(attempt, false),
            Event::Sent { .. } | Event::FirstByte { .. } => {}
            Event::ResumeGrant(ResumedGrant { attempt, .. }) => {
                let number = attempt.number;
                let newer = match self.known.get(&attempt.call) {
                    Some(Known::Waiting { attempts: had } | Known::Granted { number: had }) => number >= *had,
                    None => true,
                };
                if newer {
                    self.known.insert(attempt.call, Known::Granted { number });
                    self.listed.insert(attempt.call);
                }
            }
            Event::ResumeDone(_) => {
                let listed = std::mem::take(&mut self.listed);
                self.known
                    .retain(|call, known| matches!(known, Known::Waiting { .. }) || listed.contains(call));
            }
            Event::Disconnected(_) => {
                self.known.retain(|_, known| matches!(known, Known::Granted { .. }));
            }
            other => panic!("a session does not send {other:?}"),
        }
    }

    fn end(&mut self, attempt: Attempt, again: bool) {
        let number = attempt.number;
        if self.known.get(&attempt.call) == Some(&Known::Granted { number }) {
            if again {
                let waiting = Known::Waiting { attempts: number };
                self.known.insert(attempt.call, waiting);
            } else {
                self.known.remove(&attempt.call);
            }
        }
    }
}

struct World {
    now: u64,
    proxy: proxy::Session,
    limiter: Limiter,
    up: VecDeque<ToLimiter>,
    down: VecDeque<ToProxy>,
    /// Grants of lost connections, delivered all the same.
    stragglers: Vec<ToProxy>,
    /// Calls that the proxy's callers care for.
    live: Vec<CallId>,
    asked: usize,
    ended: usize,
    /// Grants on their way and accepted, by what makes them one grant.
    written: BTreeSet<(u64, CallId, u32)>,
    granted: BTreeMap<CallId, (u64, u32, Stamp)>,
}

impl World {
    fn new() -> World {
        let identity = Identity {
            session: SessionId(1),
            consumer: "team/job".into(),
            quotas: vec!["demo/one".into()],
            max_calls: 64,
        };
        World {
            now: 1_000_000_000,
            proxy: proxy::Session::new(identity),
            limiter: Limiter::new(1),
            up: VecDeque::new(),
            down: VecDeque::new(),
            stragglers: Vec::new(),
            live: Vec::new(),
            asked: 0,
            ended: 0,
            written: BTreeSet::new(),
            granted: BTreeMap::new(),
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp(self.now + OFFSET)
    }

    fn pick(&self, index: usize) -> Option<CallId> {
        self.live.get(index % self.live.len().max(1)).copied()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(ms) => self.pass(ms),
            Step::Ask => {
                let (now, class) = (self.stamp(), CallClass::default());
                if let Ok(call) = self.proxy.ask(now, ACCOUNT, class, None) {
                    self.live.push(call);
                    self.asked += 1;
                }
            }
            Step::Write(index) => self.write(index, 0),
            Step::WriteSlowly(index, ms) => self.write(index, ms),
            Step::GiveBack(index, again) => {
                if let Some(call) = self.pick(index) {
                    let before = self.proxy.granted_until(call).is_some();
                    self.proxy.give_back(self.stamp(), call, again);
                    if before && !again {
                        self.forget(call);
                    }
                }
            }
            Step::FirstByte(index) => {
                if let Some(call) = self.pick(index) {
                    self.proxy.first_byte(self.stamp(), call, Vec::new());
                }
            }
            Step::Reject(index, again) => {
                if let Some(call) = self.pick(index) {
                    let rejection = Rejection {
                        shared_with: None,
                        organization: None,
                        class: RejectionClass::Quota,
                        scope: Scope::account(),
                        wait: None,
                        reason: "429".to_owned(),
                    };
                    let before = self.proxy.len();
                    let now = self.stamp();
                    self.proxy.rejected(now, call, Vec::new(), rejection, again);
                    if self.proxy.len() < before {
                        self.forget(call);
                    }
                }
            }
            Step::End(index) => {
                if let Some(call) = self.pick(index) {
                    self.proxy.done(self.stamp(), call, CallEnd::Seen, None);
                    self.forget(call);
                }
            }
            Step::Grant(index) => self.grant(index),
            Step::Up(count) => {
                self.queue();
                for _ in 0..count {
                    self.deliver_up();
                }
            }
            Step::Down(count) => {
                for _ in 0..count {
                    self.deliver_down();
                }
            }
            Step::Lose => self.lose(),
            Step::Connect => self.connect(),
            Step::Takeover => {
                self.lose();
                self.limiter = Limiter::new(self.limiter.epoch + 1);
            }
        }
    }

    fn forget(&mut self, call: CallId) {
        self.live.retain(|&live| live != call);
        self.ended += 1;
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms * 1_000_000;
        self.proxy.wake(self.stamp());
    }

    fn write(&mut self, index: usize, stall: u64) {
        let Some(call) = self.pick(index) else { return };
        let now = self.stamp();
        if self.proxy.may_write(now, call) {
            let (epoch, number, echo) = self.granted[&call];
            assert!(now <= echo + D, "{call:?} written after echo + D");
            assert_eq!(Epoch(epoch), self.proxy.newest(), "an older limiter's grant");
            assert!(self.written.insert((epoch, call, number)), "{call:?} attempt {number} written twice");
            self.now += stall * 1_000_000;
            self.proxy.wrote(self.stamp(), call);
        }
    }

    fn grant(&mut self, index: usize) {
        let waiting: Vec<(CallId, u32)> = self
            .limiter
            .known
            .iter()
            .filter_map(|(&call, known)| match known {
                Known::Waiting { attempts } => Some((call, *attempts)),
                Known::Granted { .. } => None,
            })
            .collect();
        let Some(&(call, attempts)) = waiting.get(index % waiting.len().max(1)) else {
            return;
        };
        let Some(session) = &self.limiter.session else {
            return;
        };
        let attempt = Attempt { session: SessionId(1), call, number: attempts + 1 };
        let echo = self.limiter.echo;
        let action = Action::Grant { attempt, echo };
        self.down.push_back(session.send(Time(self.now), ACCOUNT, &action).unwrap());
        let number = attempts + 1;
        self.limiter.known.insert(call, Known::Granted { number });
    }

    fn queue(&mut self) {
        while let Some(message) = self.proxy.next_message(Stamp(self.now + OFFSET)) {
            self.up.push_back(message);
        }
    }

    fn deliver_up(&mut self) {
        let (Some(session), Some(message)) = (&mut self.limiter.session, self.up.pop_front()) else {
            return;
        };
        let mut events = Vec::new();
        let reply = session.receive(Time(self.now), message, &mut events).unwrap();
        self.down.extend(reply);
        for (account, event) in events {
            assert_eq!(account, ACCOUNT);
            self.limiter.apply(event);
        }
    }

    fn deliver_down(&mut self) {
        if let Some(straggler) = self.stragglers.pop() {
            self.receive(straggler);
        }
        if let Some(message) = self.down.pop_front() {
            self.receive(message);
        }
    }

    fn receive(&mut self, message: ToProxy) {
        let grant = match &message.body {
            quotakeeper_wire::message::LimiterMessage::Grant { attempt, echo, .. } => {
                Some((message.epoch.0, *attempt, *echo))
            }
            _ => None,
        };
        if let Some(SessionEvent::Granted { call }) = self.proxy.receive(self.stamp(), message) {
            self.granted.insert(call, grant.unwrap());
        }
    }

    fn lose(&mut self) {
        if let Some(session) = self.limiter.session.take() {
            for (_, event) in session.lost() {
                self.limiter.apply(event);
            }
        }
        self.proxy.disconnected();
        self.up.clear();
        self.stragglers.extend(self.down.drain(..));
    }

    fn connect(&mut self) {
        self.lose();
        // No connection is made in less than a nanosecond.
        self.now += 1;
        let greeting = limiter::Greeting {
            epoch: Epoch(self.limiter.epoch),
            validity: D,
            heartbeat: Duration::from_millis(500),
            fingerprint_key: None,
        };
        self.limiter.session = Some(limiter::Session::new(greeting));
        self.proxy.connected();
    }

    fn settle(&mut self) {
        self.queue();
        while !self.up.is_empty() {
            self.deliver_up();
        }
        while !self.down.is_empty() {
            self.deliver_down();
        }
    }

    /// A connection stands, everything arrives, every call is granted, written, answered.
    fn finish(&mut self) {
        self.connect();
        self.settle();
        for _ in 0..4 {
            let waiting = self.limiter.known.len();
            for _ in 0..waiting {
                self.grant(0);
            }
            self.settle();
            for index in (0..self.live.len()).rev() {
                self.write(index, 0);
                let call = self.live[index];
                self.proxy.first_byte(self.stamp(), call, Vec::new());
                // What neither waits nor was returned is over.
                if self.proxy.granted_until(call).is_none()
                    && self.granted.contains_key(&call)
                    && self.is_written(call)
                {
                    self.proxy.done(self.stamp(), call, CallEnd::Seen, None);
                    self.forget(call);
                }
            }
            self.settle();
        }
    }

    fn is_written(&self, call: CallId) -> bool {
        let (epoch, number, _) = self.granted[&call];
        self.written.contains(&(epoch, call, number))
            // A call that was sent back waits: its waiting time goes on.
            && self.proxy.waited(Stamp(u64::MAX), call) == self.proxy.waited(Stamp(0), call)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_call_ends_once_and_no_grant_is_written_twice(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        world.connect();
        for step in steps {
            world.take(step);
        }
        world.finish();
        prop_assert_eq!(&world.live, &Vec::<CallId>::new(), "calls that never ended");
        prop_assert!(world.proxy.is_empty());
        prop_assert_eq!(world.asked, world.ended);
        prop_assert_eq!(&world.limiter.known, &BTreeMap::new(), "the limiter holds what is over");
    }
}
