//! Calls larger than the bucket: they go alone, and what the provider rejects even so is asked for no more.

use quotakeeper_engine::event::{RejectionClass, Scope};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A bucket of 2,000 tokens of which 10,000 a minute come back, by an exact formula.
fn bucket() -> World {
    let limit = with_formula(tokens(10_000, 60, Charged::AtArrival), 4, ArrivalOutput::Added);
    World::new(vec![LimitConfig { counted_as: CountedAs::TokenBucket, burst: Some(2_000), ..limit }])
}

/// Lets time pass in steps in which the session lives on.
fn wait(w: &mut World, time: Duration) {
    for _ in 0..time.as_secs() / 10 {
        w.pass(Duration::from_secs(10));
    }
}

fn words(w: &World) -> Vec<String> {
    let words = |action: &Action| match action {
        Action::Refuse { reason: RefusalReason::NeverFits, words, .. } => words.clone(),
        _ => None,
    };
    w.actions.iter().filter_map(words).collect()
}

#[test]
fn what_the_provider_rejects_although_it_is_alone_is_refused_for_an_hour() {
    let mut w = bucket();
    w.asks(&call(4_000, 4_000), 2);
    w.asks(&call(4_000, 2_000), 1);
    let large = w.grants();
    assert_eq!(large.len(), 1, "it has the bucket for itself");
    w.rejected(large[0], RejectionClass::Quota, Some(Duration::from_secs(1)));
    let words = words(&w);
    let said = "it can draw 5000 tokens of the limit tokens at once, and the provider rejected a call of 5000 tokens for \
                which there was all of the limit's burst; allow it fewer tokens of output";
    assert_eq!(words, vec![said; 2], "that call, and the other that is as large");
    assert_eq!(w.refusals().len(), 2);
    wait(&mut w, Duration::from_secs(60));
    let smaller = w.grants();
    assert_eq!(smaller.len(), 1, "a smaller one, larger than the bucket too, is tried");
    w.answered(smaller[0]);

    w.asks(&call(4_000, 5_000), 1);
    assert_eq!(w.refusals(), vec![(RefusalReason::NeverFits, None)], "a larger one is refused when it comes");
    wait(&mut w, HOUR);
    w.asks(&call(4_000, 4_000), 1);
    wait(&mut w, Duration::from_secs(60));
    assert_eq!(w.grants().len(), 1, "the tier may be another by then");
}

#[test]
fn a_rejection_of_a_call_that_fits_or_is_not_alone_refuses_nothing() {
    let mut w = bucket();
    w.asks(&call(400, 1_900), 1);
    let fits = w.grants();
    w.rejected(fits[0], RejectionClass::Quota, Some(Duration::from_secs(1)));
    assert_eq!(w.refusals(), vec![]);

    let mut w = bucket();
    w.asks(&call(4_000, 4_000), 1);
    let large = w.grants();
    w.rejected(large[0], RejectionClass::Capacity, Some(Duration::from_secs(1)));
    assert_eq!(w.refusals(), vec![], "the provider was busy");
}

#[test]
fn a_rejection_for_another_limit_refuses_nothing() {
    let mut w = bucket();
    w.asks(&call(4_000, 4_000), 1);
    let large = w.grants();
    let scope = Scope { limit: Some("requests".to_owned()), ..Scope::account() };
    w.sent_back(large[0], scope, Some(Duration::from_secs(1)));
    assert_eq!(w.refusals(), vec![]);
}

#[test]
fn an_edit_of_the_limit_forgets_the_rejection() {
    let mut w = bucket();
    w.asks(&call(4_000, 4_000), 1);
    let large = w.grants();
    w.rejected(large[0], RejectionClass::Quota, Some(Duration::from_secs(1)));
    assert_eq!(w.refusals().len(), 1);
    let mut config = w.engine.config().clone();
    config.limits[0].burst = Some(3_000);
    w.tell(Event::Configure(config));
    w.asks(&call(4_000, 4_000), 1);
    assert_eq!(w.refusals(), vec![]);
}
