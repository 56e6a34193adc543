//! The engine, driven as the limiter drives it: every message of a proxy is a sign of life and
//! what it says; a timer wakes the engine when it asked for it.
//!
//! Time is made up, so that accounts of real sizes are full without waiting for them. Where calls
//! wait, each consumer has one waiting; when its call is over it asks for the next.

use std::time::Duration;

use anyhow::{Context, ensure};
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{
    AccountConfig, Charged, CountedAs, LimitConfig, Mode, ModelFacts, ModelPrices, NANODOLLARS, OnExceeded,
    Pacing, PauseConfig, QueueConfig, Reserving, TokenLimit, TokenRates, Unit,
};
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{Action, Ask, Attempt, CallId, Event, Fingerprint, Pulse, SessionId};
use quotakeeper_engine::name::Consumer;
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

use crate::rounds::Contestant;

/// Flows that wait.
pub const FLOWS: u64 = 1_000;
/// Proxies that the flows come through. With more of them heartbeats would outnumber calls, and
/// those are measured apart.
const SESSIONS: u64 = 8;
/// Half of the rate that the account's smallest limit allows.
const PAUSE_BETWEEN: Duration = Duration::from_millis(12);
/// Wakes without a grant after which something is wrong.
const IDLE_WAKES: u32 = 1_000;

/// Which account is driven.
#[derive(Clone, Copy, Debug)]
pub enum Account {
    /// 10,000 calls in a minute.
    OneLimit,
    /// The same, 2,000 in ten seconds, 250 in a second, and 64 at a time.
    FourLimits,
    /// 10,000 calls, 4,000,000 tokens of input and 1,400,000 of output in a minute, which they nearly use, 256 calls at
    /// a time, and a million dollars a month.
    Tokens,
}

impl Account {
    /// What its engine is told.
    pub fn config(self) -> AccountConfig {
        let mut limits = vec![window("minute", 10_000, 60)];
        let concurrency =
            |calls| LimitConfig { unit: Unit::ConcurrentRequests, ..window("concurrency", calls, 1) };
        match self {
            Account::OneLimit => {}
            Account::FourLimits => {
                limits.push(window("ten-seconds", 2_000, 10));
                limits.push(window("second", 250, 1));
                limits.push(concurrency(64));
            }
            Account::Tokens => limits.extend([concurrency(256), input(), output(), budget()]),
        }
        AccountConfig {
            mode: Mode::Enforce,
            on_exceeded: OnExceeded::Queue,
            validity: Duration::from_secs(2),
            limits,
            assumed: false,
            extent: Default::default(),
            queue: QueueConfig {
                max_wait: Duration::from_secs(36_000),
                max_absence: None,
                max_budget_wait: None,
                max_calls: 1_000_000,
            },
            pause: PauseConfig {
                fallback: Duration::from_secs(1),
                cap: Duration::from_secs(300),
                probe_patience: Duration::from_secs(2),
                max_call: Duration::from_secs(600),
            },
            weights: Default::default(),
            sharing: Default::default(),
            models: Default::default(),
            any_model: ModelFacts {
                max_call: None,
                max_output: Some(4_096),
                context: Some(128_000),
                prices: Some(ModelPrices { tokens: PRICES, call: 0 }),
            },
        }
    }

    /// What a call draws.
    fn demand(self) -> Demand {
        let size = CallSize { text_bytes: 1_200, max_output: Some(1_000), choices: 1, ..CallSize::default() };
        let size = matches!(self, Account::Tokens).then_some(size);
        Demand { size, ..Demand::default() }
    }

    /// What a call has used.
    fn usage(self) -> Option<TokenUsage> {
        let usage = TokenUsage { input: 300, output: 100, exact: true, ..TokenUsage::default() };
        matches!(self, Account::Tokens).then_some(usage)
    }
}

/// Picodollars a token: $2.50 and $10 a million.
const PRICES: TokenRates =
    TokenRates { input: 2_500_000, cached: 1_250_000, cache_write: 2_500_000, output: 10_000_000 };

/// A limit of tokens that holds what such calls use.
fn tokens(name: &str, unit: Unit, amount: u64, charged: Charged, rates: TokenRates) -> LimitConfig {
    let tokens = TokenLimit { charged, arrival: None, rates, reserving: Reserving::Learned };
    LimitConfig { unit, counted_as: CountedAs::TokenBucket, tokens: Some(tokens), ..window(name, amount, 60) }
}

fn input() -> LimitConfig {
    let rates = TokenRates { input: 1, cached: 1, cache_write: 1, output: 0 };
    tokens("input", Unit::InputTokens, 4_000_000, Charged::Settled, rates)
}

fn output() -> LimitConfig {
    let rates = TokenRates { output: 1, ..TokenRates::default() };
    tokens("output", Unit::OutputTokens, 1_400_000, Charged::AsProduced, rates)
}

fn budget() -> LimitConfig {
    let tokens = TokenLimit {
        charged: Charged::Settled,
        arrival: None,
        rates: TokenRates::default(),
        reserving: Reserving::Bound,
    };
    LimitConfig {
        unit: Unit::Dollars,
        counted_as: CountedAs::FixedWindow,
        tokens: Some(tokens),
        ..window("budget", 1_000_000 * NANODOLLARS, 31 * 86_400)
    }
}

fn window(name: &str, amount: u64, seconds: u64) -> LimitConfig {
    LimitConfig {
        name: name.to_owned(),
        unit: Unit::Requests,
        amount,
        declared: None,
        model_amounts: Default::default(),
        window: Duration::from_secs(seconds),
        counted_as: CountedAs::Unknown,
        delivery: Duration::from_millis(300),
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

/// An engine with a clock, and the proxies around it.
pub struct Driven {
    account: Account,
    engine: Engine,
    now: Time,
    actions: Vec<Action>,
    asked: u64,
    /// A connection has its consumer's name once.
    consumers: Vec<Consumer>,
}

impl Driven {
    /// A fresh engine of the account, with proxies that hold no calls from before.
    pub fn new(account: Account) -> Driven {
        let now = Time(3_600_000_000_000);
        let consumers = (0..FLOWS).map(|number| consumer_name(number).into()).collect();
        let engine = Engine::new(account.config(), now);
        let mut driven = Driven { account, engine, now, actions: Vec::new(), asked: 0, consumers };
        (0..SESSIONS).map(SessionId).for_each(|session| driven.says(session, Event::ResumeDone(session)));
        driven
    }

    /// A message of a proxy.
    fn says(&mut self, session: SessionId, event: Event) {
        self.alive(session);
        self.engine.handle(self.now, event, &mut self.actions);
    }

    fn alive(&mut self, session: SessionId) {
        let pulse = Pulse { stamp: Stamp(self.now.0), latest: self.now };
        self.engine.handle(self.now, Event::Heartbeat { session, pulse }, &mut self.actions);
    }

    /// A call of this consumer, by its number.
    pub fn ask(&mut self, consumer: u64) {
        self.asked += 1;
        // The call's number tells its consumer.
        let call = CallId(self.asked * FLOWS + consumer);
        let session = SessionId(consumer % SESSIONS);
        let ask = Ask {
            session,
            call,
            consumer: self.consumers[consumer as usize].clone(),
            demand: self.account.demand(),
            credential: Fingerprint::default(),
            patience: None,
            waited: Duration::ZERO,
            attempts: 0,
        };
        self.says(session, Event::Ask(ask));
    }

    /// The call was written and answered, and is over.
    fn answered(&mut self, attempt: Attempt) {
        let first_byte = Event::FirstByte { attempt, latest: self.now, observations: Vec::new() };
        self.says(attempt.session, first_byte);
        self.says(attempt.session, Event::Done { attempt, end: CallEnd::Seen, usage: self.account.usage() });
    }

    /// Calls that wait.
    ///
    /// # Errors
    /// When the account has no limits.
    pub fn waiting(&mut self) -> anyhow::Result<u64> {
        let status = self.engine.status(self.now);
        status.limits.iter().map(|limit| limit.waiting).min().context("the account has no limits")
    }

    fn granted(&mut self) -> anyhow::Result<Option<Attempt>> {
        match self.actions.pop() {
            Some(Action::Grant { attempt, .. }) => Ok(Some(attempt)),
            Some(other) => anyhow::bail!("the engine wants {other:?}, where only grants can be"),
            None => Ok(None),
        }
    }

    /// Lets time pass until the engine grants something.
    fn next_grant(&mut self) -> anyhow::Result<Attempt> {
        for _ in 0..IDLE_WAKES {
            if let Some(attempt) = self.granted()? {
                return Ok(attempt);
            }
            self.now = self.now.max(self.engine.next_wake().context("calls wait, and no wake is set")?);
            // All proxies are heard more often than a grant needs: with every message.
            self.alive(SessionId(self.asked % SESSIONS));
            self.engine.handle(self.now, Event::Wake, &mut self.actions);
        }
        anyhow::bail!("the engine was woken {IDLE_WAKES} times and granted nothing")
    }
}

/// As long as the names of real workloads.
pub fn consumer_name(number: u64) -> String {
    format!("marketing/enrich-contacts-{number:04}")
}

/// Calls that are granted as they come.
pub struct Uncontended(Driven);

impl Uncontended {
    /// A fresh engine.
    pub fn new(account: Account) -> Uncontended {
        Uncontended(Driven::new(account))
    }
}

impl Contestant for Uncontended {
    fn run(&mut self, times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            self.0.now += PAUSE_BETWEEN;
            self.0.ask(0);
            let attempt = self.0.granted()?.context("a call waited where nothing is in its way")?;
            self.0.answered(attempt);
        }
        Ok(())
    }
}

/// Calls whose turn comes after a thousand others.
pub struct Saturated(Driven);

impl Saturated {
    /// An engine that has granted all it may, and a call of each flow that waits.
    ///
    /// # Errors
    /// When calls do not wait.
    pub fn new(account: Account) -> anyhow::Result<Saturated> {
        let mut driven = Driven::new(account);
        (0..FLOWS).for_each(|consumer| driven.ask(consumer));
        let mut saturated = Saturated(driven);
        saturated.run(2 * FLOWS)?;
        let waiting = saturated.0.waiting()?;
        let outstanding = saturated.0.actions.len() as u64;
        ensure!(waiting + outstanding == FLOWS, "{waiting} calls wait and {outstanding} are granted");
        Ok(saturated)
    }
}

impl Contestant for Saturated {
    fn run(&mut self, times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            let attempt = self.0.next_grant()?;
            self.0.answered(attempt);
            self.0.ask(attempt.call.0 % FLOWS);
        }
        Ok(())
    }
}

/// Signs of life while a thousand flows wait.
pub struct Heartbeats(Saturated);

impl Heartbeats {
    /// As [`Saturated::new`].
    ///
    /// # Errors
    /// When calls do not wait.
    pub fn new(account: Account) -> anyhow::Result<Heartbeats> {
        let mut saturated = Saturated::new(account)?;
        // What was granted in one go is worked off: from here on nothing may be granted.
        while let Some(attempt) = saturated.0.granted()? {
            saturated.0.answered(attempt);
        }
        Ok(Heartbeats(saturated))
    }
}

impl Contestant for Heartbeats {
    fn run(&mut self, times: u64) -> anyhow::Result<()> {
        for number in 0..times {
            self.0.0.alive(SessionId(number % SESSIONS));
        }
        ensure!(self.0.0.actions.is_empty(), "a heartbeat led to a grant");
        Ok(())
    }
}
