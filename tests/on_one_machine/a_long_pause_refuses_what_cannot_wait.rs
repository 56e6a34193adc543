//! A provider that asks for an hour, and calls that may wait half a minute: all of them are refused at once, with the
//! time at which another try makes sense.

use counting_provider::{Force, Verdict};
use serde_json::json;

use crate::rejections_pause_what_is_counted_together::{KEY, later, run_with, statuses};
use crate::scene::Scene;

const QUOTA: &str = "
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: hourly}
spec:
  extends: demo
  tiers:
  - name: one
    limits: [{name: requests, unit: Requests, amount: 1000, windowSeconds: 60}]
  rejections: [{statuses: [429], class: Quota, scope: Account, cooldownSeconds: 10, maximumSeconds: 7200}]
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: hourly}
spec:
  provider: {name: hourly, tier: one}
  enforcement: {maxQueueSeconds: 30}
";

#[test]
fn rejected_waiting_and_later_calls_are_refused_with_the_providers_time() {
    let scene = Scene::new("{}");
    // First a time that all can wait for; the call that asks again after it hears of the hour.
    for retry_after in ["3", "3600"] {
        let forced = Force {
            account: Some(KEY.to_owned()),
            retry_after: Some(retry_after.to_owned()),
            ..Force::default()
        };
        scene.provider.force(forced).unwrap();
    }
    let call = || json!({"base": "DEMO_BASE_URL", "path": "/anything", "key": KEY});
    let waiting = (0..4).map(|_| later(0.5, call()));
    let groups = [std::iter::once(call()).chain(waiting).collect(), vec![call(), call()]];
    let (results, ended) = run_with(&scene, QUOTA, &groups);
    for (group, calls) in results.iter().enumerate() {
        for result in calls {
            assert_eq!(result["status"], 429, "{results:?}\n{}", ended.stderr);
            assert_eq!(result["reason"], "WaitTooLong", "group {group}: {results:?}");
            let told: u64 = result["retryAfter"].as_str().unwrap().parse().unwrap();
            assert!((3500..=3603).contains(&told), "group {group}: {told}");
        }
    }
    assert_eq!(statuses(&results, 0).len() + statuses(&results, 1).len(), 7);
    let verdicts: Vec<Verdict> = scene.provider.log(KEY).iter().map(|entry| entry.verdict).collect();
    assert_eq!(verdicts, [Verdict::Forced; 2], "the first call twice, and no other");
}
