//! Each kind of window against expectations written by hand, at the boundary instants above all.
#![allow(clippy::unwrap_used)]

use super::*;

const MILLI: u64 = NANOS_PER_MILLI;

fn limit(count: u64, window_millis: u64, counted_as: CountedAs) -> Limit {
    Limit::new("limit", count, window_millis, counted_as)
}

/// Charges what fits, as an account does whose rejected calls don't count; true for accepted.
fn play(limit: &Limit, arrivals: &[u64]) -> Vec<bool> {
    let mut counter = Counter::new(limit);
    let mut decide = |&at: &u64| {
        let fits = counter.state(at).next_in == 0;
        if fits {
            counter.charge(at);
        }
        fits
    };
    arrivals.iter().map(&mut decide).collect()
}

#[test]
fn a_sliding_window_frees_a_unit_exactly_a_window_later() {
    let limit = limit(2, 10, CountedAs::Sliding);
    let arrivals = [0, 3 * MILLI, 10 * MILLI - 1, 10 * MILLI, 13 * MILLI - 1, 13 * MILLI];
    assert_eq!(play(&limit, &arrivals), [true, true, false, true, false, true]);
}

#[test]
fn a_sliding_window_says_what_is_left_and_when() {
    let mut counter = Counter::new(&limit(2, 10, CountedAs::Sliding));
    assert_eq!(counter.state(0), LimitState { used: 0, remaining: 2, next_in: 0, full_in: 0 });
    counter.charge(MILLI);
    assert_eq!(counter.state(MILLI), LimitState { used: 1, remaining: 1, next_in: 0, full_in: 10 * MILLI });
    counter.charge(4 * MILLI);
    assert_eq!(
        counter.state(5 * MILLI),
        LimitState { used: 2, remaining: 0, next_in: 6 * MILLI, full_in: 9 * MILLI }
    );
    // Rejected calls that count: two of the four must leave before one more fits, the second leaves at 14 ms.
    counter.charge(6 * MILLI);
    counter.charge(7 * MILLI);
    assert_eq!(
        counter.state(7 * MILLI),
        LimitState { used: 4, remaining: 0, next_in: 9 * MILLI, full_in: 10 * MILLI }
    );
    assert_eq!(counter.state(16 * MILLI - 1).next_in, 1);
    assert_eq!(counter.state(16 * MILLI).next_in, 0);
}

#[test]
fn a_fixed_window_resets_at_its_edge() {
    let fixed = Limit { phase_millis: 4, ..limit(2, 10, CountedAs::Fixed) };
    // Windows of 10 ms from 4 ms on: [-6, 4), [4, 14), [14, 24).
    let arrivals = [
        0,
        1,
        2,
        4 * MILLI - 1,
        4 * MILLI,
        5 * MILLI,
        14 * MILLI - 1,
        14 * MILLI,
        14 * MILLI + 1,
        14 * MILLI + 2,
    ];
    assert_eq!(play(&fixed, &arrivals), [true, true, false, false, true, true, false, true, true, false]);
    let mut counter = Counter::new(&fixed);
    counter.charge(0);
    assert_eq!(counter.state(MILLI), LimitState { used: 1, remaining: 1, next_in: 0, full_in: 3 * MILLI });
    counter.charge(2 * MILLI);
    assert_eq!(
        counter.state(3 * MILLI),
        LimitState { used: 2, remaining: 0, next_in: MILLI, full_in: MILLI }
    );
    assert_eq!(counter.state(4 * MILLI), LimitState { used: 0, remaining: 2, next_in: 0, full_in: 0 });
}

#[test]
fn a_bucket_starts_full_and_gains_one_unit_every_nth_of_the_window() {
    // 5 per 10 ms is one each 2 ms; the bucket holds 2.
    let bucket = Limit { bucket: Some(2), ..limit(5, 10, CountedAs::Bucket) };
    let arrivals =
        [0, 0, 0, 2 * MILLI - 1, 2 * MILLI, 3 * MILLI, 4 * MILLI, 60 * MILLI, 60 * MILLI, 60 * MILLI];
    assert_eq!(play(&bucket, &arrivals), [true, true, false, false, true, false, true, true, true, false]);
    let mut counter = Counter::new(&bucket);
    counter.charge(0);
    counter.charge(0);
    assert_eq!(
        counter.state(0),
        LimitState { used: 2, remaining: 0, next_in: 2 * MILLI, full_in: 4 * MILLI }
    );
    assert_eq!(counter.state(3 * MILLI), LimitState { used: 1, remaining: 1, next_in: 0, full_in: MILLI });
}

#[test]
fn a_bucket_whose_rate_does_not_divide_the_window_loses_nothing() {
    // 3 per 10 ms: a unit every 3⅓ ms, so the third is there at exactly 10 ms.
    let bucket = Limit { bucket: Some(1), ..limit(3, 10, CountedAs::Bucket) };
    let third = 10 * MILLI / 3;
    assert_eq!(play(&bucket, &[0, third, third + 1]), [true, false, true]);
    let mut counter = Counter::new(&Limit { bucket: Some(3), ..bucket });
    (0..3).for_each(|_| counter.charge(0));
    assert_eq!(counter.state(10 * MILLI - 1).remaining, 2);
    assert_eq!(counter.state(10 * MILLI).remaining, 3);
}

#[test]
fn a_rejected_call_takes_from_a_bucket_what_is_left_of_a_unit() {
    let mut counter = Counter::new(&Limit { bucket: Some(1), ..limit(1, 10, CountedAs::Bucket) });
    counter.charge(0);
    assert_eq!(counter.state(9 * MILLI).next_in, MILLI);
    counter.charge(9 * MILLI);
    assert_eq!(counter.state(9 * MILLI).next_in, 10 * MILLI);
}

#[test]
fn a_limit_selects_the_calls_that_count() {
    let all = Limit { endpoint: Some("*".into()), ..limit(1, 1, CountedAs::Sliding) };
    let search = Limit { endpoint: Some("search".into()), ..all.clone() };
    let plain = Limit { endpoint: None, ..all.clone() };
    let per_model = Limit { per_model: true, ..plain.clone() };
    let matching =
        |model, endpoint| [&all, &search, &plain, &per_model].map(|limit| limit.matches(model, endpoint));
    assert_eq!(matching(None, None), [true, false, true, false]);
    assert_eq!(matching(None, Some("search")), [true, true, false, false]);
    assert_eq!(matching(Some("m"), None), [true, false, true, true]);
}

#[test]
fn amounts_wait_until_as_much_has_left() {
    let mut sliding = Counter::new(&limit(100, 10, CountedAs::Sliding));
    sliding.add(0, 60);
    sliding.add(4 * MILLI, 30);
    let next_in = |counter: &mut Counter, amount| counter.state_for(5 * MILLI, amount).next_in;
    assert_eq!(
        [10, 11, 70, 71, 100].map(|amount| next_in(&mut sliding, amount)),
        [0, 5, 5, 9, 9].map(|n| n * MILLI)
    );
    assert_eq!(next_in(&mut sliding, 101), u64::MAX);
    let mut fixed = Counter::new(&limit(100, 10, CountedAs::Fixed));
    fixed.add(0, 90);
    assert_eq!([10, 11].map(|amount| next_in(&mut fixed, amount)), [0, 5 * MILLI]);
    assert_eq!(next_in(&mut fixed, 101), u64::MAX);
    let mut bucket = Counter::new(&Limit { bucket: Some(50), ..limit(100, 10, CountedAs::Bucket) });
    bucket.add(0, 50);
    assert_eq!([50, 51].map(|amount| next_in(&mut bucket, amount)), [0, u64::MAX]);
}

#[test]
fn what_runs_over_a_limit_is_owed() {
    let mut bucket = Counter::new(&limit(100, 10, CountedAs::Bucket));
    bucket.add(0, 150);
    let owing = LimitState { used: 150, remaining: 0, next_in: 5_100_000, full_in: 15 * MILLI };
    assert_eq!(bucket.state(0), owing);
    // A rejected call takes what is there, and owes nothing.
    bucket.charge_rejected(0, 30);
    assert_eq!(bucket.state(0), owing);
    bucket.charge_rejected(6 * MILLI, 30);
    assert_eq!(bucket.state(6 * MILLI).used, 100);
    let mut sliding = Counter::new(&limit(100, 10, CountedAs::Sliding));
    sliding.add(0, 150);
    assert_eq!(sliding.state(0).used, 150);
}

#[test]
fn what_is_given_back_counts_no_more() {
    let after = |counted_as, at: u64| {
        let mut counter = Counter::new(&limit(100, 10, counted_as));
        counter.add(0, 80);
        counter.add(2 * MILLI, 10);
        counter.refund(at, 0, 50);
        counter.state(at).used
    };
    assert_eq!(after(CountedAs::Sliding, 3 * MILLI), 40);
    assert_eq!(after(CountedAs::Sliding, 11 * MILLI), 10, "it has left already");
    assert_eq!(after(CountedAs::Fixed, 3 * MILLI), 40);
    assert_eq!(after(CountedAs::Fixed, 11 * MILLI), 0, "it was another window's");
    assert_eq!(after(CountedAs::Bucket, 2 * MILLI), 20);
    assert_eq!(after(CountedAs::Bucket, 5 * MILLI), 0, "a bucket holds no more than it does");
}
