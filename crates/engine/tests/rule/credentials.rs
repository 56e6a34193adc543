//! A credential that the provider refuses stops the calls that carry it, and no other's.

use quotakeeper_engine::event::{
    Action, Attempt, CallClass, Callers, Event, Fingerprint, RefusalReason, RejectionClass, Scope,
};

use crate::world::*;

const REVOKED: Fingerprint = Fingerprint(0xa);
const GOOD: Fingerprint = Fingerprint(0xb);
const THIRD: Fingerprint = Fingerprint(0xc);

fn world() -> World {
    World::new(vec![sliding("requests", 1000, 10)])
}

/// Calls of one workload, whose credentials differ.
fn ask(w: &mut World, credential: Fingerprint) {
    w.ask_with(1, "job", CallClass::default().into(), credential, None);
}

fn granted(w: &mut World, credential: Fingerprint) -> Attempt {
    ask(w, credential);
    let grants = w.grants();
    assert_eq!(grants.len(), 1, "{:?}", w.actions);
    grants[0]
}

fn refuse(w: &mut World, attempt: Attempt) {
    w.rejected(attempt, RejectionClass::Terminal, None);
}

/// The calls of a credential that are refused at once now.
fn refused_at_once(w: &mut World, credential: Fingerprint) -> usize {
    ask(w, credential);
    w.refusals().len()
}

#[test]
fn a_refused_credential_stops_no_other() {
    let mut w = world();
    for _ in 0..3 {
        let attempt = granted(&mut w, GOOD);
        w.answered(attempt);
    }
    let first = granted(&mut w, REVOKED);
    refuse(&mut w, first);
    (0..5).for_each(|_| ask(&mut w, REVOKED));
    let asks_again = w.grants();
    assert_eq!(asks_again.len(), 1, "the others with the credential are held");
    (0..5).for_each(|_| ask(&mut w, GOOD));
    let others = w.grants();
    assert_eq!(others.len(), 5, "calls behind them, with another credential, are not");
    refuse(&mut w, asks_again[0]);
    let words = |action: &&Action| matches!(action, Action::Refuse { words: Some(words), .. } if words == "insufficient_quota");
    assert_eq!(w.actions.iter().filter(words).count(), 4, "in the provider's words");
    w.refusals();
    others.into_iter().for_each(|attempt| w.answered(attempt));
    for _ in 0..20 {
        assert_eq!(refused_at_once(&mut w, REVOKED), 1);
        let attempt = granted(&mut w, GOOD);
        w.answered(attempt);
        w.pass(SECOND);
    }
}

#[test]
fn a_refused_credential_is_asked_again_after_minutes_and_opens() {
    let mut w = world();
    for _ in 0..2 {
        let attempt = granted(&mut w, REVOKED);
        refuse(&mut w, attempt);
    }
    for minutes in [1, 2, 4, 5, 5] {
        // The account's longest pause without a probe is 5 minutes here.
        w.pass(SECOND * 60 * minutes - SECOND * 2);
        assert_eq!(refused_at_once(&mut w, REVOKED), 1, "before {minutes} minutes have passed");
        w.pass(SECOND * 2 + SECOND * minutes);
        let probe = granted(&mut w, REVOKED);
        ask(&mut w, REVOKED);
        assert_eq!(w.grants().len(), 0, "one probe");
        refuse(&mut w, probe);
        assert_eq!(w.refusals().len(), 1);
    }
    w.pass(SECOND * 310);
    let probe = granted(&mut w, REVOKED);
    w.answered(probe);
    assert_eq!(refused_at_once(&mut w, REVOKED), 0);
    assert_eq!(w.grants().len(), 1);
}

#[test]
fn two_refused_credentials_of_one_organisation_stop_the_account_until_a_third_asks() {
    for (organizations, stops) in [
        ([None, None], true),
        ([Some(Fingerprint(1)), Some(Fingerprint(1))], true),
        ([Some(Fingerprint(1)), Some(Fingerprint(2))], false),
        ([Some(Fingerprint(1)), None], true),
    ] {
        let mut w = world();
        for (credential, organization) in [REVOKED, GOOD].into_iter().zip(organizations) {
            let attempt = granted(&mut w, credential);
            w.rejected_by(attempt, RejectionClass::Terminal, None, organization);
        }
        assert_eq!(refused_at_once(&mut w, THIRD), usize::from(stops), "{organizations:?}");
        if !stops {
            continue;
        }
        let stopped = w.engine.status(w.now).pauses;
        assert!(stopped.iter().any(|pause| pause.stopped && pause.callers.is_all()), "{stopped:?}");
        w.pass(SECOND * 62);
        let probe = granted(&mut w, THIRD);
        ask(&mut w, THIRD);
        assert_eq!(w.grants().len(), 0, "one probe");
        w.answered(probe);
        assert_eq!(w.grants().len(), 1, "it opens for the credential that is accepted");
    }
}

#[test]
fn a_stopped_account_asks_by_one_probe_and_opens_for_all_when_it_is_accepted() {
    let mut w = world();
    for credential in [REVOKED, GOOD] {
        let attempt = granted(&mut w, credential);
        refuse(&mut w, attempt);
    }
    let mut probes = 0;
    for _ in 0..(60 * 14) {
        w.pass(SECOND);
        for credential in [REVOKED, GOOD] {
            ask(&mut w, credential);
        }
        for attempt in w.grants() {
            probes += 1;
            refuse(&mut w, attempt);
        }
    }
    assert_eq!(probes, 4, "after 1, 2, 4 and 5 minutes");
    w.pass(SECOND * 310);
    let probe = granted(&mut w, GOOD);
    w.answered(probe);
    w.refusals();
    for credential in [GOOD, REVOKED, THIRD] {
        ask(&mut w, credential);
    }
    let mut accepted = 0;
    loop {
        let grants = w.grants();
        if grants.is_empty() {
            break;
        }
        accepted += grants.len();
        grants.into_iter().for_each(|attempt| w.answered(attempt));
    }
    assert_eq!((accepted, w.refusals().len()), (3, 0));
}

#[test]
fn a_person_reopens_what_the_provider_refused() {
    let mut w = world();
    for credential in [REVOKED, GOOD] {
        let attempt = granted(&mut w, credential);
        refuse(&mut w, attempt);
    }
    w.tell(Event::Resume(Scope::account()));
    for credential in [REVOKED, GOOD, THIRD] {
        assert_eq!(refused_at_once(&mut w, credential), 0);
    }
    assert_eq!(w.grants().len(), 3);
}

#[test]
fn an_accepted_credential_shows_that_two_were_refused_for_themselves() {
    let mut w = world();
    for credential in [REVOKED, GOOD] {
        let attempt = granted(&mut w, credential);
        refuse(&mut w, attempt);
        w.tell(Event::Resume(Scope::limit("none")));
        if credential == REVOKED {
            let third = granted(&mut w, THIRD);
            w.answered(third);
        }
    }
    for _ in 0..5 {
        let attempt = granted(&mut w, THIRD);
        w.answered(attempt);
    }
    assert_eq!(w.refusals(), []);
}

#[test]
fn calls_whose_credential_is_not_known_are_refused_by_workload() {
    let mut w = world();
    let job = |w: &mut World, name: &str, session| {
        w.ask_with(session, name, CallClass::default().into(), Fingerprint(0), None);
        w.grants()
    };
    let attempt = job(&mut w, "one", 1)[0];
    refuse(&mut w, attempt);
    assert_eq!(job(&mut w, "two", 2).len(), 1, "of which only one workload has heard");
    let attempt = job(&mut w, "one", 1)[0];
    refuse(&mut w, attempt);
    assert_eq!(job(&mut w, "one", 1).len(), 0);
    assert_eq!(w.refusals(), [(RefusalReason::ProviderStopped, None)]);
    assert_eq!(job(&mut w, "two", 2).len(), 1);
}

#[test]
fn no_more_refused_credentials_are_remembered_than_fit() {
    let mut w = world();
    for number in 1..=400 {
        for _ in 0..2 {
            let attempt = granted(&mut w, Fingerprint(number));
            w.rejected_by(attempt, RejectionClass::Terminal, None, Some(Fingerprint(number)));
        }
        w.pass(MS * 20);
    }
    let pauses = w.engine.status(w.now).pauses;
    assert_eq!(pauses.len(), 256);
    assert!(pauses.iter().any(|pause| pause.callers == Callers::Credential(Fingerprint(400))));
}

#[test]
fn a_time_beside_a_refusal_puts_off_no_probe() {
    let mut w = world();
    for _ in 0..2 {
        let attempt = granted(&mut w, REVOKED);
        w.rejected(attempt, RejectionClass::Terminal, Some(SECOND * 200));
    }
    assert_eq!(refused_at_once(&mut w, REVOKED), 1);
    w.pass(SECOND * 62);
    granted(&mut w, REVOKED);
}

#[test]
fn a_restart_remembers_which_credential_is_refused() {
    let mut w = world();
    let attempt = granted(&mut w, GOOD);
    w.answered(attempt);
    for _ in 0..2 {
        let attempt = granted(&mut w, REVOKED);
        refuse(&mut w, attempt);
    }
    let (snapshot, reserve) = w.commit(10);
    let mut w = World::with(
        quotakeeper_engine::Engine::restart(
            account(vec![sliding("requests", 1000, 10)]),
            snapshot,
            reserve,
            w.now,
        ),
        w.now,
    );
    w.tell(Event::Lease(quotakeeper_engine::time::Time::NEVER));
    w.alive(1);
    w.commit(100);
    assert_eq!(refused_at_once(&mut w, REVOKED), 1);
    ask(&mut w, GOOD);
    w.commit(100);
    w.alive(1);
    assert_eq!(w.grants().len(), 1);
}
