//! Large limits, whose calls are kept in slots of time once the provider has counted them.

use quotakeeper_engine::Engine;
use quotakeeper_engine::event::Event;

use crate::world::*;

const N: u64 = 20_000;

fn config() -> quotakeeper_engine::config::AccountConfig {
    account(vec![sliding("day", N, 86_400)])
}

/// All of the limit is used in an hour, each call answered at once.
fn used_up() -> World {
    let mut w = World::of(config());
    for _ in 0..60 {
        w.ask(usize::try_from(N / 60).unwrap());
        let granted = w.grants();
        granted.into_iter().for_each(|attempt| w.answered(attempt));
        w.pass(SECOND * 60);
    }
    w.ask(usize::try_from(N % 60).unwrap());
    let granted = w.grants();
    granted.into_iter().for_each(|attempt| w.answered(attempt));
    assert_eq!(w.used("day"), N);
    w
}

#[test]
fn calls_leave_a_slot_late_at_most_and_never_early() {
    let mut w = used_up();
    w.pass(SECOND * (86_400 - 3600));
    assert_eq!(w.used("day"), N, "the first is a day old just now");
    w.pass(SECOND * 90);
    assert!(w.used("day") < N);
    w.pass(SECOND * 3700);
    assert_eq!(w.used("day"), 0);
}

#[test]
fn a_report_that_comes_when_the_call_is_in_its_slot_charges_nothing_more() {
    let mut w = World::of(config());
    w.ask(1);
    let granted = w.grants()[0];
    let written = w.now;
    w.pass(SECOND * 30);
    assert_eq!(w.used("day"), 1);
    w.tell(Event::Sent { attempt: granted, latest: written });
    w.answered(granted);
    assert_eq!(w.used("day"), 1);
    assert_eq!(w.engine.totals().breaches, 0);
}

#[test]
fn a_restart_keeps_the_slots() {
    let mut w = used_up();
    let (snapshot, reserve) = w.commit(0);
    assert!(snapshot.counters[0].units.len() < 400, "{}", snapshot.counters[0].units.len());
    let engine = Engine::restart(config(), snapshot, reserve, w.now);
    let mut w = World::with(engine, w.now);
    assert_eq!(w.used("day"), N);
    w.pass(SECOND * (86_400 - 3600 + 90));
    let left = w.used("day");
    assert!(left > N / 2 && left < N, "{left}");
}
