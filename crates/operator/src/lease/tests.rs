//! Two replicas and their clocks.

#![allow(clippy::unwrap_used)]

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn written(step: Step) -> Lease {
    match step {
        Step::Create(lease) | Step::Replace(lease) => *lease,
        Step::Wait => panic!("nothing was to be written"),
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().unwrap().holder_identity.as_deref().unwrap()
}

#[test]
fn the_first_creates_it_and_keeps_it_by_renewing() {
    let (mut a, mut b) = (Contender::new("a"), Contender::new("b"));
    let Step::Create(mut lease) = a.next(None, seconds(0), wall(0)) else { panic!() };
    for second in 1..200 {
        // The other's clock runs from another origin, and its wall clock is an hour off.
        assert_eq!(b.next(Some(&lease), seconds(9000 + second), wall(3600)), Step::Wait);
        let renewed = written(a.next(Some(&lease), seconds(second), wall(second as i64)));
        let (old, new) = (lease.spec.as_ref().unwrap(), renewed.spec.as_ref().unwrap());
        assert_eq!(old.acquire_time, new.acquire_time, "it was acquired once");
        assert_eq!(new.lease_transitions, Some(0));
        *lease = renewed;
    }
}

#[test]
fn one_that_died_is_followed_after_the_whole_lease_as_the_other_saw_it() {
    let (mut a, mut b) = (Contender::new("a"), Contender::new("b"));
    let lease = written(a.next(None, seconds(0), wall(0)));
    assert_eq!(b.next(Some(&lease), seconds(100), wall(0)), Step::Wait);
    assert_eq!(b.next(Some(&lease), seconds(115), wall(0)), Step::Wait, "not before it has ended");
    let taken = written(b.next(Some(&lease), seconds(116), wall(9)));
    assert_eq!(holder(&taken), "b");
    assert_eq!(taken.spec.as_ref().unwrap().lease_transitions, Some(1));
    assert_eq!(a.next(Some(&taken), seconds(20), wall(10)), Step::Wait, "the old one does not fight");
}

#[test]
fn a_lease_that_is_given_up_is_free_at_once() {
    let (mut a, mut b) = (Contender::new("a"), Contender::new("b"));
    let lease = written(a.next(None, seconds(0), wall(0)));
    assert_eq!(b.released(&lease, wall(1)), None, "another's lease is left alone");
    let released = a.released(&lease, wall(1)).unwrap();
    assert_eq!(holder(&written(b.next(Some(&released), seconds(1), wall(1)))), "b");
}

#[test]
fn a_writer_has_ended_before_another_may_hold_the_lease() {
    assert!(BELIEF + REQUEST < DURATION);
    assert!(RETRY + REQUEST < BELIEF, "one failed renewal does not end the leadership");
}

#[tokio::test]
async fn belief_ends_by_itself() {
    let leadership = Leadership::default();
    assert!(!leadership.holds());
    leadership.extend(clock::now());
    assert!(leadership.holds());
    leadership.gained().await;
    leadership.resign();
    leadership.lost().await;
    assert!(!leadership.holds());
    // A renewal that was asked for too long ago is none.
    leadership.extend(clock::now().saturating_sub(BELIEF));
    assert!(!leadership.holds());
}
