//! A person who puts a command under `run` wants it to wait: nothing is refused that a patient client could still get,
//! long waits are told with their limit and their end, and a refusal names the bound that it is for.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;

use crate::scene::{Scene, behind};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 5, windowMillis: 10000, countedAs: Sliding, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: slow}
spec:
  extends: demo
  tiers:
  - name: one
    limits: [{name: requests, unit: Requests, amount: 5, windowSeconds: 10, countedAs: SlidingWindow}]
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: slow, tier: one}ENFORCEMENT}
"#;

/// So many calls at once, of clients that announce so many seconds or nothing (then a minute, as the provider's profile
/// says); prints what was refused, and why.
const CALLS: &str = r#"
import collections, concurrent.futures, json, os, sys, urllib.error, urllib.request
def call(number):
    headers = {"Authorization": "Bearer crm"}
    if len(sys.argv) > 2:
        headers["x-quotakeeper-patience"] = sys.argv[2]
    try:
        url = os.environ["DEMO_BASE_URL"] + "/anything"
        return str(urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status)
    except urllib.error.HTTPError as error:
        return json.load(error)["message"].split(". Try")[0]
with concurrent.futures.ThreadPoolExecutor(60) as pool:
    print(json.dumps(collections.Counter(pool.map(call, range(int(sys.argv[1]))))))
"#;

fn command(scene: &Scene, enforcement: &str, arguments: &[&str]) -> std::process::Command {
    let quota = scene.file("quota.yaml", &QUOTA.replace("ENFORCEMENT", enforcement));
    let mut command = scene.quotakeeper(&quota);
    command.args(["--", "python3", "-c", CALLS]).args(arguments);
    command
}

#[test]
fn a_call_waits_for_more_than_a_minute_and_that_is_told() {
    let scene = Scene::new(RULES);
    // The last of forty gets its turn after seventy seconds, and its client would wait for ten minutes.
    let mut running = scene.start(behind(&["env"], &command(&scene, "", &["40", "600"])));
    let told = || fs::read_to_string(scene.path("stderr")).unwrap_or_default();
    running.until("a long wait is told", || told().contains(" calls wait for requests ("));
    running.until("five calls are answered", || scene.provider.summary("crm").totals.ok >= 5);
    running.signal(Signal::SIGTERM);
    let ended = running.ended();
    assert_eq!(ended.code, 143, "{}", ended.stderr);
    let report = scene.report();
    assert_eq!((&report["version"], &report["refused"]), (&2.into(), &0.into()), "{}", ended.stderr);
    let gone = report["goneWaiting"].as_u64().unwrap();
    assert!(gone >= 30, "{report}");
    assert!(
        ended.stderr.contains(&format!("{gone} calls gave up while waiting, after ")),
        "{}",
        ended.stderr
    );
    assert_eq!(scene.provider.summary("crm").totals.over, 0);
}

#[test]
fn a_refusal_names_the_bound_that_it_is_for() {
    let scene = Scene::new(RULES);
    for (enforcement, arguments, bound, field, remedy) in [
        (
            ", enforcement: {maxQueueSeconds: 5}",
            vec!["8"],
            "the quota lets calls wait 5 s; set enforcement.maxQueueSeconds higher",
            "refusedForQueue",
            "set enforcement.maxQueueSeconds higher",
        ),
        ("", vec!["8", "4"], "its client gives up after 4 s", "refusedForClient", "give it a longer timeout"),
    ] {
        let ended = scene.run(command(&scene, enforcement, &arguments));
        let told: Value = serde_json::from_str(&ended.stdout).unwrap();
        let refused = told.as_object().unwrap().iter().find(|(message, _)| message.contains(bound));
        let (_, refused) = refused.unwrap_or_else(|| panic!("{bound}: {told}"));
        assert_eq!(&scene.report()[field], refused, "{}", ended.stderr);
        let line = ended.stderr.lines().find(|line| line.contains(remedy)).unwrap_or_default();
        let whole = line.contains(&format!("{refused} refused (")) && line.contains(" for crm: requests)");
        assert!(whole, "{}", ended.stderr);
    }
    assert_eq!(scene.provider.summary("crm").totals.over, 0);
}
