//! A limit of calls that are under way at the same time: a slot from the grant to the end.

use quotakeeper_engine::event::{Event, Rejection, RejectionClass, Scope, SessionId};

use crate::world::*;

#[test]
fn a_slot_is_freed_when_its_call_ends() {
    let mut w = World::new(vec![concurrent("parallel", 2)]);
    w.ask(4);
    let grants = w.grants();
    assert_eq!(grants.len(), 2);
    w.tell(Event::FirstByte { attempt: grants[0], latest: w.now, observations: vec![] });
    assert_eq!(w.grants().len(), 0);
    w.tell(over(grants[0]));
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

/// A provider that takes four calls at the same time, each a second long, and rejects the others.
#[test]
fn rejections_for_concurrency_shrink_to_the_real_limit_and_pause_nothing() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    for _ in 0..40 {
        w.ask_as(1, "job", model("haiku"), None);
    }
    let (mut under_way, mut ends) = (0_u32, std::collections::VecDeque::new());
    let (mut rejected, mut answered, mut rounds) = (0, 0, 0);
    while answered < 40 {
        for attempt in w.grants() {
            if under_way < 4 {
                under_way += 1;
                w.tell(Event::FirstByte { attempt, latest: w.now, observations: vec![] });
                ends.push_back(attempt);
            } else {
                rejected += 1;
                let rejection = Rejection {
                    shared_with: None,
                    organization: None,
                    class: RejectionClass::Concurrency,
                    scope: Scope::model("haiku"),
                    wait: None,
                    reason: "Number of concurrent connections".to_owned(),
                };
                w.tell(Event::Rejected {
                    attempt,
                    latest: w.now,
                    observations: vec![],
                    rejection,
                    again: true,
                });
            }
        }
        assert!(w.engine.status(w.now).pauses.is_empty(), "no fixed pause");
        if under_way == 4 || w.engine.status(w.now).waiting.is_empty() {
            w.pass(SECOND);
            rounds += 1;
            for attempt in std::mem::take(&mut ends) {
                under_way -= 1;
                answered += 1;
                w.tell(over(attempt));
            }
        }
    }
    assert!((36..=37).contains(&rejected), "the burst, and at most one more that was tried: {rejected}");
    let learned = w.engine.status(w.now).concurrency;
    assert!(learned.len() == 1 && (4..=5).contains(&learned[0].calls), "{learned:?}");
    let (snapshot, reserve) = w.commit(10);
    let config = account(vec![sliding("requests", 1000, 10)]);
    let mut restarted = quotakeeper_engine::Engine::restart(config, snapshot, reserve, w.now);
    assert_eq!(restarted.status(w.now).concurrency, learned, "a restart need not learn it again");
    assert!(rounds <= 11, "four at a time: {rounds}");
    assert!(w.refusals().is_empty());
}

/// The provider takes twelve calls at the same time, each a second long; the first two came while others used it.
#[test]
fn what_was_rejected_while_others_used_the_account_grows_again_with_accepted_calls() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    w.ask(2);
    let first = w.grants();
    w.rejected(first[1], RejectionClass::Concurrency, None);
    w.tell(Event::FirstByte { attempt: first[0], latest: w.now, observations: vec![] });
    w.tell(over(first[0]));
    w.ask(100);
    let mut under_way = std::collections::VecDeque::new();
    let mut rejected = 0;
    for _ in 0..14 {
        loop {
            let grants = w.grants();
            if grants.is_empty() {
                break;
            }
            for attempt in grants {
                if under_way.len() < 12 {
                    w.tell(Event::FirstByte { attempt, latest: w.now, observations: vec![] });
                    under_way.push_back(attempt);
                } else {
                    rejected += 1;
                    w.rejected(attempt, RejectionClass::Concurrency, None);
                }
            }
        }
        w.pass(SECOND);
        under_way.drain(..).for_each(|attempt| w.tell(over(attempt)));
    }
    assert_eq!(w.engine.status(w.now).concurrency[0].calls, 12);
    assert!(rejected <= 1, "{rejected}");
}

#[test]
fn concurrency_of_others_is_waited_for() {
    let mut w = World::new(vec![sliding("requests", 1000, 10)]);
    w.ask(1);
    for seconds in [1, 2, 4] {
        let attempt = w.grants()[0];
        let rejection = Rejection {
            shared_with: None,
            organization: None,
            class: RejectionClass::Concurrency,
            scope: Scope::account(),
            wait: None,
            reason: "concurrent".to_owned(),
        };
        w.tell(Event::Rejected { attempt, latest: w.now, observations: vec![], rejection, again: true });
        assert_eq!(w.grants().len(), 0, "with nothing of ours under way only time helps");
        w.pass(SECOND * seconds + MS * 10);
    }
    assert_eq!(w.grants().len(), 1);
}
