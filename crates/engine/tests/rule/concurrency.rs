//! A limit of calls that are under way at the same time: a slot from the grant to the end.

use quotakeeper_engine::event::{Event, SessionId};

use crate::world::*;

#[test]
fn a_slot_is_freed_when_its_call_ends() {
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
fn slots_of_a_lost_proxy_are_held_until_its_pod_is_deleted() {
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
fn slots_are_released_after_the_longest_call() {
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
fn a_rejected_call_frees_its_slot() {
    let mut w = World::new(vec![concurrent("parallel", 1), sliding("requests", 100, 10)]);
    w.ask(2);
    let attempt = w.grants()[0];
    w.tell(Event::Unused { attempt, again: true });
    let next = w.grants();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].call, attempt.call, "which is itself, at the head of its flow");
}

#[test]
fn windows_and_slots_are_charged_together() {
    let mut w = World::new(vec![concurrent("parallel", 3), sliding("requests", 5, 10)]);
    w.ask(20);
    let first = w.grants();
    assert_eq!(first.len(), 3);
    first.into_iter().for_each(|attempt| w.answered(attempt));
    assert_eq!(w.grants().len(), 2, "the window has two left");
    assert_eq!(w.used("parallel"), 2, "what waits for the window holds no slot");
}
