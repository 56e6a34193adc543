//! A rejection pauses the calls that the provider counts together with the rejected one, and no others.

use std::process::Command;

use counting_provider::{Entry, Force, Verdict};
use serde_json::{Value, json};

use crate::scene::{Ended, Scene};

/// Makes the calls that its first argument lists, each group at once and one group after the other, without an SDK's
/// own retries; no more at the same time than its second argument says. Prints for each call of each group what came of it: a status, the reason of a refusal, the message.
const CALLS: &str = r#"
import json, os, sys, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

def call(what):
    time.sleep(what.get("after", 0))
    request = urllib.request.Request(os.environ[what["base"]] + what["path"], method="POST",
        data=json.dumps(what.get("body", {})).encode(),
        headers={"Authorization": "Bearer " + what["key"], "Content-Type": "application/json", "anthropic-version": "2023-06-01",
            **({"X-Quotakeeper-Patience": str(what["patience"])} if "patience" in what else {})})
    try:
        with urllib.request.urlopen(request) as answer:
            return {"status": answer.status}
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        headers = error.headers
        return {"status": error.code, "reason": headers.get("x-quotakeeper-reason"), "text": text, "retryAfter": headers.get("retry-after")}

results = []
for group in json.loads(sys.argv[1]):
    with ThreadPoolExecutor(int(sys.argv[2])) as workers:
        results.append(list(workers.map(call, group)))
print(json.dumps(results))
"#;

pub const KEY: &str = "key-of-the-rejected";

/// What came of each call of each group.
pub type Results = Vec<Vec<Value>>;

/// Runs groups of calls under Quotakeeper with a tier of a provider.
pub fn run(scene: &Scene, provider: &str, tier: &str, groups: &[Vec<Value>]) -> (Results, Ended) {
    run_with(scene, &quota(provider, tier), groups)
}

/// A quota for a tier of a provider.
pub fn quota(provider: &str, tier: &str) -> String {
    format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: {provider}}}\nspec:\n  provider: {{name: {provider}, tier: {tier}}}\n"
    )
}

/// Runs groups of calls under Quotakeeper with the documents of a quota file.
pub fn run_with(scene: &Scene, documents: &str, groups: &[Vec<Value>]) -> (Results, Ended) {
    let largest = groups.iter().map(Vec::len).max().unwrap_or_default();
    run_by(scene, documents, groups, largest)
}

/// The same, by so many workers.
pub fn run_by(scene: &Scene, documents: &str, groups: &[Vec<Value>], workers: usize) -> (Results, Ended) {
    let quota = scene.file("quota.yaml", documents);
    let mut command: Command = scene.quotakeeper(&quota);
    command.args(["--", "python3", "-c", CALLS]).arg(json!(groups).to_string()).arg(workers.to_string());
    let ended = scene.run(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let results = serde_json::from_str(ended.stdout.lines().last().unwrap_or_default());
    (results.unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr)), ended)
}

/// A chat call of an OpenAI model.
pub fn chat(model: &str) -> Value {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    json!({"base": "OPENAI_BASE_URL", "path": "/chat/completions", "key": KEY, "body": body})
}

/// A call that begins so many seconds later.
pub fn later(seconds: f64, mut call: Value) -> Value {
    call["after"] = json!(seconds);
    call
}

/// The statuses of one group.
pub fn statuses(results: &Results, group: usize) -> Vec<u64> {
    results[group].iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

/// Calls of a model that the provider's log has, in the order of their arrival.
pub fn of_model(scene: &Scene, model: &str) -> Vec<Entry> {
    let mut log = scene.provider.log(KEY);
    log.retain(|entry| entry.model.as_deref() == Some(model));
    log.sort_by_key(|entry| entry.arrival_nanos);
    log
}

#[test]
fn a_429_of_one_openai_model_holds_no_other() {
    for kind in ["requests", "tokens"] {
        let scene = Scene::new("{}");
        let message = format!("Rate limit reached for gpt-4o on {kind} per min. Please try again in 3s.");
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": "rate_limit_exceeded"}});
        let forced = Force {
            account: Some(KEY.to_owned()),
            model: Some("gpt-4o".to_owned()),
            retry_after: Some("3".to_owned()),
            body: Some(body),
            ..Force::default()
        };
        scene.provider.force(forced).unwrap();
        // The first of gpt-4o is rejected and waits; the mini ones come while it does.
        let mini = || (0..5).map(|_| later(0.7, chat("gpt-4o-mini")));
        let groups = [std::iter::once(chat("gpt-4o")).chain(mini()).collect::<Vec<_>>()];
        let (results, ended) = run(&scene, "openai", "tier-5", &groups);
        assert_eq!(statuses(&results, 0), [200; 6], "{}", ended.stderr);
        let rejected = of_model(&scene, "gpt-4o");
        assert_eq!(
            rejected.iter().map(|entry| entry.verdict).collect::<Vec<_>>(),
            [Verdict::Forced, Verdict::Ok]
        );
        let mini = of_model(&scene, "gpt-4o-mini");
        let last = mini.last().unwrap().arrival_nanos;
        assert!(last < rejected[1].arrival_nanos, "{kind}: gpt-4o-mini waited for gpt-4o's pause");
        assert_eq!(mini.len(), 5);
    }
}
