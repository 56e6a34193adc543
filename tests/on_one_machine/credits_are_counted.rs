//! Limits of a provider's own units: what a call costs is a constant, in the request, or told by the answer, and the
//! provider counts it by itself.

use crate::scene::Scene;

/// Twenty calls at once, which cost about twice what a window allows.
const CALLS: &str = r#"
import collections, concurrent.futures, json, os, urllib.error, urllib.request
def call(number):
    headers = {"Authorization": "Bearer crm", "Content-Type": "application/json", "x-play": "as=told"}
    body = {}
    way = os.environ["WAY"]
    if way == "told":
        headers["x-play"] = f"credits={number % 6}"
    if way == "request":
        body["details"] = [{"email": "a@example.com"}] * (1 + number % 6)
    data = json.dumps(body).encode()
    try:
        url = os.environ["DEMO_BASE_URL"] + "/anything"
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers, data=data)).status
    except urllib.error.HTTPError as error:
        return error.code
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    print(sorted(collections.Counter(pool.map(call, range(20))).items()))
"#;

fn quota(cost: &str) -> String {
    format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiProvider\nmetadata: {{name: crm}}\nspec:\n  extends: demo\n  \
         endpoints: [{{name: enrich, paths: [/anything]}}]\n  credits: [{cost}]\n  tiers:\n  - name: one\n    limits:\n    \
         - {{name: requests, unit: Requests, amount: 10000, windowSeconds: 60}}\n    \
         - {{name: credits, unit: Credits, amount: 30, windowSeconds: 4, countedAs: SlidingWindow, deliveryMillis: 3000}}\n\
         ---\napiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: crm}}\n\
         spec: {{provider: {{name: crm, tier: one}}, enforcement: {{maxQueueSeconds: 120}}}}\n"
    )
}

fn story(way: &str, charged: &str, cost: &str) {
    let limit = format!(
        "{{name: credits, count: 30, windowMillis: 4000, countedAs: Sliding, endpoint: '*', unit: Credits, \
         tokens: {{charged: {charged}, perCall: 3}}}}"
    );
    let scene = Scene::new(&format!("providers:\n  demo: {{limits: [{limit}], answerMillis: 20}}\n"));
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", &quota(cost)));
    command.env("WAY", way).args(["--", "python3", "-c", CALLS]);
    let ended = scene.run(command);
    assert_eq!(ended.stdout, "[(200, 20)]\n", "{}", ended.stderr);
    let summary = scene.provider.summary("crm");
    let credits = summary.amounts.iter().find(|limit| limit.limit == "credits").unwrap();
    assert_eq!((summary.totals.ok, summary.totals.over), (20, 0), "{credits:?}");
    let sixths: u64 = (0..20).map(|number| number % 6).sum();
    let cost = match way {
        "constant" => 60,
        "request" => sixths + 20,
        _ => sixths,
    };
    assert_eq!(credits.used, cost, "{credits:?}");
    assert!((20.0..=100.0).contains(&credits.peak_percent), "{credits:?}");
}

#[test]
fn that_cost_the_same_each() {
    story("constant", "Arrival", "{endpoint: enrich, each: 3}");
}

#[test]
fn that_the_request_counts() {
    story("request", "Arrival", "{endpoint: enrich, times: /details, otherwise: 10}");
}

#[test]
fn that_the_answer_tells() {
    story("told", "End", "{endpoint: enrich, each: 6, told: {at: [/cost/credits]}}");
}
