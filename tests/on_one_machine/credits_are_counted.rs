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
    if way in ("request", "apollo"):
        body["details"] = [{"email": "a@example.com"}] * (1 + number % 6)
    if way == "apollo":
        # Every other one is found.
        headers["x-play"] = f"credits={(1 + number % 6) // 2}"
    page = ""
    if way == "salesloft":
        deep = [1, 101, 151, 251, 501][number % 5]
        page = f"?per_page=100&page={deep}"
        headers["x-play"] = f"credits={[1, 3, 8, 10, 30][number % 5]}"
    if way == "shopify":
        headers["x-play"] = f"credits={number % 6 * 4}"
    data = json.dumps(body).encode()
    try:
        url = os.environ["DEMO_BASE_URL"] + "/anything" + page
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers, data=data)).status
    except urllib.error.HTTPError as error:
        return error.code
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    print(sorted(collections.Counter(pool.map(call, range(20))).items()))
"#;

fn quota(cost: &str, limit: &str) -> String {
    format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiProvider\nmetadata: {{name: crm}}\nspec:\n  extends: demo\n  \
         endpoints: [{{name: enrich, paths: [/anything]}}]\n  credits: [{cost}]\n  tiers:\n  - name: one\n    limits:\n    \
         - {{name: requests, unit: Requests, amount: 10000, windowSeconds: 60}}\n    \
         - {{name: credits, unit: Credits, windowSeconds: 4, deliveryMillis: 3000, {limit}}}\n\
         ---\napiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: crm}}\n\
         spec: {{provider: {{name: crm, tier: one}}, enforcement: {{maxQueueSeconds: 120}}}}\n"
    )
}

fn story(way: &str, charged: &str, cost: &str) {
    let counted = format!("count: 30, countedAs: Sliding, tokens: {{charged: {charged}, perCall: 3}}");
    story_of(way, &counted, cost, "amount: 30, countedAs: SlidingWindow");
}

/// Calls whose costs the provider counts so, of which the profile says this, under this limit.
fn story_of(way: &str, counted: &str, cost: &str, declared: &str) {
    let limit = format!("{{name: credits, windowMillis: 4000, endpoint: '*', unit: Credits, {counted}}}");
    let scene = Scene::new(&format!("providers:\n  demo: {{limits: [{limit}], answerMillis: 20}}\n"));
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", &quota(cost, declared)));
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
        "apollo" => (0..20).map(|number| (number % 6_u64).div_ceil(2)).sum(),
        "salesloft" => 4 * (1 + 3 + 8 + 10 + 30),
        "shopify" => 4 * sixths,
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

/// A call of many people costs what has been found of them, and at most one for each.
#[test]
fn as_apollo_charges_them() {
    let cost = "{endpoint: enrich, times: /details, otherwise: 10, told: {at: [/credits_consumed]}}";
    let counted = "count: 15, countedAs: Sliding, tokens: {charged: End, perCall: 3}";
    story_of("apollo", counted, cost, "amount: 15, countedAs: SlidingWindow");
}

/// The deeper the page, the more a call costs, at once.
#[test]
fn as_salesloft_charges_them() {
    let steps = "[{from: 101, each: 3}, {from: 151, each: 8}, {from: 251, each: 10}, {from: 501, each: 30}]";
    let cost = format!(
        "{{endpoint: enrich, dearer: {{parameter: page, steps: {steps}}}, told: {{header: x-ratelimit-endpoint-cost}}}}"
    );
    let counted = "count: 100, countedAs: Sliding, tokens: {charged: Arrival}";
    story_of("salesloft", counted, &cost, "amount: 100, countedAs: SlidingWindow");
}

/// A query needs room for the most that it may cost in a bucket that leaks, and gets back what it did not need.
#[test]
fn as_shopify_charges_them() {
    let cost = "{endpoint: enrich, each: 40, told: {at: [/extensions/cost/actualQueryCost]}}";
    let counted = "count: 100, countedAs: Bucket, bucket: 100, tokens: {charged: Settled, perCall: 40}";
    story_of("shopify", counted, cost, "amount: 100, countedAs: LeakyBucket, burst: 100");
}

#[test]
fn that_the_answer_tells() {
    story("told", "End", "{endpoint: enrich, each: 6, told: {at: [/cost/credits]}}");
}
