//! A rejection means what the provider says in it: some concern one call, some a moment, some a person.

use counting_provider::{Force, Verdict};
use serde_json::{Value, json};

use crate::rejections_pause_what_is_counted_together::{
    KEY, chat, later, of_model, quota, run, run_by, run_with, statuses,
};
use crate::scene::Scene;

fn force(model: &str, requests: u64, status: u16, body: Value) -> Force {
    Force {
        account: Some(KEY.to_owned()),
        model: Some(model.to_owned()),
        status,
        body: Some(body),
        requests: Some(requests),
        ..Force::default()
    }
}

/// Anthropic's 429 without Retry-After.
fn anthropic_429(model: &str, requests: u64, message: &str) -> Force {
    let error = json!({"type": "rate_limit_error", "message": message});
    let headers = [("x-should-retry".to_owned(), "true".to_owned())].into();
    Force { headers, ..force(model, requests, 429, json!({"type": "error", "error": error})) }
}

fn message(model: &str) -> Value {
    let body = json!({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]});
    json!({"base": "ANTHROPIC_BASE_URL", "path": "/v1/messages", "key": KEY, "body": body})
}

#[test]
fn an_anthropic_429_without_a_time_stops_no_account() {
    let (long, throttled, used_up, crowded) =
        ("claude-haiku-4-5", "claude-3-5-haiku-latest", "claude-sonnet-4", "claude-opus-4");
    // As large as the tier: what is told of the limits slows nothing down.
    let scene = Scene::new(
        "providers: {anthropic: {limits: [{name: requests, count: 4000, windowMillis: 60000, countedAs: Sliding, perModel: true}]}}",
    );
    let provider = &scene.provider;
    provider.force(anthropic_429(long, 1, "Extra usage is required for long context requests.")).unwrap();
    provider.force(anthropic_429(throttled, 1, "Rate limited")).unwrap();
    let mut exhausted = anthropic_429(used_up, 1, "Rate limited");
    for (name, value) in [("limit", "4000"), ("remaining", "0"), ("reset", "2000-01-01T00:00:00Z")] {
        exhausted.headers.insert(format!("anthropic-ratelimit-requests-{name}"), value.to_owned());
    }
    provider.force(exhausted).unwrap();
    let concurrent = "Number of concurrent connections has exceeded your rate limit. Please try again later.";
    provider.force(anthropic_429(crowded, 2, concurrent)).unwrap();

    let models = [long, throttled, used_up, crowded];
    let group = models.iter().flat_map(|model| (0..6).map(|_| message(model))).collect();
    let (results, ended) = run(&scene, "anthropic", "tier-4", &[group]);
    let statuses = statuses(&results, 0);
    let of = |place: usize| statuses[place * 6..][..6].to_vec();
    let mut first = of(0);
    first.sort_unstable();
    assert_eq!(first, [200, 200, 200, 200, 200, 429], "its own caller has the answer\n{}", ended.stderr);
    for (place, model) in models.iter().enumerate().skip(1) {
        assert_eq!(of(place), [200; 6], "{model}: {:?}\n{}", results[0], ended.stderr);
    }
    for (model, forced) in [(long, 1), (throttled, 1), (used_up, 1), (crowded, 2)] {
        let log = of_model(&scene, model);
        assert_eq!(log.iter().filter(|entry| entry.verdict == Verdict::Forced).count(), forced, "{model}");
    }
}

#[test]
fn calls_settle_at_the_concurrency_that_the_provider_takes() {
    let scene = Scene::new(&format!(
        "providers: {{anthropic: {{limits: [{{name: requests, count: 4000, windowMillis: 60000, countedAs: Sliding}}]}}}}
accounts: {{{KEY}: {{answerMillis: 1000, mostUnderWay: 4}}}}"
    ));
    let group = (0..40).map(|_| message("claude-haiku-4-5")).collect();
    let (results, ended) = run_by(&scene, &quota("anthropic", "tier-4"), &[group], 12);
    assert_eq!(statuses(&results, 0), [200; 40], "{}", ended.stderr);
    let log = of_model(&scene, "claude-haiku-4-5");
    let rejected = log.iter().filter(|entry| entry.verdict == Verdict::Over).count();
    assert!(
        (1..=8 + 3).contains(&rejected),
        "{rejected} rejections: 8 of the first 12, and few to try one more"
    );
    // Four of the rest begin one after the other, or at about the same time when four have ended.
    let full = log[12..].iter().filter(|entry| entry.verdict == Verdict::Ok && entry.under_way == 4).count();
    assert!(full >= 7, "{full} of the later calls found three others under way: {log:?}");
}

#[test]
fn the_hard_limit_of_billing_stops_the_account_in_the_providers_words() {
    let scene = Scene::new("{}");
    let other = json!({"error": {"code": "invalid_value", "message": "no", "type": "invalid_request_error"}});
    scene.provider.force(force("o3-mini", 1, 400, other)).unwrap();
    let error = json!({"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached",
        "param": null, "type": "invalid_request_error"});
    scene.provider.force(force("gpt-4o", 1000, 400, json!({"error": error}))).unwrap();
    let one_by_one = (0..8).map(|_| vec![chat("gpt-4o")]);
    let groups: Vec<_> =
        [vec![chat("o3-mini")], vec![chat("o3-mini")]].into_iter().chain(one_by_one).collect();
    let (results, ended) = run(&scene, "openai", "tier-5", &groups);
    assert_eq!((statuses(&results, 0), statuses(&results, 1)), (vec![400], vec![200]), "{}", ended.stderr);
    assert_eq!(of_model(&scene, "gpt-4o").len(), 2, "the second asks again, and no other does");
    for (group, call) in results.iter().enumerate().skip(4) {
        assert_eq!(call[0]["status"], 403, "group {group}: {call:?}");
        assert_eq!(call[0]["reason"], "ProviderStopped");
        let text = call[0]["text"].as_str().unwrap();
        assert!(text.contains("billing_hard_limit_reached"), "{text}");
    }
}

#[test]
fn words_name_the_wait_and_the_models_that_share_the_limit() {
    let scene = Scene::new("{}");
    let says = |kind: &str, message: &str| {
        let message = format!("Rate limit reached for {message}");
        json!({"error": {"message": message, "type": kind, "code": "rate_limit_exceeded"}})
    };
    let tokens = "m-latest (for limit m) in organization org-x on tokens per min (TPM): Limit 40000000, Used 40000000. Please try again in 2.5s.";
    scene.provider.force(force("m-latest", 1, 429, says("tokens", tokens))).unwrap();
    // Later on nobody says again who shares.
    let requests = "m on requests per min (RPM): Limit 3000, Used 3000. Please try again in 2.5s.";
    scene.provider.force(force("m", 1, 429, says("requests", requests))).unwrap();
    let images =
        "gpt-image-1 on input-images per min: Limit 10, Used 10, Requested 2. Please try again in 2.5s.";
    scene.provider.force(force("gpt-image-1", 1, 429, says("input-images", images))).unwrap();
    let html = Force {
        headers: [("content-type".to_owned(), "text/html".to_owned())].into(),
        ..force("behind-a-cdn", 1, 429, json!("<html><title>Too many requests</title></html>"))
    };
    scene.provider.force(html).unwrap();
    let first = vec![
        chat("m-latest"),
        chat("gpt-image-1"),
        later(0.7, chat("m-2026-08-01")),
        later(0.7, chat("gpt-image-1")),
        later(0.7, chat("other")),
        later(3.0, chat("behind-a-cdn")),
    ];
    let second = vec![chat("m"), later(0.7, chat("m-latest")), later(0.7, chat("m-2026-08-01"))];
    let (results, ended) = run(&scene, "openai", "tier-5", &[first, second]);
    assert_eq!(statuses(&results, 0), [200; 6], "{:?}\n{}", results[0], ended.stderr);
    assert_eq!(statuses(&results, 1), [200; 3], "{:?}\n{}", results[1], ended.stderr);
    let arrivals = |model: &str| -> Vec<u64> {
        of_model(&scene, model).iter().map(|entry| entry.arrival_nanos).collect()
    };
    let (latest, dated, m) = (arrivals("m-latest"), arrivals("m-2026-08-01"), arrivals("m"));
    let pause = 2_500_000_000;
    let told = latest[0] + pause;
    assert!(latest[1] >= told && dated[0] >= told, "both waited as they were told");
    assert!(arrivals("other")[0] < told, "and the others did not");
    let told = m[0] + pause;
    assert!(m[1] >= told && latest[2] >= told && dated[1] >= told, "they share the limit from then on");
    let images = arrivals("gpt-image-1");
    assert!(images.len() == 3 && images[1..].iter().all(|at| *at >= images[0] + pause), "{images:?}");
    assert_eq!(arrivals("behind-a-cdn").len(), 2);
}

/// A provider of the user's own that rejects as a test profile says. Its limits are so large that nothing else slows it
/// down.
fn rejecting(model: &str, profile: &str, limits: &str) -> String {
    let (_, rejections) = profile.split_once("rejections:\n").unwrap();
    let rejections: String = rejections.lines().map(|line| format!("  {line}\n")).collect();
    let provider = format!(
        "apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {{name: own}}
spec:
  hosts: [api.demo.example]
  baseUrl: {{upstream: \"https://api.demo.example\", variables: [{{name: DEMO_BASE_URL}}]}}
  model: {model}
  tiers:
  - name: default
    limits:
{limits}
  rejections:
"
    );
    format!("{provider}{rejections}---\n{}", quota("own", "default"))
}

fn gemini() -> String {
    rejecting(
        "{body: /model}",
        include_str!("../../crates/dialects/providers/gemini.yaml"),
        "    - {name: requests, unit: Requests, amount: 10000, windowSeconds: 10, partition: Model}
    - {name: daily, unit: Requests, amount: 10000000, windowSeconds: 86400, partition: Model}",
    )
}

fn salesforce() -> String {
    rejecting(
        "{body: /model}",
        include_str!("../../crates/dialects/tests/profiles/salesforce.yaml"),
        "    - {name: daily, unit: Requests, amount: 10000000, windowSeconds: 86400}
    - {name: long-calls, unit: ConcurrentRequests, amount: 25}",
    )
}

/// A call whose client waits for ten seconds.
fn own(model: &str) -> Value {
    json!({"base": "DEMO_BASE_URL", "path": "/anything", "key": KEY, "body": {"model": model}, "patience": 10})
}

#[test]
fn a_plan_without_a_model_stops_that_model_alone_also_in_a_list() {
    let scene = Scene::new("{}");
    let error = json!({"code": 429, "status": "RESOURCE_EXHAUSTED",
        "message": "Quota exceeded for metric: free_tier_requests, limit: 0, model: pro. Please retry in 45.578569677s."});
    let forced = Force {
        account: Some(KEY.to_owned()),
        body: Some(json!([{"error": error}])),
        requests: Some(2),
        ..Force::default()
    };
    scene.provider.force(forced).unwrap();
    let call = |model: &str| vec![own(model)];
    let groups = [call("pro"), call("pro"), call("pro"), call("flash"), call("flash"), call("pro")];
    let (results, ended) = run_with(&scene, &gemini(), &groups);
    let statuses: Vec<u64> = (0..6).map(|group| statuses(&results, group)[0]).collect();
    assert_eq!(statuses, [429, 429, 403, 200, 200, 403], "{results:?}\n{}", ended.stderr);
    assert_eq!(scene.provider.log(KEY).len(), 4);
}

#[test]
fn a_day_of_a_model_lasts_to_its_end_and_a_minute_as_long_as_it_says() {
    let scene = Scene::new("{}");
    let violation = |id: &str, delay: &str| {
        let violations = json!([{"quotaId": id, "quotaValue": "20"}]);
        let message = format!("You exceeded your current quota. Please retry in {delay}.");
        let details = json!([{"violations": violations}, {"retryDelay": delay}]);
        json!({"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}})
    };
    let minute = violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "2.5s");
    let day = violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "2.5s");
    let forms = [("single", false, false), ("list", true, false), ("gzip", true, true)];
    for (form, list, gzip) in forms {
        for (what, body) in [("minute", &minute), ("day", &day)] {
            let body = if list { json!([body]) } else { body.clone() };
            let mut forced = force("", 1, 429, body);
            // The demo API takes no notice of models: each call is rejected by a credential of its own.
            forced.model = None;
            forced.account = Some(format!("{KEY}-{what}-{form}"));
            if gzip {
                forced.headers.insert("content-encoding".to_owned(), "gzip".to_owned());
            }
            scene.provider.force(forced).unwrap();
        }
    }
    let names = ["minute", "day"].map(|what| forms.map(|(form, ..)| format!("{what}-{form}"))).concat();
    let call = |name: &String| {
        let mut call = own(name);
        call["key"] = json!(format!("{KEY}-{name}"));
        call
    };
    let group = names.iter().map(call).chain(names.iter().map(|name| later(0.7, call(name)))).collect();
    let (results, ended) = run_with(&scene, &gemini(), &[group]);
    let statuses = statuses(&results, 0);
    for (place, name) in names.iter().enumerate() {
        let log = scene.provider.log(&format!("{KEY}-{name}"));
        let both = [statuses[place], statuses[names.len() + place]];
        if name.starts_with("day") {
            assert_eq!((both, log.len()), ([429; 2], 1), "{name}: {results:?}\n{}", ended.stderr);
        } else {
            assert_eq!((both, log.len()), ([200; 2], 3), "{name}: {results:?}\n{}", ended.stderr);
            let told = log[0].arrival_nanos + 2_500_000_000;
            assert!(log[1..].iter().all(|entry| entry.arrival_nanos >= told), "{name}: {log:?}");
        }
    }
}

#[test]
fn one_word_for_a_day_and_for_a_moment_is_told_apart_by_the_message() {
    let error = |message: &str| json!([{"message": message, "errorCode": "REQUEST_LIMIT_EXCEEDED"}]);
    let total = error("TotalRequests Limit exceeded.");
    let forced = |status, body| Force { model: None, ..force("", 1, status, body) };
    // A moment: sent again, and nobody notices.
    let scene = Scene::new(&format!("accounts: {{{KEY}: {{answerMillis: 300}}}}"));
    let concurrent = error("ConcurrentRequests (Concurrent API Requests) Limit exceeded.");
    scene.provider.force(forced(403, concurrent)).unwrap();
    // One that is rejected while few others are under way leaves room for few: the calls have the time to wait.
    let patient = || {
        let mut call = own("any");
        call["patience"] = json!(120);
        call
    };
    let group = (0..30).map(|_| patient()).collect();
    let (results, ended) = run_with(&scene, &salesforce(), &[group]);
    assert_eq!(statuses(&results, 0), [200; 30], "{results:?}\n{}", ended.stderr);
    assert_eq!(scene.provider.log(KEY).len(), 31);
    // A day: also where a part of a composite answer says so, which reaches its client.
    let composite =
        json!([{"httpStatusCode": 200, "body": {"id": "1"}}, {"httpStatusCode": 403, "body": total}]);
    for (status, body, first) in [(403, total.clone(), 429), (200, composite, 200)] {
        let scene = Scene::new("{}");
        scene.provider.force(forced(status, body)).unwrap();
        let (results, ended) = run_with(&scene, &salesforce(), &[vec![own("any")], vec![own("any")]]);
        let statuses = [statuses(&results, 0)[0], statuses(&results, 1)[0]];
        assert_eq!(statuses, [first, 429], "{results:?}\n{}", ended.stderr);
        assert_eq!(scene.provider.log(KEY).len(), 1);
    }
}

/// A call of a model in Bedrock's form, with a credential of its own, whose rejections are forced by it.
fn invoke(model: &str) -> Value {
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let path = format!("/anything/model/{model}/invoke");
    json!({"base": "DEMO_BASE_URL", "path": path, "key": format!("{KEY}-{model}"), "body": body, "patience": 60})
}

#[test]
fn bedrocks_throttling_without_a_time_holds_its_model_alone() {
    let bedrock = rejecting(
        "{pathAfter: model}",
        include_str!("../../crates/dialects/providers/bedrock.yaml"),
        "    - {name: requests, unit: Requests, amount: 10000, windowSeconds: 10, partition: Model}
    - {name: tokens, unit: TotalTokens, amount: 10000000, windowSeconds: 60, partition: Model}",
    );
    let scene = Scene::new("{}");
    // Until when a model is held, in seconds.
    let rejected = [
        ("opus", "ThrottlingException", "Too many tokens, please wait before trying again.", 5),
        ("titan", "ThrottlingException", "Too many requests, please wait before trying again.", 5),
        ("nova", "ModelNotReadyException", "The model is not ready for inference.", 2),
        ("daily", "ThrottlingException", "Too many tokens per day, please wait before trying again.", 600),
    ];
    for (model, kind, message, _) in rejected {
        let forced = Force {
            account: Some(format!("{KEY}-{model}")),
            headers: [("x-amzn-errortype".to_owned(), kind.to_owned())].into(),
            model: None,
            ..force("", 1, 429, json!({"message": message}))
        };
        scene.provider.force(forced).unwrap();
    }
    let models = rejected.map(|(model, ..)| model);
    let at_once = models.iter().map(|model| invoke(model));
    let soon = models.iter().chain(&["haiku"]).map(|model| later(0.7, invoke(model)));
    let (results, ended) = run_with(&scene, &bedrock, &[at_once.chain(soon).collect()]);
    let statuses = statuses(&results, 0);
    let arrivals = |model: &str| -> Vec<u64> {
        let mut log = scene.provider.log(&format!("{KEY}-{model}"));
        log.sort_by_key(|entry| entry.arrival_nanos);
        log.iter().map(|entry| entry.arrival_nanos).collect()
    };
    for (place, (model, _, _, seconds)) in rejected.into_iter().enumerate() {
        let (both, arrivals) = ([statuses[place], statuses[models.len() + place]], arrivals(model));
        if model == "daily" {
            assert_eq!((both, arrivals.len()), ([429; 2], 1), "{results:?}\n{}", ended.stderr);
            continue;
        }
        assert_eq!((both, arrivals.len()), ([200; 2], 3), "{model}: {results:?}\n{}", ended.stderr);
        let told = arrivals[0] + seconds * 1_000_000_000;
        assert!(arrivals[1..].iter().all(|at| *at >= told), "{model}: {arrivals:?}");
    }
    assert_eq!(statuses.last(), Some(&200));
    let free = arrivals("haiku")[0];
    let held = models[..3].iter().map(|model| arrivals(model)[1]);
    assert!(held.min() > Some(free), "a model that was not rejected went at once");
}

#[test]
fn a_tier_of_service_that_is_counted_apart_has_limits_and_pauses_of_its_own() {
    let documents = rejecting(
        "{body: /model, serviceTier: {body: /service_tier, countedApart: [flex]}}",
        "rejections:\n- {statuses: [429], class: Quota, scope: Limit, limit: requests, cooldownSeconds: 3}\n",
        "    - {name: requests, unit: Requests, amount: 4, windowSeconds: 60, partition: Model, countedAs: SlidingWindow}",
    );
    let scene = Scene::new("{}");
    let call = |tier: &str| {
        let mut call = own("m");
        call["key"] = json!(format!("{KEY}-{tier}"));
        call["body"]["service_tier"] = json!(tier);
        call
    };
    let forced = Force { account: Some(format!("{KEY}-flex")), model: None, ..force("", 1, 429, json!({})) };
    scene.provider.force(forced).unwrap();
    // Rejections count too: three calls of flex are left, and four of the others.
    let first = vec![call("flex"), later(0.7, call("default")), later(0.7, call("flex"))];
    let rest = ["flex", "default", "default", "default"].map(&call).to_vec();
    let more = vec![call("flex"), call("default")];
    let (results, ended) = run_with(&scene, &documents, &[first, rest, more]);
    assert_eq!(statuses(&results, 0), [200; 3], "{:?}\n{}", results[0], ended.stderr);
    assert_eq!(statuses(&results, 1), [200; 4], "{:?}\n{}", results[1], ended.stderr);
    assert_eq!(
        statuses(&results, 2),
        [429; 2],
        "each has used its own four: {:?}\n{}",
        results[2],
        ended.stderr
    );
    let arrivals = |tier: &str| -> Vec<u64> {
        let mut log = scene.provider.log(&format!("{KEY}-{tier}"));
        log.sort_by_key(|entry| entry.arrival_nanos);
        log.iter().map(|entry| entry.arrival_nanos).collect()
    };
    let (flex, others) = (arrivals("flex"), arrivals("default"));
    assert_eq!((flex.len(), others.len()), (4, 4));
    let told = flex[0] + 3_000_000_000;
    assert!(flex[1] >= told && others[0] < told, "{flex:?} {others:?}");
}
