//! A limit of calls that are under way at the same time: a slot from the grant to the end.

use std::collections::BTreeMap;

use quotakeeper_engine::config::{Charged, LimitConfig, ModelFacts, Reserving, TokenLimit, TokenRates, Unit};
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{CallClass, Event, Rejection, RejectionClass, Scope, SessionId};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};

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
    for (model, longest) in [("usual", 600), ("quick", 30), ("slow", 900)] {
        let mut config = account(vec![concurrent("parallel", 1)]);
        for (name, seconds) in [("quick", Some(30)), ("usual", None), ("slow", Some(900))] {
            let max_call = seconds.map(|seconds| SECOND * seconds);
            config.models.insert(name.to_owned(), ModelFacts { max_call, ..ModelFacts::default() });
        }
        let mut w = World::of(config);
        let class = CallClass { model: Some(model.to_owned()), ..CallClass::default() };
        w.ask_as(5, "job", class, None);
        w.grants();
        w.tell(Event::Disconnected(SessionId(5)));
        w.pass(SECOND * (longest - 1));
        w.ask(1);
        assert_eq!(w.grants().len(), 0, "{model}");
        w.pass(SECOND * 2);
        assert_eq!(w.grants().len(), 1, "no call of {model} lasts longer");
    }
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

/// Calls of these sessions wait without end, each in its class; those of a session hold their slots for so many
/// seconds. What was granted in so many seconds, by session.
fn served(w: &mut World, callers: &[(u64, Demand, u32)], seconds: u32) -> BTreeMap<u64, u32> {
    for (session, demand, _) in callers {
        for _ in 0..500 {
            w.ask_for(*session, &format!("team/{session}"), demand.clone(), None);
        }
    }
    let (mut served, mut under_way) = (BTreeMap::new(), Vec::new());
    for second in 0..seconds {
        let (over, still): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(_, ends)| *ends <= second);
        under_way = still;
        for (attempt, _) in over {
            let usage = TokenUsage { input: 1, output: 100, exact: true, ..TokenUsage::default() };
            w.tell(Event::FirstByte { attempt, latest: w.now, observations: vec![] });
            w.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(usage) });
        }
        for attempt in w.grants() {
            let session = attempt.session.0;
            *served.entry(session).or_default() += 1;
            let holds = callers.iter().find(|(one, ..)| *one == session).unwrap().2;
            under_way.push((attempt, second + holds));
        }
        w.pass(SECOND);
    }
    served
}

#[test]
fn a_workload_of_long_calls_has_its_slots_for_no_longer_than_one_of_short_calls() {
    let mut w = World::new(vec![concurrent("parallel", 4), limit("requests", 60_000, 60)]);
    let served = served(&mut w, &[(1, Demand::default(), 1), (2, Demand::default(), 8)], 200);
    let (short, long) = (served[&1], served[&2] * 8);
    assert!(short * 10 > long * 7 && long * 10 > short * 7, "seconds of slots: {short} and {long}");
    assert!(short + long > 600, "of 800: {served:?}");
}

/// Otherwise a call of a model with a large limit would be a short turn, however long it has a slot, and calls of all
/// others would wait for hundreds of them.
#[test]
fn models_of_small_limits_get_slots_beside_one_of_a_large_limit() {
    let output = |name: &str, amount| LimitConfig {
        unit: Unit::OutputTokens,
        tokens: Some(TokenLimit {
            charged: Charged::Settled,
            arrival: None,
            rates: TokenRates { output: 1, ..TokenRates::default() },
            reserving: Reserving::Bound,
        }),
        models: vec![name.to_owned()],
        ..sliding(name, amount, 60)
    };
    let names = ["fast", "a", "b", "c", "d", "e"];
    let limits = names.map(|name| output(name, if name == "fast" { 600_000 } else { 600 }));
    let mut w = World::new([limits.to_vec(), vec![concurrent("parallel", 5)]].concat());
    let size = CallSize { text_bytes: 0, max_output: Some(100), choices: 1, ..CallSize::default() };
    let demand = |name| Demand { class: model(name), size: Some(size), ..Demand::default() };
    let callers: Vec<_> = (1..).zip(names).map(|(session, name)| (session, demand(name), 5)).collect();
    let served = served(&mut w, &callers, 120);
    assert!((2..7).all(|session| served.get(&session).is_some_and(|calls| *calls >= 5)), "{served:?}");
    assert!(served[&1] >= 40, "{served:?}");
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
