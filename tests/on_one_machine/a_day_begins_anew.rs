//! A limit of a day in New York, around a midnight after which the day has 23 hours, on a node whose wall clock can be
//! set: the limit is free again at midnight, and neither a restart nor a clock that is set forward frees it again.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::a_daily_limit_that_no_answer_tells::CALLS;
use crate::scene::{Ended, Scene};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 8, windowMillis: 2000, countedAs: Sliding, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: by-calendar}
spec:
  extends: demo
  tiers:
  - name: one
    limits:
    - {name: requests, unit: Requests, amount: 100, windowSeconds: 1, countedAs: SlidingWindow}
    - {name: daily, unit: Requests, amount: 5, period: Day, timeZone: America/New_York}
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: by-calendar, tier: one}, enforcement: {maxQueueSeconds: LONGEST}}
"#;

/// The library that shows a program another time of day, from Debian's package of it.
fn faketime() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/debian.sh");
    let ready = Command::new(script).arg("libfaketime").output().unwrap();
    assert!(ready.status.success(), "{}", String::from_utf8_lossy(&ready.stderr));
    let unpacked = PathBuf::from(String::from_utf8(ready.stdout).unwrap().trim());
    let libraries = std::fs::read_dir(unpacked.join("usr/lib")).unwrap();
    let mut found = libraries.map(|entry| entry.unwrap().path().join("faketime/libfaketime.so.1"));
    found.find(|library| library.exists()).expect("libfaketime.so.1 in the package libfaketime")
}

/// A run on a node whose wall clock shows `from`, in UTC, when it starts.
fn run(scene: &Scene, from: &str, calls: u64, longest: &str) -> Ended {
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", &QUOTA.replace("LONGEST", longest)));
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", format!("@{from}")).env("TZ", "UTC");
    // The limiter's own clock goes on as it does.
    command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.args(["--", "python3", "-c", CALLS, &calls.to_string()]);
    scene.run(command)
}

#[test]
fn a_day_begins_at_midnight_and_neither_a_restart_nor_a_clock_that_is_set_begins_another() {
    let scene = Scene::new(RULES);
    let first = run(&scene, "2027-03-14 04:59:15", 8, "600");
    assert_eq!(first.stdout, "[(200, 8)]\n", "five before midnight, three after it: {}", first.stderr);
    let limit = scene.report()["accounts"][0].clone();
    assert_eq!(limit["limits"][1]["used"], 3, "{limit}");

    let restarted = run(&scene, "2027-03-14 05:20:00", 4, "12");
    assert_eq!(restarted.stdout, "[(200, 2), (403, 2)]\n", "{}", restarted.stderr);

    // A day that began three seconds ago would leave out what was charged before.
    std::thread::sleep(Duration::from_secs(8));
    let set_forward = run(&scene, "2027-03-15 04:00:03", 3, "12");
    assert_eq!(set_forward.stdout, "[(403, 3)]\n", "{}", set_forward.stderr);

    let totals = scene.provider.summary("crm").totals;
    assert_eq!((totals.ok, totals.over), (10, 0));
}
