//! Workers take one record after the other and make its calls; the engines of the accounts say when each may be sent.
//!
//! Time is simulated, and each engine is driven as a limiter drives it: a message of a session is a sign of life and what
//! it says, and a timer wakes the engine when it asked for it.

mod records;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quotakeeper_dialects::calendar::Calendar;
use quotakeeper_engine::Engine;
use quotakeeper_engine::config::{AccountConfig, Mode, OnExceeded, QueueConfig};
use quotakeeper_engine::event::{
    Action, Ask, Attempt, CallId, Event, Fingerprint, PeriodBegun, Pulse, SessionId, StatedUse,
};
use quotakeeper_engine::name::Consumer;
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_wire::account::{CompiledAccount, calendar};

use crate::campaign::{Call, Campaign};
use crate::scale::Scale;
use records::Records;

/// No campaign is looked at for longer.
pub(crate) const HORIZON: Duration = Duration::from_secs(400 * 86_400);
/// What is simulated of one at most: some seconds of computing.
const MOST_STEPS: u64 = 5_000_000;
/// When it begins, on the engines' clock: periods have begun before.
const START: Time = Time(800 * 86_400 * 1_000_000_000);
/// The only session of each engine.
const SESSION: SessionId = SessionId(1);
/// How old a session's last sign of life may be. Nobody is silent here; of a real limiter's few seconds an engine would
/// be woken each second, for as long as a call waits.
const VALIDITY: Duration = Duration::from_secs(240);
/// Calls of another load that are under way or wait; further ones are not made, as its clients would give up.
const MOST_OF_OTHERS: u64 = 1_000;

/// How a campaign went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All records are done.
    Done {
        /// After so long.
        after: Duration,
        /// How many calls were under way on an average.
        under_way: u64,
        /// How long a call has waited for its grant at most, by account.
        waits: Vec<Duration>,
    },
    /// They never are; a sentence says why.
    Never(String),
}

/// Plays a campaign with so many workers.
pub(crate) fn play(campaign: &Campaign, accounts: &[CompiledAccount], workers: u64) -> Outcome {
    let mut world = World::new(campaign, accounts, Scale::of(campaign, accounts, workers));
    world.begin();
    for _ in 0..MOST_STEPS {
        if let Some(outcome) = world.over() {
            return outcome;
        }
        if !world.step() {
            return Outcome::Never("no call is under way any more, and none may be sent".to_owned());
        }
    }
    Outcome::Never(
        "it has too many calls, with those of others, to be played in simulated time; plan a part of it"
            .to_owned(),
    )
}

pub(crate) fn not_within_the_horizon() -> String {
    format!("it is not done within {} days", HORIZON.as_secs() / 86_400)
}

/// What happens at a time that is known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// The answer to a call has ended.
    Answered(u64),
    /// Another load makes a call.
    OtherCalls(usize),
    /// A limit's period begins.
    Period(usize),
}

/// A call that is not over.
struct Running {
    of: Whose,
    asked: Time,
    attempt: Option<Attempt>,
}

#[derive(Clone, Copy)]
enum Whose {
    Worker { worker: usize, step: usize },
    Other(usize),
}

/// The open period of a limit.
struct Open {
    account: usize,
    limit: String,
    calendar: Calendar,
}

struct World {
    campaign: Campaign,
    start: Timestamp,
    engines: Vec<Engine>,
    /// The campaign's workload, and those of the other loads.
    consumer: Consumer,
    others: Vec<Consumer>,
    periods: Vec<Open>,
    /// What is known of the accounts at the beginning.
    known: Vec<(usize, Event)>,
    records: Records,
    now: Time,
    agenda: BinaryHeap<Reverse<(Time, u64, Happens)>>,
    /// Counts what is put on the agenda, so that what comes at the same time comes in that order.
    added: u64,
    calls: u64,
    running: HashMap<u64, Running>,
    of_others: Vec<u64>,
    actions: Vec<Action>,
    never: Option<String>,
    /// The longest wait of the campaign's own calls, by account.
    waits: Vec<Duration>,
    /// Calls under way, times the nanoseconds that they were.
    busy: u128,
    under_way: u64,
    factor: u64,
}

impl World {
    fn new(campaign: &Campaign, accounts: &[CompiledAccount], scale: Scale) -> World {
        let mut campaign = campaign.clone();
        for step in &mut campaign.steps {
            step.call = scale.call(&step.call);
        }
        for other in &mut campaign.others {
            other.call = scale.call(&other.call);
        }
        let engines = accounts.iter().map(|account| engine(account, scale)).collect();
        let mut periods = Vec::new();
        for (index, account) in accounts.iter().enumerate() {
            for limit in account.engine.limits_in_force() {
                let Some(calendar) = limit.period.as_ref().and_then(calendar) else { continue };
                periods.push(Open { account: index, limit: limit.name, calendar });
            }
        }
        let others = (0..campaign.others.len()).map(|other| format!("others/{other}").into()).collect();
        let records = campaign.records.div_ceil(scale.factor);
        World {
            start: campaign.start,
            engines,
            consumer: "campaign".into(),
            others,
            periods,
            known: known(&campaign, accounts),
            records: Records::new(records, campaign.steps.len(), scale.workers.min(records)),
            now: START,
            agenda: BinaryHeap::new(),
            added: 0,
            calls: 0,
            running: HashMap::new(),
            of_others: vec![0; campaign.others.len()],
            actions: Vec::new(),
            never: None,
            waits: vec![Duration::ZERO; accounts.len()],
            busy: 0,
            under_way: 0,
            factor: scale.factor,
            campaign,
        }
    }

    fn begin(&mut self) {
        for account in 0..self.engines.len() {
            self.says(account, Event::ResumeDone(SESSION));
        }
        for period in 0..self.periods.len() {
            self.begin_period(period);
        }
        for (account, event) in std::mem::take(&mut self.known) {
            self.says(account, event);
        }
        for other in 0..self.campaign.others.len() {
            self.add(self.now, Happens::OtherCalls(other));
        }
        for worker in 0..self.records.workers() {
            self.go_on(worker);
        }
    }

    /// The next thing that happens; false: nothing does any more.
    fn step(&mut self) -> bool {
        let wakes =
            self.engines.iter().enumerate().filter_map(|(at, engine)| Some((engine.next_wake()?, at)));
        let wake = wakes.min();
        let due = self.agenda.peek().map(|Reverse((at, ..))| *at);
        match (due, wake) {
            (Some(due), wake) if wake.is_none_or(|(at, _)| due <= at) => {
                let Some(Reverse((at, _, what))) = self.agenda.pop() else { return false };
                self.pass_until(at);
                self.happens(what);
            }
            (_, Some((at, account))) => {
                self.pass_until(at);
                self.says(account, Event::Wake);
            }
            (_, None) => return false,
        }
        if self.now > START + HORIZON {
            self.never = Some(not_within_the_horizon());
        }
        true
    }

    fn over(&self) -> Option<Outcome> {
        if let Some(why) = &self.never {
            return Some(Outcome::Never(why.clone()));
        }
        let done = self.records.are_done().then(|| self.now.since(START))?;
        let mean = u64::try_from(self.busy.div_ceil(done.as_nanos().max(1))).unwrap_or(u64::MAX);
        let under_way = mean.saturating_mul(self.factor).max(1);
        Some(Outcome::Done { after: done, under_way, waits: self.waits.clone() })
    }

    fn pass_until(&mut self, at: Time) {
        let at = at.max(self.now);
        self.busy += u128::from(self.under_way) * at.since(self.now).as_nanos();
        self.now = at;
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Answered(call) => self.answered(call),
            Happens::OtherCalls(other) => self.other_calls(other),
            Happens::Period(period) => self.begin_period(period),
        }
    }

    fn add(&mut self, at: Time, what: Happens) {
        self.added += 1;
        self.agenda.push(Reverse((at, self.added, what)));
    }

    /// A message to an account's engine, and what it wants done.
    fn says(&mut self, account: usize, event: Event) {
        let pulse = Pulse { stamp: Stamp(self.now.0), latest: self.now };
        let engine = &mut self.engines[account];
        engine.handle(self.now, Event::Heartbeat { session: SESSION, pulse }, &mut self.actions);
        engine.handle(self.now, event, &mut self.actions);
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Grant { attempt, .. } => self.granted(account, attempt),
                Action::Refuse { call, reason, words, .. } => {
                    self.running.remove(&call.0);
                    let words = words.unwrap_or_else(|| format!("a call is refused: {reason:?}"));
                    self.never.get_or_insert(words);
                }
                Action::Paused { .. } | Action::Resumed { .. } => {}
            }
        }
    }

    /// The worker makes its next call, or has no more records.
    fn go_on(&mut self, worker: usize) {
        if let Some(step) = self.records.next_call(worker, &self.campaign.steps) {
            self.ask(Whose::Worker { worker, step });
        }
    }

    fn other_calls(&mut self, other: usize) {
        let every =
            Duration::from_secs(60 * self.factor) / u32::try_from(self.per_minute(other)).unwrap_or(u32::MAX);
        self.add(self.now + every, Happens::OtherCalls(other));
        if self.of_others[other] < MOST_OF_OTHERS {
            self.of_others[other] += 1;
            self.ask(Whose::Other(other));
        }
    }

    fn per_minute(&self, other: usize) -> u64 {
        self.campaign.others[other].per_minute.max(1)
    }

    fn call_of(&self, whose: Whose) -> &Call {
        match whose {
            Whose::Worker { step, .. } => &self.campaign.steps[step].call,
            Whose::Other(other) => &self.campaign.others[other].call,
        }
    }

    fn ask(&mut self, of: Whose) {
        self.calls += 1;
        let consumer = match of {
            Whose::Worker { .. } => self.consumer.clone(),
            Whose::Other(other) => self.others[other].clone(),
        };
        let Call { account, demand, .. } = self.call_of(of);
        let (account, demand) = (*account, demand.clone());
        let ask = Ask {
            session: SESSION,
            call: CallId(self.calls),
            consumer,
            demand,
            credential: Fingerprint::default(),
            patience: None,
            waited: Duration::ZERO,
            attempts: 0,
        };
        self.running.insert(self.calls, Running { of, asked: self.now, attempt: None });
        self.says(account, Event::Ask(ask));
    }

    fn granted(&mut self, account: usize, attempt: Attempt) {
        let call = attempt.call.0;
        let Some(running) = self.running.get_mut(&call) else { return };
        running.attempt = Some(attempt);
        let (of, waited) = (running.of, self.now.since(running.asked));
        let answer = self.call_of(of).answer;
        if matches!(of, Whose::Worker { .. }) {
            self.under_way += 1;
            self.waits[account] = self.waits[account].max(waited);
        }
        self.add(self.now + answer, Happens::Answered(call));
        self.says(account, Event::Sent { attempt, latest: self.now });
    }

    fn answered(&mut self, call: u64) {
        let Some(Running { of, attempt: Some(attempt), .. }) = self.running.remove(&call) else { return };
        let Call { account, usage, .. } = *self.call_of(of);
        let latest = self.now;
        self.says(account, Event::FirstByte { attempt, latest, observations: Vec::new() });
        self.says(account, Event::Done { attempt, end: CallEnd::Seen, usage: Some(usage) });
        match of {
            Whose::Worker { worker, .. } => {
                self.under_way -= 1;
                self.go_on(worker);
            }
            Whose::Other(other) => self.of_others[other] -= 1,
        }
    }

    fn begin_period(&mut self, period: usize) {
        let Open { account, limit, calendar } = &self.periods[period];
        let elapsed = SignedDuration::try_from(self.now.since(START)).unwrap_or_default();
        let clock = self.start.saturating_add(elapsed).unwrap_or(self.start);
        let span = calendar.at(clock);
        let begun = START - clock_before(self.start, span.begin) + clock_before(span.begin, self.start);
        let ends = START + clock_before(span.end, self.start);
        let (account, limit) = (*account, limit.clone());
        self.add(ends, Happens::Period(period));
        self.says(account, Event::PeriodBegun(PeriodBegun { limit, begun, ends }));
    }
}

/// How much later the first is; zero if it is not.
fn clock_before(later: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// What has been used and what is paused when the campaign begins.
fn known(campaign: &Campaign, accounts: &[CompiledAccount]) -> Vec<(usize, Event)> {
    let start = campaign.start;
    let stated = |limit: &str, amount: u64, at: Timestamp| {
        Event::UseStated(StatedUse { limit: limit.to_owned(), amount, at: START - clock_before(start, at) })
    };
    let mut events = Vec::new();
    for (index, account) in accounts.iter().enumerate() {
        events.extend(account.used.iter().map(|used| (index, stated(&used.limit, used.amount, used.at))));
        let Some((present, at)) = campaign.present.get(index).and_then(|it| Some((it, it.at?))) else {
            continue;
        };
        events.extend(present.used.iter().map(|(limit, used)| (index, stated(limit, *used, at))));
        for (scope, length) in &present.pauses {
            let length = length.saturating_sub(clock_before(start, at));
            if !length.is_zero() {
                events.push((index, Event::Pause { scope: scope.clone(), length }));
            }
        }
    }
    events
}

/// The engine of an account. Its calls wait for as long as it takes.
fn engine(account: &CompiledAccount, scale: Scale) -> Engine {
    let config = AccountConfig {
        mode: Mode::Enforce,
        validity: VALIDITY,
        on_exceeded: OnExceeded::Queue,
        queue: QueueConfig {
            max_wait: HORIZON * 2,
            max_absence: None,
            max_budget_wait: None,
            max_calls: usize::MAX,
        },
        ..scale.account(&account.engine)
    };
    Engine::new(config, START)
}

#[cfg(test)]
mod tests;
