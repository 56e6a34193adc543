//! The book's decisions, recounted from its own log by brute force.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::counting::CountedAs;
use crate::counting::Counter;

const MILLI: u64 = NANOS_PER_MILLI;

fn call(arrival: u64, model: &str) -> Call {
    Call {
        arrival,
        dialect: Dialect::Openai,
        account: Some("key".into()),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        model: Some(model.into()),
        endpoint: None,
        protocol: Protocol::H1,
        connection: 1,
        invalid: false,
        wanted: None,
    }
}

fn book(limits: Vec<Limit>, rejected_counts: bool) -> Book {
    let mut book = Book::new(RuleBook::default());
    let rules = Rules { limits: Some(limits), rejected_counts: Some(rejected_counts), ..Rules::default() };
    book.set_rules("key", rules);
    book
}

#[test]
fn a_call_over_one_limit_is_charged_to_none_unless_rejected_calls_count() {
    for (rejected_counts, wide) in [(false, 1), (true, 2)] {
        let limits = vec![
            Limit::new("wide", 9, 10, CountedAs::Sliding),
            Limit::new("narrow", 1, 10, CountedAs::Sliding),
        ];
        let mut book = book(limits, rejected_counts);
        assert_eq!(book.admit(call(0, "m"), 0).verdict, Verdict::Ok);
        let over = book.admit(call(1, "m"), 1);
        assert_eq!(over.verdict, Verdict::Over);
        assert_eq!(over.exceeded.unwrap().name, "narrow");
        assert_eq!(book.log(Some("key"))[1].counts["wide"], wide);
    }
}

#[test]
fn a_call_beyond_those_that_may_be_under_way_is_over_and_uncharged() {
    let mut book = book(vec![Limit::new("l", 9, 10, CountedAs::Sliding)], true);
    book.set_rules("key", Rules { most_under_way: Some(2), ..Rules::default() });
    let first = book.admit(call(0, "m"), 0);
    let others = [1, 2].map(|at| book.admit(call(at, "m"), at).verdict);
    assert_eq!((first.verdict, others), (Verdict::Ok, [Verdict::Ok, Verdict::Over]));
    book.ended(&first.ticket, 1, true, 3);
    assert_eq!(book.admit(call(4, "m"), 4).verdict, Verdict::Ok);
    let log = book.log(Some("key"));
    let seen: Vec<_> = log.iter().map(|entry| (entry.under_way, entry.counts["l"])).collect();
    assert_eq!(seen, [(1, 1), (2, 2), (2, 2), (2, 3)]);
}

#[test]
fn models_are_counted_separately() {
    let mut book = book(vec![Limit { per_model: true, ..Limit::new("l", 1, 10, CountedAs::Sliding) }], false);
    let verdicts = ["a", "b", "a"].map(|model| book.admit(call(0, model), 0).verdict);
    assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Over]);
    let summary = book.summary("key");
    let models: Vec<_> =
        summary.limits.iter().map(|limit| (limit.model.clone().unwrap(), limit.over)).collect();
    assert_eq!(models, [("a".to_owned(), 1), ("b".to_owned(), 0)]);
}

#[test]
fn a_changed_limit_keeps_its_count() {
    let mut book = book(vec![Limit::new("l", 9, 10, CountedAs::Sliding)], false);
    (0..3).for_each(|at| assert_eq!(book.admit(call(at, "m"), at).verdict, Verdict::Ok));
    let rules = |count| Rules {
        limits: Some(vec![Limit::new("l", count, 10, CountedAs::Sliding)]),
        ..Rules::default()
    };
    book.set_rules("key", rules(3));
    assert_eq!(book.admit(call(4, "m"), 4).verdict, Verdict::Over);
    book.set_rules("key", rules(4));
    assert_eq!(book.admit(call(5, "m"), 5).verdict, Verdict::Ok);
}

#[test]
fn a_slow_body_counts_at_the_newest_instant_and_time_never_goes_back() {
    let mut book = book(vec![Limit::new("l", 1, 10, CountedAs::Sliding)], false);
    assert_eq!(book.admit(call(5, "m"), 5).verdict, Verdict::Ok);
    assert_eq!(book.admit(call(2, "m"), 6).verdict, Verdict::Over);
    let log = book.log(Some("key"));
    assert_eq!((log[1].arrival_nanos, log[1].counted_nanos), (2, 5));
    assert_eq!(book.summary("key").largest_shift_nanos, 3);
}

#[test]
fn forced_responses_are_not_charged() {
    let mut book = book(vec![Limit::new("l", 1, 10, CountedAs::Sliding)], false);
    book.force(Force { account: Some("key".into()), ..Force::default() }, 0);
    book.down(3);
    let verdicts = [1, 3, 4, 5].map(|at| book.admit(call(at, "m"), at).verdict);
    assert_eq!(verdicts, [Verdict::Down, Verdict::Forced, Verdict::Ok, Verdict::Over]);
}

#[test]
fn a_forced_answer_is_never_laid_to_a_full_limit() {
    let mut book = book(vec![Limit::new("l", 1, 10, CountedAs::Sliding)], true);
    assert_eq!(book.admit(call(0, "m"), 0).verdict, Verdict::Ok);
    book.force(Force::default(), 1);
    assert_eq!(book.admit(call(1, "m"), 1).verdict, Verdict::Forced);
    let entry = &book.log(Some("key"))[1];
    assert_eq!((entry.exceeded.as_deref(), entry.counts["l"]), (None, 1));
    assert_eq!(book.summary("key").limits[0].over, 0);
}

#[test]
fn a_credential_belongs_to_the_provider_that_it_first_called() {
    let mut book = book(vec![], false);
    let elsewhere = Call { dialect: Dialect::Hubspot, ..call(1, "m") };
    assert_eq!(book.admit(call(0, "m"), 0).verdict, Verdict::Ok);
    let decision = book.admit(elsewhere.clone(), 1);
    assert_eq!((decision.verdict, decision.belongs_to), (Verdict::Unauthorized, Some(Dialect::Openai)));
    assert_eq!(book.admit(Call { account: None, ..elsewhere.clone() }, 2).verdict, Verdict::Unauthorized);
    book.reset(Some("key"));
    assert_eq!(book.admit(elsewhere, 3).verdict, Verdict::Ok);
    assert_eq!(book.log(None).len(), 2);
}

/// Whether a call at `at` is over `limit` when `charged` was charged before: from scratch, without any state.
fn naive_over(limit: &Limit, charged: &[u64], at: u64) -> bool {
    let window = limit.window_millis * MILLI;
    match limit.counted_as {
        CountedAs::Sliding => {
            charged.iter().filter(|&&before| before + window > at).count() as u64 >= limit.count
        }
        CountedAs::Fixed => {
            // Shifted by whole windows so that it is never negative.
            let index = |at: u64| (at + 1_000 * window - limit.phase_millis * MILLI) / window;
            charged.iter().filter(|&&before| index(before) == index(at)).count() as u64 >= limit.count
        }
        CountedAs::Bucket => {
            let unit = u128::from(window);
            let full = unit * u128::from(limit.capacity());
            let refill =
                |level: u128, nanos: u64| full.min(level + u128::from(nanos) * u128::from(limit.count));
            let (level, last) = charged
                .iter()
                .fold((full, 0), |(level, last), &now| (refill(level, now - last).saturating_sub(unit), now));
            refill(level, at - last) < unit
        }
    }
}

/// The limits that a call is over, in the rules' order, by everything that the log says was charged before it.
fn naive_verdicts(limits: &[Limit], rejected_counts: bool, log: &[Entry]) -> Vec<Option<String>> {
    let judge = |(index, entry): (usize, &Entry)| {
        let over = |limit: &&Limit| {
            let same = |other: &&Entry| !limit.per_model || other.model == entry.model;
            let charges = |other: &&Entry| other.verdict == Verdict::Ok || rejected_counts;
            let earlier = log[..index].iter().filter(same).filter(charges);
            naive_over(
                limit,
                &earlier.map(|other| other.counted_nanos).collect::<Vec<_>>(),
                entry.counted_nanos,
            )
        };
        limits.iter().find(over).map(|limit| limit.name.clone())
    };
    log.iter().enumerate().map(judge).collect()
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let kinds = prop_oneof![Just(CountedAs::Sliding), Just(CountedAs::Fixed), Just(CountedAs::Bucket)];
    (1..6_u64, 1..20_u64, kinds, 0..40_u64, 1..6_u64, any::<bool>()).prop_map(
        |(count, window, kind, phase, bucket, per_model)| Limit {
            phase_millis: if kind == CountedAs::Fixed { phase } else { 0 },
            bucket: (kind == CountedAs::Bucket).then_some(bucket),
            per_model,
            ..Limit::new("l", count, window, kind)
        },
    )
}

proptest! {
    #[test]
    fn the_log_recounted_by_brute_force_gives_the_same_verdicts(
        limits in prop::collection::vec(any_limit(), 1..4),
        rejected_counts: bool,
        // Gaps in half milliseconds with a nanosecond to and fro, so that edges are hit, missed and passed; a call may be
        // counted after a later one.
        calls in prop::collection::vec((0..12_u64, 0..3_u64, 0..2_usize, 0..8_u64), 1..60),
    ) {
        let limits: Vec<Limit> = limits
            .into_iter()
            .enumerate()
            .map(|(index, limit)| Limit { name: format!("l{index}"), ..limit })
            .collect();
        let mut book = book(limits.clone(), rejected_counts);
        let mut now = MILLI;
        for (halves, nudge, model, late) in calls {
            now += (halves * MILLI / 2 + nudge).saturating_sub(1);
            let arrival = now.saturating_sub(late.saturating_sub(5) * MILLI);
            book.admit(call(arrival, ["a", "b"][model]), now);
        }
        let log = book.log(Some("key"));
        prop_assert!(log.windows(2).all(|pair| pair[0].counted_nanos <= pair[1].counted_nanos));
        let expected = naive_verdicts(&limits, rejected_counts, &log);
        let said: Vec<_> = log.iter().map(|entry| entry.exceeded.clone()).collect();
        prop_assert_eq!(said, expected);
        // What was accepted never exceeds a sliding limit in any span.
        for summary in book.summary("key").limits {
            prop_assert!(summary.counted_as != CountedAs::Sliding || summary.largest_sliding <= summary.count);
            prop_assert!(summary.counted_as != CountedAs::Fixed || summary.windows.iter().all(|n| *n <= summary.count));
        }
    }

    #[test]
    fn a_call_succeeds_exactly_when_retry_after_has_passed(
        limit in any_limit(),
        gaps in prop::collection::vec(0..20 * MILLI, 1..20),
    ) {
        let mut counter = Counter::new(&limit);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            counter.charge(now);
        }
        let wait = counter.state(now).next_in;
        if wait > 0 {
            prop_assert!(counter.clone().state(now + wait - 1).next_in > 0);
        }
        prop_assert_eq!(counter.state(now + wait).next_in, 0);
        let full_in = counter.state(now + wait).full_in;
        prop_assert_eq!(counter.state(now + wait + full_in).used, 0);
    }
}
