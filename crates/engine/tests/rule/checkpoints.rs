//! Long windows and checkpoints: what is granted is covered by one, and who begins from it exceeds nothing.

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::Engine;
use quotakeeper_engine::checkpoint::Checkpoint;
use quotakeeper_engine::config::{AccountConfig, LimitConfig, Mode};
use quotakeeper_engine::cost::{Amount, Costs};
use quotakeeper_engine::event::{Attempt, CheckpointRead, Event, StatedUse};
use quotakeeper_engine::time::Time;

use crate::world::{MS, SECOND, World, account, limit, over, predecessor, requests, sliding};

const START: Time = Time(200_000_000_000_000);
const DAY: u64 = 86_400;

fn daily(amount: u64) -> AccountConfig {
    account(vec![sliding("daily", amount, DAY)])
}

/// An engine whose long windows need checkpoints, after what was found of one.
fn begin(mut engine: Engine, now: Time, read: CheckpointRead) -> World {
    engine.require_checkpoints(now);
    let mut w = World::with(engine, now);
    w.tell(Event::CheckpointRead(read));
    w
}

fn new(config: AccountConfig) -> World {
    begin(Engine::new(config, START), START, CheckpointRead::None)
}

/// The successor of a limiter whose ledger is lost.
fn successor(config: AccountConfig, now: Time, checkpoint: &Checkpoint, age: Duration) -> World {
    let read = CheckpointRead::Found { checkpoint: checkpoint.clone(), age, granted_until: now };
    begin(Engine::takeover(config, predecessor(now), now), now, read)
}

/// Stores the checkpoint that is wanted; none: the one before stays.
fn store(w: &mut World) -> Option<Checkpoint> {
    w.engine.checkpoint_is_wanted().then(|| {
        let checkpoint = w.engine.checkpoint(w.now);
        w.tell(Event::Checkpointed);
        checkpoint
    })
}

/// Lets calls be granted and answered while checkpoints are stored at once. Returns the last, and how many were granted.
fn run(w: &mut World, calls: usize) -> (Option<Checkpoint>, usize) {
    w.ask(calls);
    let (mut last, mut granted) = (None, 0);
    for _ in 0..2 * calls {
        last = store(w).or(last);
        w.pass(MS * 10);
        for attempt in w.grants() {
            granted += 1;
            w.answered(attempt);
        }
    }
    (last, granted)
}

#[test]
fn nothing_of_a_long_window_is_granted_before_a_checkpoint_covers_it() {
    let mut w = new(daily(1000));
    w.ask(3);
    assert_eq!(w.grants().len(), 0);
    assert!(w.engine.checkpoint_is_wanted());
    let checkpoint = w.engine.checkpoint(w.now);
    assert_eq!(
        (checkpoint.limits[0].counts[0].block, w.grants().len()),
        (Amount(1), 0),
        "it is not stored yet"
    );
    w.tell(Event::Checkpointed);
    assert_eq!(w.grants().len(), 1);
    assert!(w.engine.checkpoint_is_wanted(), "the next one, for the calls that wait");
    store(&mut w);
    assert_eq!(w.grants().len(), 2);
}

#[test]
fn short_windows_need_no_checkpoint() {
    let mut w = new(account(vec![sliding("requests", 100, 60)]));
    w.ask(30);
    assert_eq!((w.grants().len(), w.engine.checkpoint_is_wanted()), (30, false));
}

#[test]
fn grants_go_on_within_the_block_while_no_checkpoint_can_be_stored() {
    let mut w = new(daily(86_400));
    let (_, granted) = run(&mut w, 20);
    assert_eq!(granted, 20);
    w.ask(500);
    w.pass(SECOND);
    let within = w.grants().len();
    assert!((1..=120).contains(&within), "{within}");
    w.engine.checkpoint(w.now);
    w.tell(Event::CheckpointFailed);
    w.pass(SECOND);
    assert_eq!(
        w.grants().len(),
        0,
        "it may be stored or not: no more than the smaller of both blocks is granted"
    );
    assert!(w.engine.checkpoint_is_wanted(), "it is tried again");
    store(&mut w);
    w.pass(SECOND);
    assert!(!w.grants().is_empty());
}

/// The switch for incidents lets all calls pass, whatever is stored.
#[test]
fn a_disabled_account_waits_for_no_checkpoint() {
    let mut w = new(AccountConfig { mode: Mode::Disabled, ..daily(1000) });
    w.ask(30);
    assert_eq!(w.grants().len(), 30);
}

#[test]
fn a_lost_ledger_costs_a_block_and_reopens_nothing() {
    let mut w = new(daily(1000));
    let (checkpoint, granted) = run(&mut w, 600);
    assert_eq!(granted, 600);
    let mut w = successor(daily(1000), START + SECOND * 3600, &checkpoint.unwrap(), SECOND * 3500);
    let used = w.used("daily");
    assert!((600..=600 + 8).contains(&used), "{used}");
    let assumed = w.engine.status(w.now).limits[0].assumed;
    assert!(assumed <= 8, "only the block is assumed, not {assumed}");
    w.pass(SECOND * 3);
    let (_, granted) = run(&mut w, 600);
    assert_eq!(granted as u64, 1000 - used);
    w.pass(SECOND * 85_000);
    assert!(w.used("daily") < 500, "the day of the first calls is over");
}

#[test]
fn a_large_limit_goes_on_too() {
    let mut w = new(daily(1_000_000));
    let (checkpoint, granted) = run(&mut w, 300);
    w.pass(SECOND * 10);
    let last = w.engine.last_checkpoint(w.now);
    assert_eq!((granted, successor(daily(1_000_000), w.now, &last, SECOND).used("daily")), (300, 300));
    let ahead = successor(daily(1_000_000), w.now, &checkpoint.unwrap(), SECOND).used("daily");
    assert!((300..10_000).contains(&ahead), "{ahead}");
}

#[test]
fn a_renamed_limit_of_another_amount_goes_on() {
    let mut w = new(daily(1000));
    let (checkpoint, _) = run(&mut w, 600);
    let renamed = account(vec![sliding("per-day", 700, DAY)]);
    let mut w = successor(renamed, START, &checkpoint.unwrap(), SECOND);
    assert!(w.used("per-day") >= 600);
    w.pass(SECOND * 3);
    assert!(run(&mut w, 600).1 <= 100);
}

/// A second restart, from a ledger that does not know the name.
#[test]
fn a_limit_that_was_renamed_while_no_limiter_ran_begins_with_its_checkpoint() {
    let mut w = new(account(vec![sliding("daily", 1000, DAY), limit("requests", 1000, 60)]));
    let (checkpoint, granted) = run(&mut w, 300);
    let (snapshot, reserve) = w.commit(0);
    let renamed = account(vec![sliding("per-day", 1000, DAY), limit("requests", 1000, 60)]);
    let engine = Engine::restart(renamed, snapshot, reserve, w.now);
    let read = CheckpointRead::Found { checkpoint: checkpoint.unwrap(), age: SECOND, granted_until: Time(0) };
    let mut w = begin(engine, w.now, read);
    let used = w.used("per-day");
    assert!((granted..=granted + 8).contains(&usize::try_from(used).unwrap()), "{used}");
}

#[test]
fn what_the_ledger_has_is_better_than_the_checkpoint() {
    let mut w = new(daily(1000));
    let (checkpoint, granted) = run(&mut w, 300);
    let (snapshot, reserve) = w.commit(0);
    let read = CheckpointRead::Found { checkpoint: checkpoint.unwrap(), age: SECOND, granted_until: Time(0) };
    let mut w = begin(Engine::restart(daily(1000), snapshot, reserve, w.now), w.now, read);
    assert_eq!(w.used("daily"), granted as u64);
}

/// It assumes that all of the day is used: who goes on from its ledger would count that for a day, although a checkpoint
/// says better.
#[test]
fn a_limiter_that_ends_before_it_has_read_the_checkpoint_leaves_that_to_the_next() {
    let mut w = new(daily(100));
    let (checkpoint, granted) = run(&mut w, 40);
    let (config, now) = (daily(100), w.now);
    let mut engine = Engine::takeover(config.clone(), predecessor(now), now);
    engine.require_checkpoints(now);
    let (snapshot, reserve) = World::with(engine, now).commit(1);
    let checkpoint = checkpoint.unwrap();
    let read = CheckpointRead::Found { checkpoint, age: Duration::ZERO, granted_until: now };
    let mut next = begin(Engine::restart(config, snapshot, reserve, now), now, read);
    let used = next.used("daily") as usize;
    assert!((granted..60).contains(&used), "{used} after {granted}");
}

/// Nobody has granted on it: that is known, and stays in the ledger.
#[test]
fn a_restart_before_the_first_checkpoint_does_not_close_a_new_account() {
    let (config, now) = (daily(100), START);
    let mut engine = Engine::newly_in_force(config.clone(), now);
    engine.require_checkpoints(now);
    let (snapshot, reserve) = World::with(engine, now).commit(0);
    let mut next = begin(Engine::restart(config, snapshot, reserve, now), now, CheckpointRead::None);
    assert_eq!(next.used("daily"), 0);
}

#[test]
fn a_lost_checkpoint_closes_the_window_until_a_person_states_its_use() {
    let mut w = begin(Engine::newly_in_force(daily(100), START), START, CheckpointRead::Lost);
    w.pass(SECOND * 5);
    let (_, granted) = run(&mut w, 50);
    assert_eq!(granted, 1, "one asks the provider");
    w.pass(SECOND * 5);
    w.tell(Event::UseStated(StatedUse { limit: "daily".to_owned(), amount: 40, at: w.now }));
    let (_, granted) = run(&mut w, 100);
    assert!((58..=60).contains(&granted), "{granted}");
}

/// A limiter that has granted some of the day learns that the checkpoint it began with was not the newest.
#[test]
fn a_checkpoint_that_was_rolled_back_closes_the_window_at_any_time() {
    let mut w = new(daily(1000));
    let (checkpoint, _) = run(&mut w, 300);
    let mut w = successor(daily(1000), START + SECOND * 3600, &checkpoint.unwrap(), SECOND * 3500);
    w.pass(SECOND * 3);
    assert_eq!(run(&mut w, 100).1, 100);
    w.tell(Event::CheckpointRead(CheckpointRead::RolledBack));
    assert!(w.engine.checkpoint_is_wanted(), "one that says so");
    w.pass(SECOND * 3);
    assert_eq!(run(&mut w, 50).1, 0);
    w.pass(SECOND * 30);
    w.tell(Event::UseStated(StatedUse { limit: "daily".to_owned(), amount: 500, at: w.now }));
    let (_, granted) = run(&mut w, 200);
    assert!((90..=100).contains(&granted), "{granted}: beside the 400 that are known");
}

/// A swap of an older limiter arrives after its successor has read the checkpoint, and before that has stored one.
#[test]
fn a_checkpoint_that_is_replaced_before_the_first_grant_counts_once() {
    let mut w = new(daily(1000));
    let (checkpoint, granted) = run(&mut w, 300);
    let checkpoint = checkpoint.unwrap();
    let mut w = successor(daily(1000), START + SECOND * 3600, &checkpoint, SECOND * 3500);
    w.tell(Event::CheckpointRead(CheckpointRead::Found {
        checkpoint,
        age: SECOND * 3500,
        granted_until: Time(0),
    }));
    let used = usize::try_from(w.used("daily")).unwrap();
    assert!((granted..=granted + 8).contains(&used), "{used}");
}

#[test]
fn an_orderly_end_holds_nothing_ahead() {
    let mut w = new(daily(1000));
    run(&mut w, 600);
    w.pass(SECOND * 10);
    let last = w.engine.last_checkpoint(w.now);
    let mut w = successor(daily(1000), w.now + SECOND * 5, &last, SECOND);
    assert_eq!(w.used("daily"), 600);
}

/// A provider that counts by itself, and a limiter that loses its ledger again and again.
struct Losses {
    w: World,
    limit: LimitConfig,
    /// Of the node's clock against the world's.
    offset: i128,
    stored: Option<(Checkpoint, u64)>,
    under_way: Option<Checkpoint>,
    /// Calls that are not over, and when they were granted on the world's clock.
    open: Vec<(Attempt, u64)>,
    /// When the provider has counted how much, on the world's clock.
    counted: Vec<(u64, u64)>,
}

/// A granted call is written within its validity, or never, and counted soon after that, however late its answer.
fn arrives(granted: u64, detail: u64) -> u64 {
    granted + detail % 2_000_000_000
}

impl Losses {
    fn new(limit: LimitConfig) -> Losses {
        let w = new(account(vec![limit.clone()]));
        Losses { w, limit, offset: 0, stored: None, under_way: None, open: Vec::new(), counted: Vec::new() }
    }

    fn now(&self) -> u64 {
        u64::try_from(i128::from(self.w.now.0) - self.offset).unwrap()
    }

    fn step(&mut self, choice: u8, detail: u64) {
        match choice {
            0..=2 => {
                for _ in 0..20 {
                    self.w.ask_for(1, "job", requests(1 + detail % 3), None);
                }
            }
            3 | 4 => self.take(),
            5 | 6 => {
                self.take();
                if let Some(checkpoint) = self.under_way.take() {
                    self.stored = Some((checkpoint, self.now()));
                    self.w.tell(Event::Checkpointed);
                }
            }
            7 => {
                if let Some(checkpoint) = self.under_way.take() {
                    if detail.is_multiple_of(2) {
                        self.stored = Some((checkpoint, self.now()));
                    }
                    self.w.tell(Event::CheckpointFailed);
                }
            }
            8 if detail.is_multiple_of(2) => self.lose(detail),
            _ => self.pass(detail),
        }
        self.open_calls();
        if !detail.is_multiple_of(3) {
            self.end_calls(detail);
            // Those that are over have made room for others.
            self.open_calls();
        }
    }

    fn open_calls(&mut self) {
        let now = self.now();
        self.open.extend(self.w.grants().into_iter().map(|attempt| (attempt, now)));
    }

    fn take(&mut self) {
        if self.under_way.is_none() && self.w.engine.checkpoint_is_wanted() {
            self.under_way = Some(self.w.engine.checkpoint(self.w.now));
        }
    }

    fn pass(&mut self, detail: u64) {
        let most = if detail.is_multiple_of(7) { 900_000 } else { 3_000 };
        self.w.pass(MS * u32::try_from(detail % most).unwrap());
    }

    fn end_calls(&mut self, detail: u64) {
        for (place, (attempt, granted)) in std::mem::take(&mut self.open).into_iter().enumerate() {
            if (detail as usize + place).is_multiple_of(5) {
                self.w.tell(Event::Unused { attempt, again: false });
                continue;
            }
            self.counted.push((self.now().min(arrives(granted, detail)), 1));
            self.w.tell(Event::FirstByte { attempt, latest: self.w.now, observations: Vec::new() });
            self.w.tell(Event::Settled { attempt, usage: Costs { requests: Amount(1), ..Costs::default() } });
            self.w.tell(over(attempt));
        }
    }

    /// The limiter's node is gone, with its ledger: what is under way arrives within two seconds, or never.
    fn lose(&mut self, detail: u64) {
        if let Some(checkpoint) = self.under_way.take().filter(|_| detail.is_multiple_of(2)) {
            self.stored = Some((checkpoint, self.now()));
        }
        for (_, granted) in std::mem::take(&mut self.open) {
            self.counted.push((arrives(granted, detail), 1));
        }
        let world = self.now();
        // Nodes are up for a minute, or for days.
        let node =
            Time(if detail.is_multiple_of(5) { 60_000_000_000 } else { START.0 * 2 } + world % 1_000_000);
        self.offset = i128::from(node.0) - i128::from(world);
        let config = account(vec![self.limit.clone()]);
        let read = match &self.stored {
            None => CheckpointRead::None,
            Some((checkpoint, at)) => CheckpointRead::Found {
                checkpoint: checkpoint.clone(),
                age: Duration::from_nanos(world - at),
                granted_until: Time(0),
            },
        };
        let engine = match &self.stored {
            None => Engine::new(config, node),
            Some(_) => Engine::takeover(config, predecessor(node), node),
        };
        self.w = begin(engine, node, read);
    }

    /// The most that the provider has counted in any window.
    fn worst(&mut self) -> u64 {
        self.counted.sort_unstable();
        let window = u64::try_from(self.limit.window.as_nanos()).unwrap();
        let within = |from: u64| {
            let all = self.counted.iter().filter(|(at, _)| (from..from + window).contains(at));
            all.map(|(_, amount)| amount).sum::<u64>()
        };
        self.counted.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, and however often the ledger is lost, no window has more than it allows.
    #[test]
    fn no_lost_ledger_reopens_a_window(
        amount in 6u64..200,
        steps in prop::collection::vec((0u8..10, 0u64..u64::MAX / 2), 100..600),
    ) {
        let mut losses = Losses::new(sliding("hourly", amount, 3600));
        steps.into_iter().for_each(|(choice, detail)| losses.step(choice, detail));
        let worst = losses.worst();
        prop_assert!(worst <= amount, "{} of {}", worst, amount);
    }
}

/// Twenty nodes are lost within a day, each in the middle of the work.
#[test]
fn twenty_lost_ledgers_cost_a_part_of_the_day() {
    let amount = 20_000;
    let mut w = new(daily(amount));
    let (mut granted, mut checkpoint) = (0, None);
    for _ in 0..20 {
        let (last, more) = run(&mut w, 400);
        granted += more;
        checkpoint = last.or(checkpoint);
        w = successor(daily(amount), w.now + SECOND * 600, checkpoint.as_ref().unwrap(), SECOND * 598);
        w.pass(SECOND * 3);
    }
    while w.used("daily") < amount {
        let before = granted;
        granted += run(&mut w, 2000).1;
        assert!(granted > before || w.used("daily") == amount, "{granted} granted");
    }
    assert!(granted as u64 <= amount && granted as u64 >= amount * 8 / 10, "{granted} of {amount}");
}
