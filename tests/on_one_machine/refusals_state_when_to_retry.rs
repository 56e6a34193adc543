//! A call that may not wait, or could not wait long enough, is refused by Quotakeeper itself: a 429 that says so and
//! when another try makes sense.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::programs::sdks;
use crate::real_sdks_stay_within_the_quota::{AMOUNT, WINDOW_SECONDS, rules};
use crate::scene::Scene;

fn quota(scene: &Scene, provider: &str, tier: &str, amount: u64, enforcement: &str) -> PathBuf {
    let text = format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: {provider}}}\nspec:\n  provider: {{name: {provider}, tier: {tier}}}\n  limits:\n  - {{name: requests, unit: Requests, amount: {amount}, windowSeconds: {WINDOW_SECONDS}}}\n  enforcement: {enforcement}\n"
    );
    scene.file("quota.yaml", &text)
}

fn python(scene: &Scene, quota: &std::path::Path, script: &str) -> Command {
    let mut command = scene.quotakeeper(quota);
    command.arg("--").arg(sdks().join("python/bin/python")).args(["-c", script]);
    command
}

/// Calls until one is refused, does what the refusal says, calls again.
const AS_TOLD: &str = r#"
import json, os, time, urllib.error, urllib.request

def call():
    request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer key-of-demo"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, {}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}

accepted = 0
while (answer := call())[0] == 200:
    accepted += 1
status, headers = answer
retry_after = headers["retry-after"]
time.sleep(int(retry_after))
print(json.dumps({"accepted": accepted, "status": status, "retryAfter": retry_after,
                  "reason": headers.get("x-quotakeeper-reason"), "then": call()[0]}))
"#;

#[test]
fn reject_mode_answers_with_a_correct_retry_after() {
    let scene = Scene::new(&rules());
    let quota = quota(&scene, "demo", "free", AMOUNT, "{onExceeded: Reject}");
    let ended = scene.run(python(&scene, &quota, AS_TOLD));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&told["status"], &told["reason"]), (&429.into(), &"QuotaExceeded".into()), "{told}");
    assert_eq!(told["then"], 200, "it came back when it was told to: {told}");
    let totals = scene.provider.summary("key-of-demo").totals;
    assert_eq!(totals.over, 0, "the provider was never asked");
    assert_eq!(totals.ok, told["accepted"].as_u64().unwrap() + 1, "{told}");
    assert_eq!(scene.report()["refused"], 1);
    assert_eq!(scene.report()["refusedByReason"]["QuotaExceeded"], 1);
    assert!(
        ended.stderr.contains(
            ": the quota rejects calls instead of queueing them; remove enforcement.onExceeded: Reject"
        ),
        "{}",
        ended.stderr
    );
}

/// More clients than can be served within their own timeout. A fifth of that is left for a refusal on its way.
const IMPATIENT: &str = r#"
import collections, json, threading, openai

counts, lock = collections.Counter(), threading.Lock()

def client():
    try:
        openai.OpenAI(timeout=15.0, max_retries=0).chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
        outcome = "ok"
    except openai.APIStatusError as error:
        outcome = f"{error.status_code} {error.response.headers.get('x-quotakeeper-reason')} {'retry-after' in error.response.headers}"
    except Exception as error:
        outcome = type(error).__name__
    with lock:
        counts[outcome] += 1

threads = [threading.Thread(target=client) for _ in range(150)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
"#;

#[test]
fn a_client_with_a_short_timeout_is_refused_in_time() {
    let scene = Scene::new(&rules());
    // In the time for which they wait, a third of them can be served.
    let quota = quota(&scene, "openai", "tier-1", AMOUNT / 3, "{mode: Enforce}");
    let mut command = python(&scene, &quota, IMPATIENT);
    command.env("OPENAI_API_KEY", "key-of-the-impatient");
    let ended = scene.run(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    println!("{}", ended.stdout.trim_end());
    let told: std::collections::BTreeMap<String, u64> = serde_json::from_str(&ended.stdout).unwrap();
    let of = |outcome: &str| told.get(outcome).copied().unwrap_or_default();
    let at_once = of("429 WaitTooLong True");
    // Whose turn came later than foreseen: at its deadline, still before its own timeout.
    let refused = at_once + of("429 WaitExceeded True");
    assert!(at_once > 0 && of("ok") > 0, "{told:?}");
    assert_eq!(of("ok") + refused, 150, "somebody waited in vain: {told:?}");
    let totals = scene.provider.summary("key-of-the-impatient").totals;
    assert_eq!(totals.ok, of("ok"), "the provider and the clients disagree");
    assert_eq!(scene.report()["refused"], refused);
}
