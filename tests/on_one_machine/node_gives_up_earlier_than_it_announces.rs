//! Node's HTTP client gives up at a time of its own, whatever timeout the SDK above it announces: no units are spent on
//! calls whose client is gone by the time of the answer.

use counting_provider::{Ended, Force, Verdict};
use serde::Deserialize;

use crate::programs::{OPENAI_NODE, Told, beside_node_modules, sdks};
use crate::real_sdks_stay_within_the_quota::{quota, rules};
use crate::scene::Scene;

const KEY: &str = "key-of-impatient-fetch";
/// One call in two seconds, of which the answer takes half a second.
const RULES: &str = "providers: {demo: {answerMillis: 500, \
    limits: [{name: tried, count: 1, windowMillis: 2000, countedAs: Sliding}]}}";
const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: plain}
spec:
  provider: {name: demo}
  limits:
  - {name: requests, unit: Requests, amount: 1, windowSeconds: 2}
";
/// So many answers in a row are no chance: before a timeout is learned, the call that has waited longest is sent, and
/// its client gives up.
const IN_A_ROW: usize = 6;

/// What the program says at its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    answered: usize,
    refused: u64,
    given_up: u64,
}

#[test]
fn a_timeout_that_is_not_announced_is_learned() {
    let scene = Scene::new(RULES);
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    let program = beside_node_modules(&scene, sdks(), "impatient_fetch.mjs");
    let script = format!(r#"exec node "$0" "$DEMO_BASE_URL/anything" {KEY} {IN_A_ROW}"#);
    command.args(["--", "sh", "-c", &script, &program]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let counts: Counts = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();

    let mut calls = scene.provider.log(KEY);
    calls.sort_by_key(|call| call.arrival_nanos);
    let for_nobody = calls.iter().filter(|call| call.ended == Ended::HungUp).count();
    println!("{counts:?}, {} calls at the provider, {for_nobody} of them for nobody", calls.len());
    assert!(counts.refused > 0 && counts.given_up > 0, "{counts:?}");
    assert!(calls.iter().all(|call| call.verdict == Verdict::Ok), "{calls:?}");
    // The clients may end with a call under way that another's answer has made superfluous.
    assert!(calls.len() <= counts.answered + for_nobody + 1, "{counts:?}, {}", calls.len());
    let last = &calls[calls.len() - IN_A_ROW..];
    assert!(last.iter().all(|call| call.ended == Ended::Finished), "{last:?}");
}

/// The SDK announces 600 s, and the `fetch` below it keeps 300: a pause of 350 s refuses the call at once.
#[test]
fn openais_sdk_is_told_at_once_of_a_wait_that_its_fetch_does_not_keep() {
    let scene = Scene::new(&rules());
    let account = OPENAI_NODE.account();
    let force = Force {
        account: Some(account),
        retry_after: Some("350".to_owned()),
        requests: Some(1),
        ..Force::default()
    };
    scene.provider.force(force).unwrap();
    let ended = scene.run(OPENAI_NODE.kept(&scene, &quota(&scene, &OPENAI_NODE), 2, 1));
    let told = Told::of(&ended);
    assert_eq!((told.ok, told.failed), (0, 2), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("RateLimitError 429"), "{}", ended.stdout);
    let refused = &scene.report()["refusedByReason"];
    assert_eq!(
        refused["WaitTooLong"].as_u64().unwrap_or(0) + refused["WaitExceeded"].as_u64().unwrap_or(0),
        2
    );
    assert_eq!(
        scene.provider.summary(&OPENAI_NODE.account()).totals.all(),
        1,
        "no retry reached the provider"
    );
}
