//! A long wait that one workload reports binds it at once, and the others once another of them has heard it.

use std::time::Duration;

use proptest::prelude::*;
use quotakeeper_engine::event::{Attempt, CallClass, Callers, Fingerprint, RejectionClass};

use crate::world::*;

const HOUR: Duration = Duration::from_secs(3600);

fn world() -> World {
    let mut config = account(vec![sliding("requests", 1000, 10)]);
    config.pause.cap = HOUR * 24;
    config.queue.max_wait = HOUR * 48;
    World::of(config)
}

/// A call of a workload, each with a session and a credential of its own.
fn ask(w: &mut World, workload: u64) {
    let consumer = format!("ns/Job/{workload}");
    w.ask_with(workload, &consumer, CallClass::default().into(), Fingerprint(workload), None);
}

fn granted(w: &mut World, workload: u64) -> Attempt {
    ask(w, workload);
    let grants = w.grants();
    assert_eq!(grants.len(), 1);
    grants[0]
}

fn told_hour(w: &mut World, attempt: Attempt) {
    w.rejected(attempt, RejectionClass::Quota, Some(HOUR));
}

/// The first grants within a minute.
fn first_grants(w: &mut World) -> Vec<Attempt> {
    for _ in 0..60 {
        w.pass(SECOND);
        let grants = w.grants();
        if !grants.is_empty() {
            return grants;
        }
    }
    Vec::new()
}

#[test]
fn a_workload_that_reports_an_hour_waits_alone_once_another_was_answered() {
    let mut w = world();
    // Of the one that reports several are under way: each says it again.
    (0..5).for_each(|_| ask(&mut w, 1));
    let reports = w.grants();
    told_hour(&mut w, reports[0]);
    (0..20).for_each(|_| ask(&mut w, 2));
    let probe = w.grants();
    assert_eq!(probe.len(), 1, "one call of another workload asks");
    w.answered(probe[0]);
    let others = w.grants();
    assert_eq!(others.len(), 19, "and then they are free");
    for attempt in &reports[1..] {
        told_hour(&mut w, *attempt);
    }
    assert_eq!(granted(&mut w, 3).number, 1, "what was under way asks nobody again");
    ask(&mut w, 3);
    assert_eq!(w.grants().len(), 1);
    let pauses = w.engine.status(w.now).pauses;
    assert_eq!(pauses.len(), 1, "{pauses:?}");
    assert_eq!(pauses[0].callers, Callers::Workload("ns/Job/1".into()));
    w.pass(SECOND * 3590);
    assert_eq!(w.grants().len(), 0, "it obeys in full");
    assert_eq!(first_grants(&mut w).len(), 1, "and then asks by one call");
}

#[test]
fn a_second_witness_binds_all_until_the_later_time() {
    let mut w = world();
    let first = granted(&mut w, 1);
    told_hour(&mut w, first);
    let probe = granted(&mut w, 2);
    w.rejected(probe, RejectionClass::Quota, Some(SECOND * 120));
    (1..5).for_each(|workload| ask(&mut w, workload));
    w.pass(SECOND * 3590);
    assert_eq!(w.grants().len(), 0);
    let pauses = w.engine.status(w.now).pauses;
    assert!(pauses.iter().any(|pause| pause.callers.is_all()), "{pauses:?}");
    let probe = first_grants(&mut w);
    assert_eq!(probe.len(), 1, "one probe for all");
    w.answered(probe[0]);
    assert!(!w.grants().is_empty());
}

#[test]
fn a_witness_of_a_short_wait_binds_all_for_that_and_another_is_asked() {
    let mut w = world();
    let first = granted(&mut w, 1);
    told_hour(&mut w, first);
    let probe = granted(&mut w, 2);
    w.rejected(probe, RejectionClass::Quota, Some(SECOND));
    ask(&mut w, 3);
    assert_eq!(w.grants().len(), 0);
    w.pass(SECOND * 2);
    let probe = w.grants();
    assert_eq!(probe.len(), 1);
    w.answered(probe[0]);
    assert!(!w.grants().is_empty());
}

#[test]
fn a_workload_alone_asks_nobody() {
    let mut w = world();
    let first = granted(&mut w, 1);
    told_hour(&mut w, first);
    (0..5).for_each(|_| ask(&mut w, 1));
    w.pass(SECOND * 3590);
    assert_eq!(w.grants().len(), 0);
    let pauses = w.engine.status(w.now).pauses;
    assert!(pauses.len() == 1 && pauses[0].callers.is_all(), "nobody else is known: {pauses:?}");
}

#[test]
fn a_pause_of_a_workload_that_is_gone_is_no_longer_shown() {
    let mut w = world();
    let first = granted(&mut w, 1);
    told_hour(&mut w, first);
    let other = granted(&mut w, 2);
    w.answered(other);
    assert_eq!(w.engine.status(w.now).pauses.len(), 1);
    w.tell(quotakeeper_engine::event::Event::PodDeleted(first.session));
    w.now += HOUR + SECOND * 60;
    assert_eq!(w.engine.status(w.now).pauses, []);
}

#[test]
fn a_minute_binds_all_at_once() {
    let mut w = world();
    let first = granted(&mut w, 1);
    w.rejected(first, RejectionClass::Quota, Some(SECOND * 60));
    ask(&mut w, 2);
    w.pass(SECOND * 59);
    assert_eq!(w.grants().len(), 0);
}

#[test]
fn a_used_up_window_of_our_own_count_needs_no_witness() {
    let mut w = World::new(vec![sliding("requests", 5, 120)]);
    let mut last = None;
    for _ in 0..5 {
        let attempt = granted(&mut w, 1);
        w.tell(quotakeeper_engine::event::Event::FirstByte { attempt, latest: w.now, observations: vec![] });
        last = Some(attempt);
    }
    w.tell(over(last.unwrap()));
    ask(&mut w, 2);
    w.pass(SECOND * 119);
    assert_eq!(w.grants().len(), 0, "nobody is sent to ask what is known");
}

/// What happens next: a call of a workload, an answer to one that is under way, or time.
#[derive(Clone, Debug)]
enum Step {
    Ask(u64),
    Reject { terminal: bool, wait: Option<u64> },
    Answer,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u64).prop_map(Step::Ask),
        3 => (any::<bool>(), proptest::option::of(61..200_000_u64))
            .prop_map(|(terminal, wait)| Step::Reject { terminal, wait }),
        1 => Just(Step::Answer),
        1 => (1..5_000_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Workload 1 is told whatever there is, by a pod that forges or a provider that errs; the others are answered.
    #[test]
    fn no_answer_to_one_workload_holds_another(steps in proptest::collection::vec(step(), 1..60)) {
        let mut w = world();
        let mut odd: Vec<Attempt> = Vec::new();
        let settle = |w: &mut World, odd: &mut Vec<Attempt>| loop {
            let grants = w.grants();
            if grants.is_empty() {
                break;
            }
            for attempt in grants {
                if attempt.session.0 == 1 { odd.push(attempt) } else { w.answered(attempt) }
            }
        };
        for step in steps {
            match step {
                Step::Ask(workload) => ask(&mut w, workload),
                Step::Reject { terminal, wait } => {
                    let Some(attempt) = odd.pop() else { continue };
                    let class = if terminal { RejectionClass::Terminal } else { RejectionClass::Quota };
                    // Without a time it would be a short pause of everyone.
                    let wait = if terminal { None } else { Some(wait.unwrap_or(3600)) };
                    w.rejected(attempt, class, wait.map(Duration::from_secs));
                }
                Step::Answer => if let Some(attempt) = odd.pop() { w.answered(attempt) },
                Step::Pass(millis) => w.pass(MS * millis as u32),
            }
            settle(&mut w, &mut odd);
            let waiting = w.engine.status(w.now).waiting;
            // Where the odd workload's call is the probe, the others wait until it is answered, or for its patience.
            let held = waiting.iter().find(|wait| wait.consumer != "ns/Job/1" && wait.longest > SECOND * 3);
            prop_assert!(held.is_none(), "{held:?}");
        }
        // Nothing is stopped for ever: what the odd workload still waits for comes at the latest when its words end.
        odd.into_iter().for_each(|attempt| w.answered(attempt));
        ask(&mut w, 2);
        for _ in 0..40 {
            w.now += HOUR;
            (1..4).for_each(|session| w.alive(session));
            let mut odd = Vec::new();
            settle(&mut w, &mut odd);
            odd.into_iter().for_each(|attempt| w.answered(attempt));
        }
        settle(&mut w, &mut Vec::new());
        ask(&mut w, 1);
        prop_assert_eq!(w.grants().len(), 1);
        prop_assert!(w.engine.status(w.now).waiting.is_empty());
    }
}
