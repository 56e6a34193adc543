//! A quota without a tier: the provider's first answer tells which one it is, and the next run knows it. Where no answer
//! tells, the tier is asked for.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::rejections_pause_what_is_counted_together::{KEY, run_with};
use crate::scene::Scene;

/// OpenAI's tier 2: 5,000 a minute.
const TIER_2: &str = "providers:\n  openai: {limits: [{name: requests, count: 5000, windowMillis: 60000, countedAs: Bucket, endpoint: '*'}]}\n";

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/openai.yaml")).unwrap()
}

/// So many calls at once, as the SDK makes them: it waits for ten minutes.
fn calls(count: usize, model: &str) -> Vec<serde_json::Value> {
    let call = json!({
        "base": "OPENAI_BASE_URL", "path": "/chat/completions", "key": KEY, "patience": 600,
        "body": {"model": model, "messages": [{"role": "user", "content": "hi"}]},
    });
    vec![call; count]
}

#[test]
fn the_smallest_quota_learns_its_tier_from_the_first_answer() {
    let scene = Scene::new(TIER_2);
    let (results, ended) = run_with(&scene, &example(), &[calls(10, "gpt-4o"), calls(10, "gpt-4.1")]);
    let answered = results.iter().flatten().filter(|result| result["status"] == 200).count();
    assert_eq!(answered, 20, "{results:?}\n{}", ended.stderr);
    let totals = scene.provider.summary(KEY).totals;
    assert_eq!((totals.ok, totals.over), (20, 0));
    assert_eq!(scene.report()["refused"], 0);
    assert_eq!(scene.report()["accounts"][0]["tier"], "tier-2");
    assert!(ended.stderr.contains("the lowest, free, is assumed until an answer"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("tier learned: tier-2, from x-ratelimit-limit-requests 5000\n"),
        "{}",
        ended.stderr
    );

    // What is in force, and who was told it.
    let (file, state) = (scene.file("learned.yaml", &example()), scene.path("state"));
    let mut limits = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
    limits.args(["limits", "-f"]).arg(file).arg("--state").arg(state);
    let limits = limits.output().unwrap();
    let limits = String::from_utf8(limits.stdout).unwrap();
    let row = limits.lines().find(|line| line.contains("(gpt-4o)")).unwrap();
    assert!(
        row.split_whitespace().nth(1) == Some("5,000")
            && row.contains("x-ratelimit-limit-requests 5000, told to "),
        "{limits}"
    );
    assert!(!limits.contains("daily-requests"), "free's limits are not in force any more: {limits}");

    // The lowest tier, free, would let three through and hold the others for minutes.
    let (results, ended) = run_with(&scene, &example(), &[calls(10, "gpt-4o")]);
    assert!(results[0].iter().all(|result| result["status"] == 200), "{results:?}\n{}", ended.stderr);
    assert_eq!(scene.report()["accounts"][0]["past"], "Recorded");
    assert!(!ended.stderr.contains("is assumed until"), "the ledger knows the tier: {}", ended.stderr);
}

const SILENT: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: silent}
spec:
  hosts: [api.openai.com]
  baseUrl: {upstream: "https://api.openai.com", pathPrefix: /v1, variables: [{name: OPENAI_BASE_URL, path: /v1}]}
  tiers:
  - name: small
    limits: [{name: requests, unit: Requests, amount: 5, windowSeconds: 3, countedAs: SlidingWindow, deliveryMillis: 3000}]
  - name: large
    limits: [{name: requests, unit: Requests, amount: 500, windowSeconds: 3, countedAs: SlidingWindow}]
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: silent}, enforcement: {maxQueueSeconds: 120}}
"#;

#[test]
fn where_no_answer_tells_the_lowest_tier_is_in_force_and_the_choices_are_named() {
    let rules = "providers:\n  openai: {limits: [{name: requests, count: 5, windowMillis: 3000, countedAs: Sliding, endpoint: '*'}]}\n";
    let scene = Scene::new(rules);
    let (results, ended) = run_with(&scene, SILENT, &[calls(12, "gpt-4o")]);
    assert!(results[0].iter().all(|result| result["status"] == 200), "{results:?}\n{}", ended.stderr);
    let totals = scene.provider.summary(KEY).totals;
    assert_eq!((totals.ok, totals.over), (12, 0));
    let asked = "the lowest, small, is assumed, because no answer of the provider tells its limits; declare the \
                 account's own as spec.provider.tier, one of: small (5 requests per 3 s), large (500 requests per 3 s)";
    assert!(ended.stderr.contains(asked), "{}", ended.stderr);
}
