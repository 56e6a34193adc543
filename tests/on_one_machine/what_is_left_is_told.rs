//! A program asks what is left before it calls, and chooses.

use serde_json::Value;

use crate::scene::Scene;

/// Ten calls in twenty seconds.
const TIER: &str =
    "    - {name: requests, unit: Requests, amount: 10, windowSeconds: 20, countedAs: SlidingWindow}\n";

/// Six calls, then as many as are left, then two that wait; what it is told in between is printed.
const PROGRAM: &str = r#"
import json, os, threading, time, urllib.request
base = os.environ["DEMO_BASE_URL"]
def call():
    request = urllib.request.Request(base + "/anything", headers={"Authorization": "Bearer leads"})
    urllib.request.urlopen(request).read()
def left():
    return json.load(urllib.request.urlopen(os.environ["QUOTAKEEPER_HEADROOM_URL"]))["quotas"][0]
told = []
for _ in range(6):
    call()
told.append(left())
for _ in range(told[0]["limits"][0]["remaining"]):
    call()
told.append(left())
waiting = [threading.Thread(target=call) for _ in range(2)]
for thread in waiting:
    thread.start()
while left()["waitingCalls"] < 2:
    time.sleep(0.05)
told.append(left())
for thread in waiting:
    thread.join()
print(json.dumps(told))
"#;

#[test]
fn a_program_knows_what_it_may_call_and_how_long_it_would_wait() {
    let scene = Scene::new(
        "providers:\n  demo: {limits: [{name: requests, count: 10, windowMillis: 20000, countedAs: Sliding, endpoint: '*'}]}\n",
    );
    let quota = scene.quota_of_this_machine("demo", TIER, TIER);
    let mut run = scene.quotakeeper(&quota);
    run.args(["--", "python3", "-c", PROGRAM]);
    let ended = scene.run(run);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let told: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let limit = |at: usize| (&told[at]["limits"][0]["used"], &told[at]["limits"][0]["remaining"]);
    assert_eq!(limit(0), (&6.into(), &4.into()), "{}", ended.stdout);
    assert_eq!(told[0]["next"], serde_json::json!({"ahead": 0, "waitSeconds": 0.0}));
    assert_eq!(limit(1), (&10.into(), &0.into()), "{}", ended.stdout);
    let wait = |at: usize| told[at]["next"]["waitSeconds"].as_f64().unwrap();
    assert!(wait(1) > 0.0 && wait(1) < 40.0, "{}", ended.stdout);
    assert_eq!(told[1]["next"]["heldBy"], serde_json::json!({"limit": {"name": "requests"}}));
    assert_eq!(told[2]["next"]["ahead"], 2, "{}", ended.stdout);
    assert_eq!(told[2]["waiting"][0]["calls"], 2, "{}", ended.stdout);
    let totals = scene.provider.summary("leads").totals;
    assert_eq!((totals.all(), totals.over), (12, 0), "{}", ended.stderr);
}
