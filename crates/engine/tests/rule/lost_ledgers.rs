//! An account without a record in the ledger: new, or of a limiter that is gone.

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::config::{CountedAs, LimitConfig};
use quotakeeper_engine::event::{Event, Observation, StatedUse};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::{Engine, Predecessor};

use crate::world::{MS, SECOND, World, account, limit, predecessor, sliding};

const START: Time = Time(200_000_000_000_000);

fn told(limit: &str, hard: u64, remaining: u64) -> Observation {
    Observation { limit: limit.to_owned(), hard: Some(hard), remaining: Some(remaining), ends_in: None }
}

fn stated(amount: u64, at: Time) -> Event {
    Event::UseStated(StatedUse { limit: "daily".to_owned(), amount, at })
}

/// HubSpot's limits, for answers that do not tell the daily one.
fn hubspot() -> Vec<LimitConfig> {
    vec![sliding("tenSecondly", 100, 10), sliding("daily", 250_000, 86_400)]
}

#[test]
fn a_new_account_asks_once_and_then_runs_at_its_shortest_window() {
    let mut w = World::with(Engine::newly_in_force(account(hubspot()), START), START);
    w.ask(300);
    let first = w.grants();
    assert_eq!(first.len(), 1, "others may use the account");
    w.pass(MS * 100);
    w.answered(first[0]);
    assert_eq!(w.grants().len(), 99, "the answer tells nothing of the daily limit, which is new");
    assert_eq!(w.engine.status(w.now).limits[1].assumed, 0);
}

#[test]
fn a_first_answer_with_headers_corrects_what_is_assumed_of_a_new_account() {
    let mut w = World::with(Engine::newly_in_force(account(hubspot()), START), START);
    w.ask(300);
    let first = w.grants();
    w.answered_with(first[0], told("daily", 250_000, 7));
    assert_eq!(w.grants().len(), 7);
    assert_eq!(w.used("daily"), 250_000);
}

/// A model may compute for a minute, and a proxy may die with the first call.
#[test]
fn a_first_call_without_an_answer_holds_the_others_until_it_must_have_been_counted() {
    let mut w = World::with(Engine::newly_in_force(account(hubspot()), START), START);
    w.ask(300);
    let first = w.grants();
    w.pass(SECOND * 2 + MS * 200);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND);
    assert_eq!(w.grants().len(), 99);
    assert_eq!(first.len(), 1);
}

#[test]
fn a_first_call_that_was_not_sent_lets_another_ask() {
    let mut w = World::with(Engine::newly_in_force(account(hubspot()), START), START);
    w.ask(3);
    let first = w.grants();
    w.tell(Event::Unused { attempt: first[0], again: false });
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn a_predecessor_can_have_granted_no_more_than_since_the_account_came_into_force() {
    let slow = account(vec![limit("requests", 60, 600)]);
    let world = |in_force| {
        let mut w =
            World::with(Engine::takeover(slow.clone(), Predecessor { until: START, in_force }, START), START);
        w.used("requests")
    };
    assert_eq!(world(None), 60);
    assert_eq!(world(Some(SECOND * 600)), 60);
    assert_eq!(world(Some(SECOND * 20)), 3 + 3, "a full bucket, and a call every ten seconds");
}

#[test]
fn a_daily_limit_of_a_lost_ledger_opens_when_a_person_states_its_use() {
    let mut w = World::with(Engine::takeover(account(hubspot()), predecessor(START), START), START);
    w.pass(SECOND * 20);
    w.ask(300);
    let asking = w.grants();
    w.answered(asking[0]);
    w.pass(SECOND * 3600);
    assert_eq!((asking.len(), w.grants().len()), (1, 0), "closed: the answer told nothing");
    w.ask(300);
    w.tell(stated(120_000, START));
    w.pass(SECOND);
    assert_eq!(w.grants().len(), 0, "stated of a time before the predecessor's last calls arrived");
    w.tell(stated(120_000, w.now));
    assert_eq!(w.grants().len(), 100, "the rate of the short window");
    assert_eq!(w.used("daily"), 120_000 + 1 + 100);
}

#[test]
fn stated_use_never_lifts_our_own_charges() {
    let mut w =
        World::with(Engine::newly_in_force(account(vec![sliding("daily", 100, 86_400)]), START), START);
    for _ in 0..3 {
        w.ask(30);
        w.pass(SECOND * 3);
        w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    }
    let charged = w.used("daily");
    w.tell(stated(0, w.now));
    assert_eq!(w.used("daily"), charged);
    w.tell(stated(95, w.now));
    assert_eq!(w.used("daily"), 95, "others have used the rest");
    w.tell(stated(95, w.now));
    assert_eq!(w.used("daily"), 95, "the same value again changes nothing");
}

/// The engine of an account with a daily limit of 100, of which ours have drawn 3 by the time that is returned.
fn daily_with_own_calls() -> (World, Time) {
    let config = account(vec![sliding("daily", 100, 86_400)]);
    let mut w = World::with(Engine::newly_in_force(config, START), START);
    own_calls(&mut w, 3);
    let now = w.now;
    (w, now)
}

fn own_calls(w: &mut World, calls: usize) {
    let before = w.used("daily");
    for _ in 0..calls {
        w.ask(1);
        w.pass(SECOND * 3);
        w.grants().into_iter().for_each(|attempt| w.answered(attempt));
    }
    assert_eq!(w.used("daily"), before + calls as u64);
}

/// A person looks at the provider's page, and the program runs on until the quota is patched.
#[test]
fn calls_since_the_time_of_a_statement_come_on_top_of_it() {
    let (mut w, looked_at) = daily_with_own_calls();
    own_calls(&mut w, 20);
    w.tell(stated(40, looked_at));
    assert_eq!(w.used("daily"), 40 + 20);
}

#[test]
fn a_later_statement_replaces_an_earlier_one_also_where_it_is_lower() {
    let (mut w, first) = daily_with_own_calls();
    w.tell(stated(90, first));
    assert_eq!(w.used("daily"), 90);
    own_calls(&mut w, 2);
    w.tell(stated(9, first));
    assert_eq!(w.used("daily"), 9 + 2, "a mistake is corrected, of the same time");
    own_calls(&mut w, 2);
    w.tell(stated(50, w.now));
    assert_eq!(w.used("daily"), 50);
    w.tell(stated(0, w.now));
    assert_eq!(w.used("daily"), 3 + 2 + 2, "ours stay");
}

/// Twelve hours later, an answer shows more.
#[test]
fn what_answers_reveal_after_a_statement_stays() {
    let (mut w, at) = daily_with_own_calls();
    w.pass(SECOND * 43_200);
    w.ask(1);
    let asking = w.grants();
    w.answered_with(asking[0], told("daily", 100, 30));
    let told = w.used("daily");
    assert!(told >= 70, "{told}");
    w.tell(stated(10, at));
    assert_eq!(w.used("daily"), told);
}

fn any_limit() -> impl Strategy<Value = LimitConfig> {
    let counted = prop_oneof![
        Just(CountedAs::Unknown),
        Just(CountedAs::SlidingWindow),
        Just(CountedAs::FixedWindow),
        Just(CountedAs::TokenBucket),
        Just(CountedAs::LeakyBucket),
    ];
    let burst = prop::option::of(1u64..30);
    (2u64..80, 2u64..60, counted, burst).prop_map(|(amount, seconds, counted_as, burst)| LimitConfig {
        counted_as,
        burst,
        ..limit("requests", amount, seconds)
    })
}

/// Grants of an engine with calls waiting all the time, a tenth of a second at a time.
fn granted(w: &mut World, length: Duration) -> usize {
    let (mut total, end) = (0, w.now + length);
    while w.now < end {
        w.ask(20);
        w.pass((MS * 100).min(end.since(w.now)));
        let grants = w.grants();
        total += grants.len();
        grants.into_iter().for_each(|attempt| w.answered(attempt));
    }
    total
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// A predecessor grants what it can; its successor, without its ledger, counts at least what of that is in the
    /// provider's window, and no more than the record allows.
    #[test]
    fn a_successor_counts_what_its_predecessor_can_have_granted(
        limit in any_limit(),
        in_force in 1u64..90_000,
    ) {
        let in_force = MS * u32::try_from(in_force).unwrap();
        let config = account(vec![limit.clone()]);
        let mut predecessor = World::with(Engine::newly_in_force(config.clone(), START), START);
        let all = granted(&mut predecessor, in_force);
        let counted = predecessor.used("requests");
        let until = predecessor.now;
        let engine = Engine::takeover(config.clone(), Predecessor { until, in_force: Some(in_force) }, until);
        let mut successor = World::with(engine, until);
        let assumed = successor.used("requests");
        prop_assert!(assumed >= counted, "{} assumed, {} in the predecessor's log, {} granted", assumed, counted, all);

        let engine = Engine::takeover(config, Predecessor { until, in_force: None }, until);
        let unknown = World::with(engine, until).used("requests");
        prop_assert!(assumed <= unknown && unknown <= limit.amount.max(limit.effective_burst()));
    }

    /// Both together never exceed the limit in any window.
    #[test]
    fn a_takeover_exceeds_no_window(limit in any_limit(), in_force in 1u64..60_000) {
        let in_force = MS * u32::try_from(in_force).unwrap();
        let config = account(vec![limit.clone()]);
        let mut w = World::with(Engine::newly_in_force(config.clone(), START), START);
        let before = granted(&mut w, in_force);
        let until = w.now;
        let engine = Engine::takeover(config, Predecessor { until, in_force: Some(in_force) }, until);
        let mut w = World::with(engine, until);
        // What the predecessor granted has not left any window that ends before it began.
        let rest = limit.window.saturating_sub(in_force);
        if !rest.is_zero() {
            let after = granted(&mut w, rest);
            let most = match limit.counted_as {
                CountedAs::TokenBucket | CountedAs::LeakyBucket => limit.amount + limit.effective_burst(),
                _ => limit.amount,
            };
            prop_assert!((before + after) as u64 <= most, "{} and {} of {}", before, after, most);
        }
    }
}

mod slots {
    use quotakeeper_engine::event::{Attempt, CallId, Fingerprint, GrantProgress, ResumedGrant, SessionId};

    use super::*;
    use crate::world::{concurrent, over};

    const LIMIT: u64 = 4;

    /// A takeover of a limit of calls at the same time, all of which may be under way.
    fn taken_over() -> World {
        let mut w = World::with(
            Engine::takeover(account(vec![concurrent("parallel", LIMIT)]), predecessor(START), START),
            START,
        );
        w.ask(10);
        w.pass(SECOND * 10);
        assert_eq!(w.grants().len(), 0, "it is not known who else calls");
        w
    }

    fn named(w: &mut World, call: u64) -> Attempt {
        named_when(false, w, call)
    }

    fn named_when(over: bool, w: &mut World, call: u64) -> Attempt {
        let attempt = Attempt { session: SessionId(7), call: CallId(call), number: 1 };
        let progress = GrantProgress::Answered { latest: w.now };
        w.tell(Event::ResumeGrant(ResumedGrant {
            attempt,
            consumer: "job".into(),
            demand: Default::default(),
            credential: Fingerprint(0),
            granted: None,
            progress,
            over,
        }));
        attempt
    }

    #[test]
    fn are_held_until_all_proxies_have_named_their_calls() {
        let mut w = taken_over();
        let first = named(&mut w, 1);
        w.pass(SECOND * 20);
        assert_eq!(w.used("parallel"), LIMIT, "it is one of those");
        w.tell(over(first));
        assert_eq!(w.grants().len(), 1);
        let second = named(&mut w, 2);
        w.tell(Event::PredecessorNamed);
        assert_eq!(w.grants().len() as u64, LIMIT - 2);
        w.tell(over(second));
        assert_eq!(w.grants().len(), 1);
    }

    #[test]
    fn are_held_for_no_longer_than_a_call_lasts() {
        let mut w = taken_over();
        w.pass(SECOND * 580);
        w.ask(10);
        assert_eq!(w.grants().len(), 0);
        w.pass(SECOND * 30);
        assert_eq!(w.grants().len() as u64, LIMIT);
    }

    /// Its end was reported to the predecessor, which has given its slot to another call since.
    #[test]
    fn a_call_that_is_over_as_soon_as_it_is_named_frees_none() {
        let mut w = taken_over();
        let ended = named_when(true, &mut w, 1);
        w.tell(over(ended));
        w.pass(SECOND);
        assert_eq!((w.grants().len(), w.used("parallel")), (0, LIMIT));
    }

    #[test]
    fn are_held_by_its_successor_too() {
        let mut w = taken_over();
        w.alive(1);
        let (snapshot, reserve) = w.commit(2);
        let config = account(vec![concurrent("parallel", LIMIT)]);
        let mut w = World::with(Engine::restart(config, snapshot, reserve, w.now), w.now);
        w.commit(2);
        w.tell(Event::ResumeDone(SessionId(1)));
        w.ask(10);
        w.pass(SECOND * 10);
        assert_eq!(w.grants().len(), 0, "those of the session that has come are not all");
        w.tell(Event::PredecessorNamed);
        w.commit(10);
        assert_eq!(w.grants().len() as u64, LIMIT);
    }
}
