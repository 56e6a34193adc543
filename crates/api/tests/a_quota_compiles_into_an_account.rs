//! What an engine is told of a quota, by example: a spec beside what becomes of it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quotakeeper_api::compile;
use quotakeeper_api::problem::Problem;
use quotakeeper_api::{validate, yaml};
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_engine::config::{CountedAs, LimitConfig, Mode, OnExceeded, Pacing, Unit};
use quotakeeper_engine::sharing::Priority;
use quotakeeper_wire::account::{CompiledAccount, StatedUse};

/// A provider with every kind of limit.
const PROFILE: &str = "
hosts: [api.acme.example]
headers: [{limit: requests, hard: x-limit}]
tiers:
- name: small
  limits:
  - {name: requests, unit: Requests, amount: 100, windowSeconds: 10, countedAs: SlidingWindow}
- name: large
  limits:
  - {name: requests, unit: Requests, amount: 2000000, windowSeconds: 60, partition: Model}
  - {name: bucket, unit: Requests, amount: 120, windowSeconds: 60, countedAs: LeakyBucket, burst: 40}
  - {name: search, unit: Requests, amount: 5, windowSeconds: 1, endpoint: search, deliveryMillis: 200}
  - {name: concurrency, unit: ConcurrentRequests, amount: 25}
  - {name: tokens, unit: TotalTokens, amount: 90000, windowSeconds: 60}
endpoints: [{name: search, paths: [/search]}]
";

fn profile(text: &str) -> Profile {
    serde_json::from_value(yaml::read(text).unwrap().remove(0).value).unwrap()
}

/// The account of a spec, whose lines are those under `spec:`.
fn compile_with(profile: Profile, spec: &str) -> Result<CompiledAccount, Vec<Problem>> {
    let text = format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\n\
         metadata: {{name: main, namespace: gtm, generation: 3}}\nspec:\n{spec}"
    );
    let quota = validate::quota(&yaml::read(&text).unwrap()[0].value).unwrap();
    compile::account(&quota, profile)
}

fn account(spec: &str) -> CompiledAccount {
    compile_with(profile(PROFILE), spec).unwrap()
}

fn refused(spec: &str) -> Vec<String> {
    let problems = compile_with(profile(PROFILE), spec).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

fn limit<'a>(account: &'a CompiledAccount, name: &str) -> &'a LimitConfig {
    account.engine.limits.iter().find(|limit| limit.name == name).unwrap()
}

const LARGE: &str = "  provider: {name: acme, tier: large}\n";

#[test]
fn a_tier_compiles_to_its_limits() {
    let account = account(LARGE);
    assert_eq!(account.tier, "large");
    assert_eq!((account.generation, account.quota.as_str()), (3, "gtm/main"));
    assert_eq!((account.not_enforced.len(), account.engine.limits.len()), (0, 5));
    assert_eq!(limit(&account, "tokens").unit, Unit::TotalTokens);

    let requests = limit(&account, "requests");
    assert_eq!((requests.amount, requests.declared), (2_000_000, None));
    assert_eq!((requests.window, requests.delivery), (Duration::from_secs(60), Duration::from_secs(1)));
    assert_eq!((requests.counted_as, requests.burst, requests.per_model), (CountedAs::Unknown, None, true));

    let search = limit(&account, "search");
    assert_eq!(search.endpoint.as_deref(), Some("search"));
    assert_eq!(search.delivery, Duration::from_millis(200), "the profile's word wins");
    let bucket = limit(&account, "bucket");
    assert_eq!((bucket.counted_as, bucket.burst), (CountedAs::LeakyBucket, Some(40)));
    let concurrency = limit(&account, "concurrency");
    assert_eq!((concurrency.unit, concurrency.amount), (Unit::ConcurrentRequests, 25));
}

#[test]
fn a_fifth_of_two_million_less_a_tenth_is_360k() {
    let account = account(&format!(
        "{LARGE}  account: {{sharePercent: 20, reservePercent: 10}}\n  limits:\n  - {{name: search, unit: Requests, amount: 50, windowSeconds: 1}}\n"
    ));
    let requests = limit(&account, "requests");
    assert_eq!((requests.amount, requests.declared), (360_000, Some(2_000_000)));
    assert_eq!(limit(&account, "concurrency").amount, 4, "4.5 is rounded down");
    assert_eq!(limit(&account, "bucket").burst, Some(7), "the other clusters share the bucket");
    assert_eq!(limit(&account, "search").amount, 9);
}

#[test]
fn allocations_compile_with_limits_of_their_own_of_which_nothing_is_taken_off() {
    let account = account(&format!(
        "{LARGE}  account: {{sharePercent: 50}}\n  maxConcurrentPerWorkload: 20\n  allocations:\n\
         \x20 - {{name: chat, pods: {{matchLabels: {{app: chat}}}}, guaranteedPercent: 60, priority: Interactive}}\n\
         \x20 - {{name: nightly, pods: {{matchLabels: {{app: nightly}}}}, maxPercent: 10, priority: Batch,\n\
         \x20    limits: [{{name: calls, unit: Requests, amount: 500, windowSeconds: 60}}]}}\n"
    ));
    let sharing = &account.engine.sharing;
    assert_eq!(sharing.max_concurrent_per_workload, Some(20));
    let [chat, nightly] = &sharing.allocations[..] else { panic!("two: {sharing:?}") };
    assert_eq!((chat.weight, chat.guaranteed_percent, chat.max_percent), (1, 60, 100));
    assert_eq!((chat.priority, nightly.priority), (Priority::Interactive, Priority::Batch));
    assert_eq!((nightly.max_percent, nightly.limits[0].amount), (10, 500));
    let parts: Vec<_> = account.engine.limits_in_force().map(|limit| (limit.name, limit.amount)).collect();
    assert!(parts.contains(&("nightly/requests".to_owned(), 100_000)), "{parts:?}");
    assert!(parts.contains(&("nightly/calls".to_owned(), 500)), "{parts:?}");
}

#[test]
fn an_allocations_limit_needs_a_name_that_no_limit_of_the_account_has() {
    let spec = format!(
        "{LARGE}  allocations:\n  - {{name: chat, pods: {{matchLabels: {{app: chat}}}},\n\
         \x20    limits: [{{name: requests, unit: Requests, amount: 5, windowSeconds: 60}}]}}\n"
    );
    assert_eq!(
        refused(&spec),
        [
            "spec.allocations[0].limits[0].name: `requests` is a limit of the account, of which maxPercent bounds the \
         allocation's part; give this limit another name, for example `chat-requests`"
        ]
    );
}

#[test]
fn a_share_below_one_call_is_refused() {
    let spec = format!("{LARGE}  account: {{sharePercent: 19}}\n");
    assert_eq!(
        refused(&spec),
        [
            "spec.account.sharePercent: of limit `search` (5), 19 % less a reserve of 0 % is not even 1; raise \
          sharePercent, lower reservePercent, or declare a larger amount under `limits`"
        ]
    );
}

#[test]
fn the_lowest_tier_is_the_default() {
    let account = account("  provider: {name: acme}\n");
    assert_eq!(account.tier, "small");
    assert_eq!(limit(&account, "requests").amount, 100);
    assert_eq!(limit(&account, "requests").counted_as, CountedAs::SlidingWindow);
    assert_eq!(limit(&account, "requests").delivery, Duration::from_millis(300));
}

#[test]
fn without_a_tier_all_tiers_are_compiled_for_when_an_answer_tells() {
    let spec = "  provider: {name: acme}\n  account: {sharePercent: 50}\n  limits:\n  - {name: concurrency, unit: ConcurrentRequests, amount: 8}\n";
    let undeclared = account(spec).undeclared.unwrap();
    let names: Vec<&str> = undeclared.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["small", "large"]);
    let of = |tier: usize, name: &str| {
        let found = undeclared.tiers[tier].limits.iter().find(|limit| limit.name == name);
        found.map(|limit| (limit.amount, limit.declared))
    };
    assert_eq!(of(0, "requests"), Some((50, Some(100))));
    assert_eq!(of(1, "requests"), Some((1_000_000, Some(2_000_000))));
    assert_eq!([of(0, "concurrency"), of(1, "concurrency")], [Some((4, Some(8))); 2], "the quota's own");
    assert!(undeclared.tiers[1].limits.iter().any(|limit| limit.unit == Unit::TotalTokens));
    assert!(undeclared.told_by_answers && undeclared.declared.contains("concurrency"));
    assert_eq!(account(LARGE).undeclared, None);
}

#[test]
fn a_provider_without_limit_headers_is_in_force_with_its_lowest_tier_and_asks() {
    let silent = PROFILE.replace("headers: [{limit: requests, hard: x-limit}]\n", "");
    let account = compile_with(profile(&silent), "  provider: {name: acme}\n").unwrap();
    assert_eq!(account.tier, "small");
    let undeclared = account.undeclared.unwrap();
    assert!(!undeclared.told_by_answers);
    let question = undeclared.question();
    assert!(
        question.contains("one of: small (100 requests per 10 s), large (2000000 requests per 60 s, "),
        "{question}"
    );

    let single = silent.replace("- name: small\n", "- name: default\n");
    let single = single.split("- name: large").next().unwrap();
    assert_eq!(compile_with(profile(single), "  provider: {name: acme}\n").unwrap().tier, "default");
}

#[test]
fn an_unknown_tier_is_refused_with_a_list_of_tiers() {
    let problems = refused("  provider: {name: acme, tier: lage}\n");
    assert_eq!(
        problems,
        ["spec.provider.tier: tier `lage` is unknown (did you mean `large`?); use one of: small, large"]
    );
}

#[test]
fn a_quotas_limit_overrides_or_extends_the_tier() {
    let account = account(&format!(
        "{LARGE}  limits:
  - {{name: search, unit: Requests, amount: 10, windowSeconds: 2}}
  - {{name: bucket, unit: Requests, amount: 1k, windowSeconds: 60, countedAs: TokenBucket}}
  - {{name: daily, unit: Requests, amount: 1M, windowSeconds: 86400, countedAs: FixedWindow}}\n"
    ));
    assert_eq!(account.engine.limits.len(), 6);
    let search = limit(&account, "search");
    assert_eq!((search.amount, search.window), (10, Duration::from_secs(2)));
    assert_eq!(search.endpoint.as_deref(), Some("search"), "it still covers the endpoint");
    assert_eq!(search.delivery, Duration::from_millis(200));
    let bucket = limit(&account, "bucket");
    assert_eq!((bucket.amount, bucket.counted_as), (1000, CountedAs::TokenBucket));
    let daily = limit(&account, "daily");
    assert_eq!((daily.amount, daily.counted_as), (1_000_000, CountedAs::FixedWindow));
}

#[test]
fn a_request_limit_cannot_replace_a_token_limit() {
    let spec =
        format!("{LARGE}  limits:\n  - {{name: tokens, unit: Requests, amount: 10, windowSeconds: 60}}\n");
    assert_eq!(
        refused(&spec),
        ["spec.limits[0].unit: Requests can't replace the tier's limit `tokens`, which counts TotalTokens; \
          give this one another name"]
    );
}

#[test]
fn pacing_never_raises_a_burst() {
    let paced = account(&format!("{LARGE}  pacing: {{burst: 30}}\n"));
    assert_eq!(limit(&paced, "bucket").burst, Some(30));
    assert_eq!(limit(&paced, "requests").burst, Some(30));
    assert_eq!(limit(&paced, "concurrency").burst, None);
    let generous = account(&format!("{LARGE}  pacing: {{burst: 1000000}}\n"));
    assert_eq!(limit(&generous, "bucket").burst, Some(40), "the provider's bucket");
    let requests = limit(&generous, "requests");
    assert_eq!(requests.burst, Some(requests.default_burst()), "what an unknown counting bears");
    let window = account("  provider: {name: acme}\n  pacing: {burst: 1000}\n");
    assert_eq!(limit(&window, "requests").burst, Some(100), "a window bears all at once");

    let smooth = account(&format!("{LARGE}  pacing: {{algorithm: LeakyBucket}}\n"));
    assert_eq!(limit(&smooth, "requests").pacing, Pacing::LeakyBucket);
    assert_eq!(limit(&smooth, "concurrency").pacing, Pacing::TokenBucket);
}

#[test]
fn queue_time_comes_from_the_quota_then_the_profile_then_the_clients() {
    let wait = |client: &str, spec: &str| {
        let profile = profile(&format!("{PROFILE}{client}"));
        compile_with(profile, &format!("{LARGE}{spec}")).unwrap().engine.queue.max_wait.as_secs()
    };
    assert_eq!(wait("", ""), 30);
    assert_eq!(wait("client: {patienceSeconds: 10}", ""), 30);
    assert_eq!(wait("client: {patienceSeconds: 600}", ""), 480);
    assert_eq!(wait("client: {patienceSeconds: 600, maxQueueSeconds: 90}", ""), 90);
    let quota = "  enforcement: {maxQueueSeconds: 5}\n";
    assert_eq!(wait("client: {patienceSeconds: 600, maxQueueSeconds: 90}", quota), 5);
}

#[test]
fn only_a_quotas_own_maximum_bounds_the_wait_for_an_absent_limiter() {
    let absence = |spec: &str| {
        let profile = profile(&format!("{PROFILE}client: {{maxQueueSeconds: 90}}"));
        compile_with(profile, &format!("{LARGE}{spec}")).unwrap().engine.queue.max_absence
    };
    assert_eq!(absence(""), None, "as long as the client waits");
    assert_eq!(absence("  enforcement: {maxQueueSeconds: 5}\n"), Some(Duration::from_secs(5)));
    assert_eq!(absence("  enforcement: {onExceeded: Reject}\n"), Some(Duration::from_secs(90)));
}

#[test]
fn a_limits_models_use_the_counted_names() {
    let models = |models: &str| {
        let text = PROFILE.replace("endpoint: search, ", &format!("models: {models}, "));
        let classes = "model: {body: /model, classes: [{name: mini, models: [m-mini*]}]}\n";
        compile_with(profile(&format!("{text}{classes}")), LARGE)
    };
    let account = models("[mini, m-large]").unwrap();
    assert_eq!(limit(&account, "search").models, ["mini", "m-large"]);
    let account = models("[m-mini-2025]").unwrap();
    assert_eq!(limit(&account, "search").models, ["mini"], "stricter: its whole class");
    let problems = models("['m-*']").unwrap_err();
    assert_eq!(problems[0].field, "spec.provider.name");
    assert!(
        problems[0].message.contains("limit `search` covers the models `m-*` by a pattern"),
        "{}",
        problems[0]
    );
}

#[test]
fn enforcement_is_passed_on() {
    let plain = account(LARGE).engine;
    assert_eq!((plain.mode, plain.on_exceeded), (Mode::Enforce, OnExceeded::Queue));
    let set = account(&format!("{LARGE}  enforcement: {{mode: Disabled, onExceeded: Reject}}\n")).engine;
    assert_eq!((set.mode, set.on_exceeded), (Mode::Disabled, OnExceeded::Reject));
}

#[test]
fn pauses_and_slots_last_as_long_as_the_profile_needs() {
    let pause = account(LARGE).engine.pause;
    assert_eq!((pause.cap.as_secs(), pause.max_call.as_secs()), (3600, 600));
    let daily = format!(
        "{PROFILE}rejections: [{{statuses: [429], class: Quota, maximumSeconds: 86400}}]\n\
         client: {{patienceSeconds: 1800}}\n"
    );
    let pause = compile_with(profile(&daily), LARGE).unwrap().engine.pause;
    assert_eq!((pause.cap.as_secs(), pause.max_call.as_secs()), (86_400, 1800));
}

#[test]
fn the_account_key_is_its_id_or_the_quotas_name() {
    assert_eq!(account(LARGE).key, "acme/gtm/main");
    assert_eq!(account(&format!("{LARGE}  account: {{id: org-9f2c}}\n")).key, "acme/org-9f2c");
}

#[test]
fn an_organization_is_of_use_where_answers_name_one() {
    let spec = format!("{LARGE}  account: {{organization: acme-inc}}\n");
    let account = account(&spec);
    assert_eq!(account.organization.as_deref(), Some("acme-inc"));
    assert!(account.warnings.iter().any(|warning| warning.starts_with("account.organization ")));
    let named = format!("{PROFILE}organizationHeaders: [acme-account]\n");
    let account = compile_with(profile(&named), &spec).unwrap();
    assert_eq!((account.organization.as_deref(), account.warnings.len()), (Some("acme-inc"), 0));
}

#[test]
fn every_tier_of_the_catalogue_compiles_and_reads_back() {
    for name in catalogue::names() {
        let profile = catalogue::find(name).unwrap();
        assert!(!profile.tiers.is_empty(), "{name}");
        for tier in profile.tier_names() {
            let spec = format!("  provider: {{name: {name}, tier: {tier}}}\n");
            let account = compile_with(profile.clone(), &spec).unwrap();
            assert!(!account.engine.limits.is_empty(), "{name} {tier}");
            let json = serde_json::to_string(&account).unwrap();
            assert_eq!(CompiledAccount::load(&json).unwrap(), account, "{name} {tier}");
        }
    }
}

#[test]
fn headers_are_read_by_the_windows_in_force() {
    let profile = profile(
        "
hosts: [api.acme.example]
headers: [{limit: requests, hard: x-limit, remaining: x-left, intervalMillis: x-interval}]
tiers:
- {name: small, limits: [{name: requests, unit: Requests, amount: 100, windowSeconds: 10}]}
- {name: large, limits: [{name: requests, unit: Requests, amount: 900, windowSeconds: 60}]}
",
    );
    let observed = |spec: &str, interval: &str| {
        let account = compile_with(profile.clone(), spec).unwrap();
        let headers = [("x-limit", "50"), ("x-left", "7"), ("x-interval", interval)];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers = http::HeaderMap::from_iter(headers);
        let head =
            quotakeeper_dialects::Head { status: http::StatusCode::OK, headers: &headers, endpoint: None };
        let reading = account.profile.read(head, None, jiff::Timestamp::UNIX_EPOCH);
        reading.observations.len()
    };
    let tier = "  provider: {name: acme, tier: small}\n";
    let window =
        format!("{tier}  limits: [{{name: requests, unit: Requests, amount: 50, windowSeconds: 30}}]\n");
    assert_eq!([observed(tier, "10000"), observed(tier, "60000")], [1, 0]);
    assert_eq!([observed(&window, "30000"), observed(&window, "10000")], [1, 0], "the quota's own window");
}

#[test]
fn use_of_what_an_allocation_declares_can_be_stated() {
    let sales = "  allocations: [{name: sales, pods: {matchLabels: {team: sales}}, limits: [{name: daily, unit: Requests, amount: 40, windowSeconds: 86400}]}]\n";
    let stated = "  used: [{limit: sales/daily, amount: 7, at: 2026-11-03T14:03:10Z}]\n";
    let used = account(&format!("{LARGE}{sales}{stated}")).used;
    assert_eq!((used[0].limit.as_str(), used[0].amount), ("sales/daily", 7));
    let refused = refused(&format!("{LARGE}{stated}"));
    assert!(
        refused[0].starts_with("spec.used[0].limit: no limit named sales/daily with a window"),
        "{refused:?}"
    );
}

#[test]
fn stated_use_is_compiled_where_its_limit_is_in_force() {
    let stated = "  used: [{limit: requests, amount: 7, at: \"2026-11-03T16:03:10+02:00\"}]\n";
    let used = account(&format!("{LARGE}{stated}")).used;
    let at = "2026-11-03T14:03:10Z".parse().unwrap();
    assert_eq!(used, [StatedUse { limit: "requests".to_owned(), amount: 7, at }]);
    for other in ["daily", "concurrency"] {
        let stated = format!("{LARGE}  used: [{{limit: {other}, amount: 7, at: 2026-11-03T14:03:10Z}}]\n");
        assert_eq!(
            refused(&stated),
            [format!(
                "spec.used[0].limit: no limit named {other} with a window or period is in force; use one of: requests, bucket, search, tokens, or remove the entry"
            )]
        );
    }
}
