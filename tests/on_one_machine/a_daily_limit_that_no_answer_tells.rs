//! A daily limit that no answer tells, as with HubSpot's search and its OAuth apps: a first run is not slowed down by it,
//! the next continues from its ledger, and one whose ledger is lost waits until a person states what was used.

use std::fs;
use std::process::Command;

use crate::scene::{Ended, Scene};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 20, windowMillis: 4000, countedAs: Sliding, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: silent}
spec:
  extends: demo
  tiers:
  - name: one
    limits:
    - {name: requests, unit: Requests, amount: 20, windowSeconds: 4, countedAs: SlidingWindow}
    - {name: daily, unit: Requests, amount: 250000, windowSeconds: 86400, countedAs: FixedWindow}
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: silent, tier: one}, enforcement: {maxQueueSeconds: LONGEST}}
"#;

/// So many calls at once, and how many had which status.
pub const CALLS: &str = r#"
import collections, concurrent.futures, os, sys, urllib.error, urllib.request
def call(_):
    try:
        url = os.environ["DEMO_BASE_URL"] + "/anything"
        return urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": "Bearer crm"})).status
    except urllib.error.HTTPError as error:
        return error.code
with concurrent.futures.ThreadPoolExecutor(60) as pool:
    print(sorted(collections.Counter(pool.map(call, range(int(sys.argv[1])))).items()))
"#;

fn run(scene: &Scene, calls: u64, longest: &str, options: &[&str]) -> Ended {
    run_with(scene, &QUOTA.replace("LONGEST", longest), calls, options)
}

fn run_with(scene: &Scene, quota: &str, calls: u64, options: &[&str]) -> Ended {
    let mut command: Command = scene.quotakeeper(&scene.file("quota.yaml", quota));
    command.args(options).args(["--", "python3", "-c", CALLS, &calls.to_string()]);
    scene.run(command)
}

#[test]
fn a_run_continues_from_the_last_and_after_a_lost_ledger_waits_for_what_was_used() {
    let scene = Scene::new(RULES);
    // At 250,000 a day evenly, 2.9 a second, sixty calls take 21 seconds.
    let first = run(&scene, 60, "18", &[]);
    assert_eq!(first.stdout, "[(200, 60)]\n", "{}", first.stderr);
    assert!(first.stderr.contains("assumed to be unused"), "{}", first.stderr);
    assert_eq!(scene.report()["accounts"][0]["past"], "New");

    let second = run(&scene, 5, "12", &[]);
    assert_eq!(second.stdout, "[(200, 5)]\n", "{}", second.stderr);
    assert!(!second.stderr.contains("assumed"), "{}", second.stderr);

    fs::remove_file(scene.path("state/silent%2Fcrm.ledger")).unwrap();
    let third = run(&scene, 5, "12", &[]);
    assert_eq!(third.stdout, "[(200, 1), (429, 4)]\n", "one call asks the provider: {}", third.stderr);
    assert!(third.stderr.contains("state it with --used daily=AMOUNT"), "{}", third.stderr);
    assert_eq!(scene.report()["accounts"][0]["past"], "Lost");

    fs::remove_file(scene.path("state/silent%2Fcrm.ledger")).unwrap();
    let fourth = run(&scene, 5, "12", &["--used", "daily=66"]);
    assert_eq!(fourth.stdout, "[(200, 5)]\n", "{}", fourth.stderr);
    let totals = scene.provider.summary("crm").totals;
    assert_eq!((totals.ok, totals.over), (71, 0));

    let wrong = run(&scene, 5, "12", &["--used", "weekly=61"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("crm:daily"), "{}", wrong.stderr);
}

/// After a lost ledger one call would ask the provider.
#[test]
fn another_name_of_a_limit_opens_nothing() {
    let scene = Scene::new(RULES);
    let quota = QUOTA.replace("LONGEST", "12").replace("250000", "10");
    let first = run_with(&scene, &quota, 10, &[]);
    assert_eq!(first.stdout, "[(200, 10)]\n", "{}", first.stderr);
    let renamed = run_with(&scene, &quota.replace("name: daily", "name: per-day"), 5, &[]);
    assert_eq!(renamed.stdout, "[(403, 5)]\n", "{}", renamed.stderr);
    assert!(renamed.stderr.contains("per-day"), "{}", renamed.stderr);
    assert_eq!(scene.provider.summary("crm").totals.ok, 10);
}
