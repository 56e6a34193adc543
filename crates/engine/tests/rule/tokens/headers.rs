//! What answers tell of limits of tokens whose calls are only estimated.

use super::*;

#[test]
fn headers_raise_the_level_of_a_bucket_and_accuse_nobody() {
    let bucket =
        LimitConfig { counted_as: CountedAs::TokenBucket, ..output(10_000, 60, Charged::AsProduced) };
    let mut w = World::new(vec![bucket]);
    w.asks(&call(0, 1_000), 1);
    let attempt = w.grants()[0];
    let left = |remaining| Observation {
        limit: "output".to_owned(),
        hard: Some(10_000),
        remaining: Some(remaining),
        ends_in: None,
    };
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: vec![left(2_000)] });
    w.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(used(0, 100)) });
    w.asks(&call(0, 1_000), 5);
    assert_eq!(w.grants().len(), 1, "8,000 are in it, whoever put them there");
    assert_eq!(w.engine.status(w.now).limits[0].used_by_others, 0);
}

#[test]
fn what_others_use_of_the_rest_of_a_limit_does_not_fill_our_share_of_it() {
    let bucket = LimitConfig { counted_as: CountedAs::TokenBucket, ..output(3_000, 60, Charged::AsProduced) };
    let mut w = World::new(vec![LimitConfig { declared: Some(10_000), ..bucket }]);
    w.asks(&call(0, 1_000), 1);
    let attempt = w.grants()[0];
    let left =
        Observation { limit: "output".to_owned(), hard: Some(10_000), remaining: Some(3_000), ends_in: None };
    w.tell(Event::FirstByte { attempt, latest: w.now, observations: vec![left] });
    w.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(used(0, 0)) });
    w.pass(SECOND);
    w.asks(&call(0, 1_000), 5);
    assert_eq!(w.grants().len(), 3, "7,000 are theirs, 3,000 ours");
}

/// The call was long on its way to its answer: what has left flight meanwhile may have drained already.
#[test]
fn headers_raise_no_level_beyond_what_the_bucket_holds() {
    let bucket =
        LimitConfig { counted_as: CountedAs::TokenBucket, ..output(10_000, 60, Charged::AsProduced) };
    let mut w = World::new(vec![bucket]);
    w.asks(&call(0, 1_000), 1);
    let slow = w.grants()[0];
    for _ in 0..20 {
        w.asks(&call(0, 1_000), 1);
        for attempt in w.grants() {
            w.ends(attempt, CallEnd::Seen, Some(used(0, 1_000)));
        }
        w.pass(SECOND * 7);
    }
    let left = Observation { limit: "output".to_owned(), hard: None, remaining: Some(0), ends_in: None };
    w.tell(Event::FirstByte { attempt: slow, latest: w.now, observations: vec![left] });
    w.tell(Event::Done { attempt: slow, end: CallEnd::Seen, usage: Some(used(0, 0)) });
    w.pass(SECOND * 61);
    w.asks(&call(0, 1_000), 20);
    assert_eq!(w.grants().len(), 10, "20,000 had left flight, and a window later the bucket is empty");
}

/// Of a log the part that ours do not explain counts for a window. Where the most that a call can use is held it is
/// others'; an estimate may just have been too low.
#[test]
fn headers_charge_a_log_with_what_ours_do_not_explain() {
    let exact = output(10_000, 60, Charged::Settled);
    for (limit, accused) in [(exact.clone(), 7_000), (learned(exact), 0)] {
        let mut w = World::new(vec![limit]);
        w.asks(&call(0, 1_000), 1);
        let attempt = w.grants()[0];
        let left = Observation {
            limit: "output".to_owned(),
            hard: Some(10_000),
            remaining: Some(2_000),
            ends_in: None,
        };
        w.tell(Event::FirstByte { attempt, latest: w.now, observations: vec![left] });
        w.tell(Event::Done { attempt, end: CallEnd::Seen, usage: Some(used(0, 1_000)) });
        assert_eq!(w.engine.status(w.now).limits[0].used_by_others, accused);
        w.asks(&call(0, 1_000), 5);
        assert_eq!(w.grants().len(), 2, "7,000 are others', 1,000 ours");
        w.pass(SECOND * 62);
        assert_eq!(w.grants().len(), 3);
    }
}
