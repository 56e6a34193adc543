//! A limiter that loses its ledger again and again, and what is stored of its day elsewhere.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use quotakeeper_engine::event::{CallId, SessionId};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::account::{CompiledAccount, StatedUse};
use quotakeeper_wire::message::{
    AccountIndex, CallDetails, Epoch, Hello, LimiterMessage, ProxyMessage, ToLimiter,
};
use serde_json::json;

use super::*;
use crate::record::{LostGrants, Recovered};
use crate::state::{ConnectionId, LedgerStart, Start};

const ME: ConnectionId = ConnectionId(1);
const START: Time = Time(100_000_000_000_000);

/// A quota of so many calls a day.
fn daily(amount: u64) -> CompiledAccount {
    let second = |secs: u64| json!({"secs": secs, "nanos": 0});
    let document = json!({
        "format": 1, "generation": 1, "key": "crm/gtm/crm", "quota": "gtm/crm", "tier": "free", "profile": {},
        "engine": {
            "mode": "Enforce", "onExceeded": "Queue", "validity": second(2),
            "limits": [{
                "name": "daily", "unit": "Requests", "amount": amount, "window": second(86_400),
                "countedAs": "SlidingWindow", "delivery": second(1), "pacing": "TokenBucket",
            }],
            "queue": {"maxWait": second(600), "maxCalls": 1000},
            "pause": {
                "fallback": second(1), "cap": second(60), "probePatience": second(5), "maxCall": second(600),
            },
        },
    });
    CompiledAccount::load(&document.to_string()).unwrap()
}

/// The limiter of this epoch, whose ledger is lost if it is not the first.
struct Limiter {
    state: LimiterState,
    now: Time,
    granted: usize,
}

impl Limiter {
    fn start(epoch: u64, now: Time) -> Limiter {
        Limiter::told(epoch, now, None)
    }

    /// … whose account's document tells of the checkpoint with this number.
    fn told(epoch: u64, now: Time, checkpoint: Option<u64>) -> Limiter {
        let wall = Timestamp::from_second(1_800_000_000).unwrap();
        let lost = (epoch > 1).then_some(LostGrants { until: now, until_wall: wall });
        let recovered = Recovered { since: Some(Epoch(epoch)), lost, ..Recovered::default() };
        let in_force_since = Some(wall);
        let start = Start {
            configuration: vec![CompiledAccount { in_force_since, checkpoint, ..daily(1000) }].into(),
            epoch: Epoch(epoch),
            ledger: Some(LedgerStart { recovered, longest_horizon: RETRY_AFTER }),
            lost_accounts: BTreeMap::new(),
            wall,
            fingerprint_key: None,
        };
        let mut state = LimiterState::new(start, now);
        state.require_checkpoints(now);
        state.opening_records(now);
        state.committed(now, &mut Outbox::default());
        state.connect(now, ME, None);
        let mut limiter = Limiter { state, now, granted: 0 };
        limiter.say(ProxyMessage::Hello(Hello {
            session: SessionId(epoch),
            consumer: "job".into(),
            quotas: vec!["gtm/crm".into()],
            newest: Epoch(0),
            ended: Vec::new(),
            calls: Vec::new(),
        }));
        limiter
    }

    fn say(&mut self, body: ProxyMessage) {
        let mut out = Outbox::default();
        self.state.receive(self.now, ME, ToLimiter { stamp: Stamp(self.now.0), body }, &mut out);
        self.count(&out);
    }

    fn count(&mut self, out: &Outbox) {
        let grant = |message: &LimiterMessage| matches!(message, LimiterMessage::Grant { .. });
        self.granted += out.messages.iter().filter(|(_, message)| grant(&message.body)).count();
    }

    fn ask(&mut self, calls: u64) {
        for call in 0..calls {
            let (account, call) = (AccountIndex(0), CallId(self.now.0 + call));
            let details = CallDetails::default();
            self.say(ProxyMessage::Ask { account, call, details, patience: None });
        }
    }

    fn tell<T>(&mut self, tell: impl FnOnce(&mut LimiterState, Time, &mut Outbox) -> T) {
        let mut out = Outbox::default();
        tell(&mut self.state, self.now, &mut out);
        self.count(&out);
    }

    /// Lets so many tenths of a second pass, with the checkpoint in `store`.
    fn run(&mut self, tenths: u32, store: &mut Store) {
        for _ in 0..tenths {
            self.now += Duration::from_millis(100);
            self.say(ProxyMessage::ALIVE);
            self.tell(|state, now, out| state.wake(now, out));
            if self.state.due_records(self.now).is_some() {
                self.tell(|state, now, out| state.committed(now, out));
            }
            for task in self.state.due_checkpoints(self.now) {
                store.work(self, task);
            }
        }
    }

    fn assumed(&mut self) -> u64 {
        self.state.report(self.now).accounts[0].status.limits[0].assumed
    }

    fn checkpoint(&mut self) -> CheckpointReport {
        self.state.report(self.now).accounts[0].checkpoint.clone().unwrap()
    }

    /// The account's document is written again, with the number that the quota's status tells.
    fn configure(&mut self, checkpoint: Option<u64>) {
        let account = &self.state.accounts[&AccountKey::from("crm/gtm/crm")].compiled;
        let account = CompiledAccount { checkpoint, ..account.clone() };
        self.tell(|state, now, out| state.configure(now, vec![account].into(), out));
    }

    /// A person states what was used until now.
    fn state_use(&mut self, amount: u64) {
        let at = self.state.wall.at(self.now).reads;
        let account = self.state.accounts[&AccountKey::from("crm/gtm/crm")].compiled.clone();
        let used = vec![StatedUse { limit: "daily".to_owned(), amount, at }];
        self.tell(|state, now, out| {
            state.configure(now, vec![CompiledAccount { used, ..account }].into(), out)
        });
    }

    fn used(&mut self) -> u64 {
        self.state.report(self.now).accounts[0].status.limits[0].used
    }
}

/// Where checkpoints are stored.
#[derive(Default)]
struct Store {
    stored: Option<StoredCheckpoint>,
    /// Counts its changes.
    version: u64,
    /// The version that the limiter of each epoch has read or written last.
    read: BTreeMap<Epoch, u64>,
    away: bool,
    /// Nobody hears that something is stored.
    unanswered: bool,
}

impl Store {
    fn work(&mut self, limiter: &mut Limiter, task: CheckpointTask) {
        let away = self.away;
        match task {
            CheckpointTask::Read(key) if away => {
                limiter.state.checkpoint_not_read(limiter.now, &key, "no answer".to_owned());
            }
            CheckpointTask::Read(key) => {
                let found = match self.stored.clone() {
                    Some(stored) => FoundCheckpoint::Stored { stored, age: Duration::ZERO },
                    None => FoundCheckpoint::Nothing,
                };
                self.read.insert(limiter.state.greeting.epoch, self.version);
                limiter.tell(|state, now, out| state.checkpoint_read(now, &key, found, out));
            }
            CheckpointTask::Write(checkpoint) => {
                let key = checkpoint.account.clone();
                let known = self.read.get(&limiter.state.greeting.epoch) == Some(&self.version);
                let written = match known {
                    _ if away => Err(NotStored::Failed("no answer".to_owned())),
                    false => Err(NotStored::Conflict),
                    true => Ok(()),
                };
                if written.is_ok() {
                    self.version += 1;
                    if !self.unanswered {
                        self.read.insert(limiter.state.greeting.epoch, self.version);
                    }
                    self.stored = Some(serde_json::from_str(&checkpoint.to_json().unwrap()).unwrap());
                }
                let no_answer = || Err(NotStored::Failed("no answer".to_owned()));
                let written = if self.unanswered { no_answer() } else { written };
                limiter.tell(|state, now, out| state.checkpoint_written(now, &key, written, out));
            }
        }
    }

    fn number(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.number)
    }

    /// Somebody puts another in its place, or none.
    fn replace(&mut self, stored: Option<StoredCheckpoint>) {
        self.stored = stored;
        self.version += 1;
    }
}

/// The first limiter has used half of the day.
fn half_used() -> (Limiter, Store) {
    let (mut limiter, mut store) = (Limiter::start(1, START), Store::default());
    limiter.run(5, &mut store);
    limiter.ask(500);
    limiter.run(300, &mut store);
    assert_eq!(limiter.granted, 500);
    (limiter, store)
}

#[test]
fn lost_ledgers_reopen_no_day_and_leave_most_of_it() {
    let (limiter, mut store) = half_used();
    let (mut granted, mut now) = (limiter.granted, limiter.now);
    for epoch in 2..7 {
        let mut limiter = Limiter::start(epoch, now);
        limiter.run(50, &mut store);
        limiter.ask(40);
        limiter.run(100, &mut store);
        granted += limiter.granted;
        now = limiter.now;
    }
    assert_eq!(granted, 700, "five lost ledgers later");
    let mut last = Limiter::start(7, now);
    last.run(50, &mut store);
    last.ask(600);
    last.run(600, &mut store);
    granted += last.granted;
    assert!((900..=1000).contains(&granted), "{granted}");
    assert_eq!(last.used(), 1000);
}

#[test]
fn while_nothing_can_be_stored_calls_wait_once_the_block_is_used_up() {
    let (mut limiter, mut store) = half_used();
    store.away = true;
    limiter.ask(100);
    limiter.run(50, &mut store);
    assert!(limiter.granted < 520, "{}", limiter.granted);
    let report = limiter.checkpoint();
    assert_eq!((report.failing, report.problem.as_deref()), (true, Some("no answer")));
    store.away = false;
    limiter.run(100, &mut store);
    assert_eq!(limiter.granted, 600);
    assert_eq!((limiter.checkpoint().failing, limiter.checkpoint().problem), (false, None));
}

/// The first limiter has used half of the day; what was stored when a quarter was used, and the number of the newest.
fn half_used_and_backed_up() -> (Limiter, Store, StoredCheckpoint, u64) {
    let (mut limiter, mut store) = (Limiter::start(1, START), Store::default());
    limiter.run(5, &mut store);
    limiter.ask(250);
    limiter.run(150, &mut store);
    let backup = store.stored.clone().unwrap();
    limiter.ask(250);
    limiter.run(150, &mut store);
    assert_eq!(limiter.granted, 500);
    let newest = store.number();
    assert!(newest > backup.number);
    (limiter, store, backup, newest)
}

#[test]
fn a_checkpoint_that_is_lost_or_rolled_back_closes_the_day() {
    for rolled_back in [false, true] {
        let (limiter, mut store, backup, newest) = half_used_and_backed_up();
        store.replace(rolled_back.then_some(backup));
        let mut next = Limiter::told(2, limiter.now, Some(newest));
        next.run(50, &mut store);
        next.ask(100);
        next.run(50, &mut store);
        assert_eq!(next.granted, 1, "one call asks the provider");
        assert!(next.assumed() > 990);
        assert!(next.checkpoint().lost && !next.checkpoint().began);
        assert!(store.number() > newest, "and it is the newest from now on");
    }
}

/// The operator comes up after the limiter, as when all of a namespace is restored.
#[test]
fn a_rollback_that_is_told_later_closes_the_day_then() {
    let (limiter, mut store, backup, newest) = half_used_and_backed_up();
    let told = backup.number;
    store.replace(Some(backup));
    let mut next = Limiter::told(2, limiter.now, Some(told));
    next.run(50, &mut store);
    next.ask(20);
    next.run(50, &mut store);
    assert_eq!((next.granted, next.checkpoint().lost), (20, false));
    next.configure(Some(newest + 100));
    next.ask(600);
    next.run(600, &mut store);
    assert!(
        next.granted <= 22,
        "{}: no more than one that was decided already, and one that asks",
        next.granted
    );
    assert!(next.checkpoint().lost && next.assumed() > 990);
    assert!(store.number() > newest + 100);
    // What the limiter stores itself is told again, and is no rollback.
    next.configure(Some(store.number()));
    next.state_use(520);
    next.run(300, &mut store);
    assert!((470..=480).contains(&next.granted), "{} of what is left", next.granted);
}

/// The API server has stored it, and the operator reads its number sooner than the limiter that has given up waiting.
#[test]
fn what_was_stored_without_an_answer_is_no_rollback() {
    let (mut limiter, mut store) = half_used();
    let before = store.number();
    store.unanswered = true;
    limiter.ask(300);
    while store.number() == before {
        limiter.run(1, &mut store);
    }
    limiter.configure(Some(store.number()));
    store.unanswered = false;
    limiter.run(300, &mut store);
    assert_eq!((limiter.granted, limiter.checkpoint().lost, limiter.assumed()), (800, false, 0));
}

/// What a limiter with its ledger knows is better than any checkpoint.
#[test]
fn a_checkpoint_that_goes_while_the_limiter_runs_is_written_again() {
    for replaced in [false, true] {
        let (mut limiter, mut store, backup, newest) = half_used_and_backed_up();
        store.replace(replaced.then_some(backup));
        limiter.configure(Some(newest));
        limiter.ask(300);
        limiter.run(300, &mut store);
        assert_eq!((limiter.granted, limiter.checkpoint().lost), (800, false));
        assert!(store.number() > newest);
    }
}

/// A limiter that was stalled while another took over stores nothing in its place.
#[test]
fn an_older_limiter_gives_way() {
    let (mut old, mut store) = half_used();
    let mut new = Limiter::start(2, old.now);
    new.run(50, &mut store);
    new.ask(40);
    new.run(100, &mut store);
    assert_eq!(new.granted, 40);
    let stored = store.stored.clone();
    old.ask(100);
    old.run(100, &mut store);
    assert!(old.granted < 520, "{}: no more than its block", old.granted);
    assert_eq!(store.stored, stored);
}
