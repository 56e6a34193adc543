//! Years pass, and whoever trusts the CA of yesterday can speak with the server of today.

#![allow(clippy::unwrap_used)]

use super::*;

fn names() -> Vec<String> {
    ["quotakeeper-limiter.ns.svc", "quotakeeper-limiter.ns.svc.cluster.local"].map(str::to_owned).into()
}

fn begin() -> SystemTime {
    UNIX_EPOCH + 20_000 * DAY
}

fn made(now: SystemTime) -> Entries {
    due(&Entries::new(), &names(), now).unwrap().unwrap()
}

#[test]
fn what_was_just_made_is_well_and_makes_a_server() {
    let entries = made(begin());
    assert_eq!(due(&entries, &names(), begin()).unwrap(), None);
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    quotakeeper_inject::tls::server_config(entries["tls.crt"].as_bytes(), entries["tls.key"].as_bytes())
        .unwrap();
    assert!(is_known(&entries, &entries["ca.crt"]));
    assert!(!is_known(&entries, &made(begin())["ca.crt"]), "another CA of the same name does not do");
}

#[test]
fn the_server_gets_no_key_of_a_ca() {
    let entries = due(&Entries::new(), &names(), begin()).unwrap().unwrap();
    let (own, served) = apart(&entries);
    assert_eq!(own.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
    assert_eq!(served.keys().collect::<Vec<_>>(), ["ca.crt", "fingerprint.key", "tls.crt", "tls.key"]);
    assert_eq!(served["fingerprint.key"].len(), 64);
    let mut together = served.clone();
    together.remove("fingerprint.key");
    together.extend(own);
    assert_eq!(due(&together, &names(), begin()).unwrap(), None, "both are all there is");
    assert_eq!(apart(&together).1, served, "the fingerprints stay as they are");
}

#[test]
fn a_leaf_is_renewed_thirty_days_before_its_end_and_for_other_names() {
    let entries = made(begin());
    let after = |days: u32| due(&entries, &names(), begin() + days * DAY).unwrap();
    assert_eq!(after(59), None);
    let renewed = after(61).unwrap();
    assert_ne!(renewed["tls.crt"], entries["tls.crt"]);
    assert_eq!(renewed["ca.crt"], entries["ca.crt"]);
    let more = due(&entries, &names()[..1], begin()).unwrap().unwrap();
    assert_eq!(more["ca.key"], entries["ca.key"]);
}

#[test]
fn what_was_tampered_with_is_made_again_as_far_as_needed() {
    let entries = made(begin());
    let without = |name: &str| {
        let mut broken = entries.clone();
        broken.insert(name.to_owned(), "nonsense".to_owned());
        due(&broken, &names(), begin()).unwrap().unwrap()
    };
    assert_eq!(without("tls.key")["ca.crt"], entries["ca.crt"]);
    assert_eq!(without("tls.crt")["ca.crt"], entries["ca.crt"]);
    let other = without("ca.key");
    assert!(other["ca.crt"].contains(&entries["ca.crt"]), "whoever trusts the old one need not yet know");
    assert!(is_known(&other, &other["ca.crt"]));
    assert!(!is_known(&other, &entries["ca.crt"]));
}

/// A pod that was injected at any time in thirty years trusts the server for a year at least.
#[test]
fn in_thirty_years_of_rotation_nobody_is_cut_off_for_a_year_after_injection() {
    let mut entries = made(begin());
    let mut injected: Vec<(u32, String)> = Vec::new();
    let (mut cas, mut writes) = (1, 0);
    for day in (0..30 * 365).step_by(5) {
        let now = begin() + day * DAY;
        if let Some(new) = due(&entries, &names(), now).unwrap() {
            cas += u32::from(new["ca.key"] != entries["ca.key"]);
            writes += 1;
            entries = new;
        }
        assert!(ends(&entries).unwrap() > now + LEAF_MARGIN);
        injected.push((day, entries["ca.crt"].clone()));
        injected.retain(|(since, _)| day - since <= 365);
        for (since, ca) in injected.iter().step_by(12) {
            assert!(is_known(&entries, ca), "injected on day {since}, cut off on day {day}");
        }
    }
    assert_eq!(cas, 4, "a CA serves nine and a half years");
    assert!(writes < 30 * 365 / 55, "{writes} writes in thirty years");
}

#[test]
fn the_api_server_trusts_old_and_new_while_replicas_reload() {
    let (old, now) = (made(begin()), begin() + 10 * DAY);
    let new = made(now);
    let both = bundle(&old["ca.crt"], &new, now + Duration::from_secs(60));
    assert!(is_known(&old, &both) && is_known(&new, &both));
    let later = bundle(&both, &new, now + OVERLAP);
    assert!(!is_known(&old, &later) && is_known(&new, &later));
    assert_eq!(bundle(&later, &new, now + DAY), later, "and that is all");
    assert_eq!(bundle("rubbish", &new, now), new["ca.crt"]);
}
