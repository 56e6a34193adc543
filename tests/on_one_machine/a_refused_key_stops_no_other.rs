//! A key that the provider refuses until a person acts, one revoked or unpaid, stops the calls that carry it. The calls
//! of another key through the same quota go on.

use counting_provider::{Force, Verdict};
use serde_json::{Value, json};

use crate::rejections_pause_what_is_counted_together::{chat, run, statuses};
use crate::scene::Scene;

const UNPAID: &str = "key-of-the-unpaid";
const ALSO_UNPAID: &str = "key-of-another-unpaid";
const PAID: &str = "key-of-the-paid";

fn call(key: &str) -> Value {
    let mut call = chat("gpt-4o");
    call["key"] = json!(key);
    call
}

/// The provider refuses all calls of this key.
fn unpaid(scene: &Scene, key: &str, headers: &[(&str, &str)]) {
    let error = json!({"code": "insufficient_quota", "message": "You exceeded your current quota.",
        "param": null, "type": "insufficient_quota"});
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let forced = Force {
        account: Some(key.to_owned()),
        body: Some(json!({"error": error})),
        requests: Some(1000),
        headers: headers.collect(),
        ..Force::default()
    };
    scene.provider.force(forced).unwrap();
}

fn counted(scene: &Scene, key: &str, verdict: Verdict) -> usize {
    scene.provider.log(key).iter().filter(|entry| entry.verdict == verdict).count()
}

#[test]
fn the_calls_of_another_key_all_succeed() {
    let scene = Scene::new("{}");
    unpaid(&scene, UNPAID, &[]);
    unpaid(&scene, ALSO_UNPAID, &[]);
    let mixed = |count: usize| (0..count).flat_map(|_| [call(UNPAID), call(PAID)]).collect();
    // The provider names an organisation of its own for each key.
    let also = vec![call(ALSO_UNPAID), call(PAID)];
    let groups: Vec<Vec<Value>> = vec![
        vec![call(PAID)],
        vec![call(UNPAID)],
        mixed(6),
        also.clone(),
        also.clone(),
        mixed(6),
        also,
        vec![call(PAID); 6],
    ];
    let (results, ended) = run(&scene, "openai", "tier-5", &groups);
    let mut answered = 0;
    for (group, calls) in groups.iter().enumerate() {
        for (call, status) in calls.iter().zip(statuses(&results, group)) {
            let paid = call["key"] == PAID;
            assert_eq!(status == 200, paid, "group {group}: {:?}\n{}", results[group], ended.stderr);
            answered += usize::from(paid);
        }
    }
    assert_eq!(counted(&scene, PAID, Verdict::Ok), answered);
    for key in [UNPAID, ALSO_UNPAID] {
        let asked = counted(&scene, key, Verdict::Forced);
        assert_eq!(asked, 2, "{key}: the second asks whether it is so, and the others are refused at once");
    }
    let refused = results[5].iter().find(|call| call["status"] == 403).unwrap();
    assert_eq!(refused["reason"], "ProviderStopped");
    assert!(refused["text"].as_str().unwrap().contains("insufficient_quota"), "{refused}");
}

#[test]
fn two_refused_keys_of_one_organisation_stop_the_account() {
    let scene = Scene::new("{}");
    for key in [UNPAID, ALSO_UNPAID] {
        unpaid(&scene, key, &[("openai-organization", "org-unpaid")]);
    }
    let groups = [vec![call(UNPAID)], vec![call(ALSO_UNPAID)], vec![call(PAID)]];
    let (results, ended) = run(&scene, "openai", "tier-5", &groups);
    let statuses: Vec<u64> = (0..3).map(|group| statuses(&results, group)[0]).collect();
    assert_eq!(statuses, [429, 429, 403], "{results:?}\n{}", ended.stderr);
    assert_eq!(counted(&scene, PAID, Verdict::Ok), 0);
    for said in [
        "1 refused (1 for ",
        ": the provider refuses until a person acts",
        ": the provider has stopped: ",
        "; look at the account's billing and limits",
    ] {
        assert!(ended.stderr.contains(said), "the last lines lack {said}\n{}", ended.stderr);
    }
}
