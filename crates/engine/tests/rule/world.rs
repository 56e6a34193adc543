//! An engine with a hand to drive it: asks, reports, and what was said in return.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::config::{
    AccountConfig, CountedAs, LimitConfig, Mode, OnExceeded, Pacing, PauseConfig, QueueConfig, Unit,
};
use quotakeeper_engine::cost::{Amount, Costs, Demand};
use quotakeeper_engine::event::{
    Action, Ask, Attempt, CallClass, CallId, Event, Fingerprint, Observation, Pulse, RefusalReason,
    Rejection, RejectionClass, Reserve, Scope, SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_engine::{Engine, Predecessor, Snapshot};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MS: Duration = Duration::from_millis(1);

/// A call's answer was read to the end, and says nothing of tokens.
pub fn over(attempt: Attempt) -> Event {
    Event::Done { attempt, end: CallEnd::Seen, usage: None }
}

/// A limit of `amount` requests in `seconds`, counted in a way that we don't know.
pub fn limit(name: &str, amount: u64, seconds: u64) -> LimitConfig {
    LimitConfig {
        name: name.to_owned(),
        unit: Unit::Requests,
        amount,
        declared: None,
        model_amounts: BTreeMap::new(),
        window: SECOND * seconds as u32,
        counted_as: CountedAs::Unknown,
        delivery: MS * 300,
        burst: None,
        pacing: Pacing::TokenBucket,
        endpoint: None,
        except_endpoints: Vec::new(),
        models: Vec::new(),
        per_model: false,
        tokens: None,
        period: None,
    }
}

pub fn sliding(name: &str, amount: u64, seconds: u64) -> LimitConfig {
    LimitConfig { counted_as: CountedAs::SlidingWindow, ..limit(name, amount, seconds) }
}

pub fn concurrent(name: &str, amount: u64) -> LimitConfig {
    LimitConfig { unit: Unit::ConcurrentRequests, ..limit(name, amount, 1) }
}

pub fn account(limits: Vec<LimitConfig>) -> AccountConfig {
    AccountConfig {
        mode: Mode::Enforce,
        on_exceeded: OnExceeded::Queue,
        validity: SECOND * 2,
        limits,
        assumed: false,
        extent: Default::default(),
        queue: QueueConfig {
            max_wait: SECOND * 600,
            max_absence: None,
            max_budget_wait: None,
            max_calls: 10_000,
        },
        pause: PauseConfig {
            fallback: SECOND,
            cap: SECOND * 300,
            probe_patience: SECOND * 2,
            max_call: SECOND * 600,
        },
        weights: Default::default(),
        sharing: Default::default(),
        models: Default::default(),
        any_model: Default::default(),
    }
}

/// A limiter whose ledger is lost, of an account that may have been in force for ever.
pub fn predecessor(until: Time) -> Predecessor {
    Predecessor { until, in_force: None }
}

pub struct World {
    pub engine: Engine,
    pub now: Time,
    pub actions: Vec<Action>,
    next: u64,
    /// When sessions 1 to 9 last said something.
    heard: Time,
}

impl World {
    pub fn new(limits: Vec<LimitConfig>) -> World {
        World::of(account(limits))
    }

    pub fn of(config: AccountConfig) -> World {
        let start = Time(3_600_000_000_000);
        World::with(Engine::new(config, start), start)
    }

    pub fn with(engine: Engine, now: Time) -> World {
        World { engine, now, actions: Vec::new(), next: 0, heard: now }
    }

    pub fn tell(&mut self, event: Event) {
        self.engine.handle(self.now, event, &mut self.actions);
    }

    pub fn alive(&mut self, session: u64) {
        let pulse = Pulse { stamp: Stamp(self.now.0), latest: self.now };
        self.tell(Event::Heartbeat { session: SessionId(session), pulse });
    }

    /// Lets `duration` pass, waking the engine whenever it asked for it; sessions 1 to 9 go on
    /// saying that they are alive.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        let beat = SECOND / 2;
        loop {
            let next = self.engine.next_wake().unwrap_or(Time::NEVER).min(self.heard + beat);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if self.now >= self.heard + beat {
                self.heard = self.now;
                (1..10).for_each(|session| self.alive(session));
            }
            self.tell(Event::Wake);
        }
        self.now = end;
        self.tell(Event::Wake);
    }

    pub fn ask_as(
        &mut self,
        session: u64,
        consumer: &str,
        class: CallClass,
        patience: Option<Duration>,
    ) -> CallId {
        self.ask_for(session, consumer, class.into(), patience)
    }

    pub fn ask_for(
        &mut self,
        session: u64,
        consumer: &str,
        demand: Demand,
        patience: Option<Duration>,
    ) -> CallId {
        self.ask_with(session, consumer, demand, Fingerprint::default(), patience)
    }

    /// Each workload has a session of its own.
    pub fn ask_with(
        &mut self,
        session: u64,
        consumer: &str,
        demand: Demand,
        credential: Fingerprint,
        patience: Option<Duration>,
    ) -> CallId {
        self.alive(session);
        self.next += 1;
        let call = CallId(self.next);
        self.tell(Event::Ask(Ask {
            session: SessionId(session),
            call,
            consumer: consumer.into(),
            demand,
            credential,
            patience,
            waited: Duration::ZERO,
            attempts: 0,
        }));
        call
    }

    pub fn ask(&mut self, calls: usize) {
        for _ in 0..calls {
            self.ask_as(1, "job", CallClass::default(), None);
        }
    }

    /// The grants made since the last look.
    pub fn grants(&mut self) -> Vec<Attempt> {
        let (grants, rest): (Vec<_>, Vec<_>) =
            self.actions.drain(..).partition(|action| matches!(action, Action::Grant { .. }));
        self.actions = rest;
        grants
            .into_iter()
            .filter_map(|action| match action {
                Action::Grant { attempt, .. } => Some(attempt),
                _ => None,
            })
            .collect()
    }

    pub fn refusals(&mut self) -> Vec<(RefusalReason, Option<Duration>)> {
        let refusals = self.actions.iter().filter_map(|action| match action {
            Action::Refuse { reason, retry_after, .. } => Some((*reason, *retry_after)),
            _ => None,
        });
        let refusals = refusals.collect();
        self.actions.retain(|action| !matches!(action, Action::Refuse { .. }));
        refusals
    }

    /// The call was written and answered within the same instant.
    pub fn answered(&mut self, attempt: Attempt) {
        self.tell(Event::FirstByte { attempt, latest: self.now, observations: Vec::new() });
        self.tell(over(attempt));
    }

    pub fn answered_with(&mut self, attempt: Attempt, observation: Observation) {
        self.tell(Event::FirstByte { attempt, latest: self.now, observations: vec![observation] });
        self.tell(over(attempt));
    }

    pub fn sent_back(&mut self, attempt: Attempt, scope: Scope, wait: Option<Duration>) {
        let rejection = Rejection {
            shared_with: None,
            organization: None,
            class: RejectionClass::Quota,
            scope,
            wait,
            reason: "TEN_SECONDLY_ROLLING".to_owned(),
        };
        self.tell(Event::Rejected {
            attempt,
            latest: self.now,
            observations: Vec::new(),
            rejection,
            again: true,
        });
    }

    /// The provider rejects the call with this class and wait.
    pub fn rejected(&mut self, attempt: Attempt, class: RejectionClass, wait: Option<Duration>) {
        self.rejected_by(attempt, class, wait, None);
    }

    /// The same; the answer names an organisation.
    pub fn rejected_by(
        &mut self,
        attempt: Attempt,
        class: RejectionClass,
        wait: Option<Duration>,
        organization: Option<Fingerprint>,
    ) {
        let rejection = Rejection {
            class,
            scope: Scope::account(),
            shared_with: None,
            wait,
            reason: "insufficient_quota".to_owned(),
            organization,
        };
        let again = class != RejectionClass::Terminal;
        self.tell(Event::Rejected { attempt, latest: self.now, observations: vec![], rejection, again });
    }

    /// The ledger has what is charged, and a reserve of so much of each limit.
    pub fn commit(&mut self, each: u64) -> (Snapshot, Reserve) {
        self.commit_beyond(Reserve::nothing(self.now), each)
    }

    /// Commits as a limiter does: with what the time before a restart may have been granted.
    pub fn commit_ahead(&mut self, each: u64) -> (Snapshot, Reserve) {
        let unreconciled = self.engine.reserve(self.now, Duration::ZERO);
        self.commit_beyond(unreconciled, each)
    }

    /// The same, beyond what `reserve` has already.
    pub fn commit_beyond(&mut self, reserve: Reserve, each: u64) -> (Snapshot, Reserve) {
        let snapshot = self.engine.snapshot(self.now);
        let mut amounts = reserve.amounts;
        for limit in self.engine.config().limits_in_force() {
            *amounts.entry(limit.name).or_default() += Amount(each);
        }
        let reserve = Reserve { as_of: self.now, amounts, horizon: self.now + MS * 100 };
        self.tell(Event::Committed(reserve.clone()));
        (snapshot, reserve)
    }

    pub fn used(&mut self, name: &str) -> u64 {
        let status = self.engine.status(self.now);
        status.limits.iter().filter(|limit| limit.name == name).map(|limit| limit.used).sum()
    }
}

/// A call of no class that costs so many requests.
pub fn requests(cost: u64) -> Demand {
    let costs = Costs { requests: Amount(cost), ..Costs::default() };
    Demand { costs, ..Demand::default() }
}

pub fn endpoint(name: &str) -> CallClass {
    CallClass { endpoint: Some(name.to_owned()), ..CallClass::default() }
}

pub fn model(name: &str) -> CallClass {
    CallClass { model: Some(name.to_owned()), ..CallClass::default() }
}
