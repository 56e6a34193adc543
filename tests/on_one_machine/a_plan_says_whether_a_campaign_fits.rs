//! Before a campaign: does it fit, when is it done, what holds it up, and with what would it fit?

use serde_json::Value;

use crate::scene::{Ended, Scene};

const QUOTAS: &str = "
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: openai, namespace: gtm}
spec: {provider: {name: openai, tier: tier-1}}
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: hubspot}
spec: {provider: {name: hubspot, tier: free}}
---
";

fn campaign(spec: &str) -> String {
    format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiCampaign\nmetadata: {{name: leads}}\nspec: {spec}\n"
    )
}

fn plan(spec: &str, words: &[&str]) -> Ended {
    let scene = Scene::new("providers: {}\n");
    let file = scene.file("plan.yaml", &format!("{QUOTAS}{}", campaign(spec)));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
    command.arg("plan").arg("-f").arg(file).arg("--state").arg(scene.path("state")).args(words);
    scene.run(command)
}

fn json(ended: &Ended) -> Value {
    let value: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
    value["plans"][0].clone()
}

#[test]
fn fifty_thousand_leads_do_not_fit_into_an_hour_of_a_free_tier() {
    let spec = "{records: 50k, deadlineSeconds: 3600, steps: [{quota: hubspot, answerMillis: 300}]}";
    let ended = plan(spec, &[]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    for said in [
        "leads: 50,000 records are mathematically impossible in 1 h: they are done in 1 h 2",
        "Bottleneck: ten-seconds of hubspot, 100 per 10 seconds; all calls take 1 h 23 min at least.",
        "Fits with tier pro of hubspot: it is done in 4",
        "Fits with a deadline 1 h 2",
        "Fits with 3",
    ] {
        assert!(ended.stdout.contains(said), "{said} in\n{}", ended.stdout);
    }
    let told = json(&plan(spec, &["-o", "json"]));
    assert_eq!(
        (&told["fits"], &told["verdict"]),
        (&Value::from(false), &Value::from("Impossible")),
        "{told}"
    );
    assert_eq!(told["bottleneck"], serde_json::json!({"quota": "hubspot", "limit": "ten-seconds"}));
    assert_eq!(told["needs"][0]["leastSeconds"], 4990);
    let end = told["end"]["expectedSeconds"].as_u64().unwrap();
    assert!((4990..5400).contains(&end), "{told}");
    let page = plan(spec, &["-o", "markdown"]).stdout;
    assert!(page.starts_with("### leads: 50,000 records"), "{page}");
    assert!(page.contains("| hubspot | free | ten-seconds | 50,000 | 0 | 100 | 10 seconds |"), "{page}");
}

#[test]
fn what_fits_says_when_it_is_done_and_what_it_costs() {
    let spec = "{records: 1k, workers: 10, steps: [{quota: hubspot, answerMillis: 300, continuePercent: 50}, \
        {quota: openai, model: gpt-4o-mini, calls: \"0.2\", inputTokens: 900, outputTokens: 200}]}";
    let ended = plan(spec, &["--within", "2h", "-o", "json"]);
    let told = json(&ended);
    assert_eq!((ended.code, &told["verdict"]), (0, &Value::from("Fits")), "{told}");
    let calls: Vec<_> =
        told["calls"].as_array().unwrap().iter().map(|it| (&it["quota"], &it["calls"])).collect();
    assert_eq!(calls, [(&"hubspot".into(), &1000.into()), (&"gtm/openai".into(), &100.into())], "{told}");
    // 100 calls of 900 tokens at $0.15 a million and 200 at $0.60.
    assert_eq!(told["calls"][1]["dollars"], "0.025500000", "{told}");
    let ended = plan(spec, &["--records", "1M", "--within", "1h", "--workers", "1", "-o", "json"]);
    assert_eq!((ended.code, json(&ended)["records"].as_u64()), (3, Some(1_000_000)), "{}", ended.stderr);
}

/// Ten records of two calls each: a completion, and a contact of which the last is refused.
const PILOT: &str = r#"
import json, os, urllib.error, urllib.request
def call(base, path, key, play, body):
    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json", "x-play": play}
    request = urllib.request.Request(os.environ[base] + path, headers=headers, data=json.dumps(body).encode())
    try:
        urllib.request.urlopen(request).read()
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
for number in range(10):
    prompt = [{"role": "user", "content": "Give this company a name."}]
    chat = {"model": "gpt-4o-mini", "max_tokens": 300, "messages": prompt}
    call("OPENAI_BASE_URL", "/chat/completions", "leads", f"input=900 output={190 + 2 * number}", chat)
    call("DEMO_BASE_URL", "/anything", "crm" if number < 9 else "", "", {})
"#;

#[test]
fn a_pilot_of_ten_records_is_a_plan_of_fifty_thousand() {
    let scene = Scene::new(
        "providers:\n  openai: {limits: [], answerMillis: 40}\n  demo: {limits: [], answerMillis: 20}\n",
    );
    let quota = |provider: &str, tier: &str| {
        format!(
            "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: {provider}}}\n\
             spec: {{provider: {{name: {provider}, tier: {tier}}}}}\n"
        )
    };
    let file = scene
        .file("quotas.yaml", &format!("{}---\n{}", quota("openai", "tier-5"), quota("demo", "enterprise")));
    let pilot = scene.path("pilot.yaml");
    let piloted = |program: &str| {
        let mut run = scene.quotakeeper(&file);
        run.args(["--records", "10", "--pilot"]).arg(&pilot).args(["--", "python3", "-c", program]);
        scene.run(run)
    };
    let ended = piloted(PILOT);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for said in [
        "openai (gpt-4o-mini): 10 calls of 900 input and 199 output tokens, 0.",
        "demo: 9 calls of 0.",
        "1 call failed (1 × 401)",
    ] {
        assert!(ended.stderr.contains(said), "{said} in {}", ended.stderr);
    }
    let text = std::fs::read_to_string(&pilot).unwrap();
    for said in [
        "inputTokens: 900",
        "outputTokens: 199",
        "maxOutputTokens: 300",
        "calls: '0.9'",
        "model: gpt-4o-mini",
        "# demo: 1 call failed",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let mut plan = std::process::Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
    plan.arg("plan").arg("--state").arg(scene.path("state")).arg("-f").arg(&file).arg("-f").arg(&pilot);
    plan.args(["--records", "50k", "-o", "json"]);
    let told = json(&scene.run(plan));
    // What the pilot itself has used is known.
    let daily = told["needs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|need| need["limit"] == "requests" && need["quota"] == "demo");
    assert_eq!(daily.unwrap()["used"], 10, "{told}");
    let calls: Vec<_> =
        told["calls"].as_array().unwrap().iter().map(|it| (&it["quota"], &it["calls"])).collect();
    assert_eq!(calls, [(&"openai".into(), &50_000.into()), (&"demo".into(), &45_000.into())], "{told}");

    std::fs::remove_file(&pilot).unwrap();
    let ended = piloted("pass");
    let said = "no call was answered, so that nothing was measured, and no pilot is written: the command made no call";
    assert!(ended.code == 0 && ended.stderr.contains(said), "{}: {}", ended.code, ended.stderr);
    assert!(!pilot.exists());
}

#[test]
fn bad_input_is_a_sentence_with_its_field() {
    let step = "steps: [{quota: hubspot}]";
    for (spec, said) in [
        (format!("{{records: 0, {step}}}"), "spec.records: must be between 1 and"),
        (
            format!("{{records: 5, deadline: 2020-01-01T00:00:00Z, {step}}}"),
            "spec.deadline: is not after the beginning",
        ),
        (
            format!("{{records: 5, start: 2020-01-01T00:00:00Z, {step}}}"),
            "spec.start: 2020-01-01T00:00:00Z is past",
        ),
        ("{records: 5, steps: []}".to_owned(), "spec.steps: is empty"),
        (
            "{records: 5, steps: [{quota: hubspto}]}".to_owned(),
            "spec.steps[0].quota: quota `hubspto` is not in the files (did you mean `hubspot`?)",
        ),
        (
            "{records: 5, steps: [{quota: hubspot, endpoint: serach}]}".to_owned(),
            "spec.steps[0].endpoint: the profile of hubspot has no endpoint `serach` (did you mean `search`?)",
        ),
        (
            "{records: 5, steps: [{quota: hubspot, calls: \"-1\"}]}".to_owned(),
            "spec.steps[0].calls: `-1` is not a number",
        ),
        (
            "{records: 5, steps: [{quota: openai, outputTokens: 9, maxOutputTokens: 5}]}".to_owned(),
            "spec.steps[0].outputTokens: is more than maxOutputTokens (5)",
        ),
        ("{records: 5, steps: [{quota: hubspot, tokens: 9}]}".to_owned(), "spec.steps[0].tokens"),
    ] {
        let ended = plan(&spec, &[]);
        assert_eq!(ended.code, 2, "{spec}: {}", ended.stdout);
        assert!(ended.stderr.contains(said), "{said} in {}", ended.stderr);
    }
    let known = plan("{records: 5, steps: [{quota: openai, model: gtp-5, inputTokens: 9}]}", &[]);
    assert!(known.stdout.contains("model `gtp-5` is not in the profile of openai"), "{}", known.stdout);
    let ended = plan("{records: 5, steps: [{quota: hubspot}]}", &["--records", "many"]);
    assert_eq!(ended.code, 2, "{}", ended.stdout);
    assert!(ended.stderr.contains("invalid value 'many' for '--records <COUNT>'"), "{}", ended.stderr);
}
