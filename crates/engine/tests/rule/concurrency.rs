//! A limit of calls that are under way at the same time: a slot from the grant to the end.

use quotakeeper_engine::event::{Event, SessionId};

use crate::world::*;

#[test]
fn a_slot_is_free_when_its_call_ends_not_when_it_is_answered() {
    let mut w = World::new(vec![concurrent("parallel", 2)]);
    w.ask(4);
    let grants = w.grants();
    assert_eq!(grants.len(), 2);
    w.tell(Event::FirstByte { attempt: grants[0], latest: w.now, observations: vec![] });
    assert_eq!(w.grants().len(), 0);
    w.tell(Event::Done(grants[0]));
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_vanished_proxys_slots_are_held_until_its_pod_is_known_dead() {
    let mut w = World::new(vec![concurrent("parallel", 1)]);
    w.ask_as(5, "job", Default::default(), None);
    assert_eq!(w.grants().len(), 1);
    w.tell(Event::Disconnected(SessionId(5)));
    w.ask(1);
    w.pass(SECOND * 60);
    assert_eq!(w.grants().len(), 0);
    w.tell(Event::PodDeleted(SessionId(5)));
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn no_slot_is_held_for_ever() {
    let mut w = World::new(vec![concurrent("parallel", 1)]);
    w.ask_as(5, "job", Default::default(), None);
    w.grants();
    w.tell(Event::Disconnected(SessionId(5)));
    w.pass(SECOND * 599);
    w.ask(1);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 2);
    assert_eq!(w.grants().len(), 1, "no call lasts longer than ten minutes");
}

#[test]
fn a_call_that_is_sent_back_gives_its_slot_to_the_next() {
    let mut w = World::new(vec![concurrent("parallel", 1), sliding("requests", 100, 10)]);
    w.ask(2);
    let attempt = w.grants()[0];
    w.tell(Event::Unused { attempt, again: true });
    let next = w.grants();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].call, attempt.call, "which is itself, at the head of its flow");
}

#[test]
fn a_window_and_slots_are_one_vector() {
    let mut w = World::new(vec![concurrent("parallel", 3), sliding("requests", 5, 10)]);
    w.ask(20);
    let first = w.grants();
    assert_eq!(first.len(), 3);
    first.into_iter().for_each(|attempt| w.answered(attempt));
    assert_eq!(w.grants().len(), 2, "the window has two left");
    assert_eq!(w.used("parallel"), 2, "what waits for the window holds no slot");
}
