//! What an engine is told of limits of tokens and money: how they count, what is held, what models cost.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quotakeeper_api::problem::Problem;
use quotakeeper_api::{compile, validate, yaml};
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_engine::config::{
    ArrivalOutput, CalendarPeriod, Charged, CountedAs, LimitConfig, ModelFacts, NANODOLLARS, PeriodKind,
    Reserving, TokenRates,
};
use quotakeeper_wire::account::{CompiledAccount, StatedUse};

/// A provider whose limits count in each of the ways.
const PROFILE: &str = r#"
hosts: [api.acme.example]
model:
  body: /model
  classes: [{name: mini, models: [mini*]}, {name: large, models: [large-1*, large-2*]}]
models:
- {names: [mini*], maxOutputTokens: 4096, contextTokens: 128000, prices: {input: "0.15", cached: "0.075", output: "0.60"}}
- {names: [large-1*], maxOutputTokens: 8192, prices: {input: "15", cacheWrite: "18.75", cached: "1.50", output: "75"}}
- {names: [large-2*], maxOutputTokens: 64000, contextTokens: 1000000, prices: {input: "5", output: "25", call: "0.01"}}
- {names: [embed], maxOutputTokens: 0, prices: {input: "0.02", output: "0"}}
- {names: [unpriced]}
prices: {asOf: 2026-11, source: "https://acme.example/pricing"}
tokens: {usage: {at: [/usage], input: [/input_tokens], output: [/output_tokens]}}
tiers:
- name: default
  limits:
  - {name: requests, unit: Requests, amount: 100, windowSeconds: 60}
  - {name: tokens, unit: TotalTokens, amount: 90000, windowSeconds: 60, partition: Model}
  - {name: arrival, unit: TotalTokens, amount: 90000, windowSeconds: 60, charged: AtArrival, formula: {output: Largest, exact: true}}
  - {name: input, unit: InputTokens, amount: 30000, windowSeconds: 60, charged: Settled, weights: {cached: 0}, burst: 10000}
  - {name: output, unit: OutputTokens, amount: 8000, windowSeconds: 60, charged: AsProduced}
  - {name: burndown, unit: TotalTokens, amount: 90000, windowSeconds: 60, weights: {output: 5, cached: 0}}
  - {name: daily, unit: TotalTokens, amount: 500000, windowSeconds: 86400}
  - {name: spend, unit: Dollars, amount: 250, windowSeconds: 600}
  - {name: midnight, unit: Requests, amount: 250, period: Day, timeZone: America/Los_Angeles}
"#;

fn profile(text: &str) -> Profile {
    serde_json::from_value(yaml::read(text).unwrap().remove(0).value).unwrap()
}

fn compile_with(profile: Profile, spec: &str) -> Result<CompiledAccount, Vec<Problem>> {
    compile_spec(profile, &format!("  provider: {{name: acme, tier: default}}\n{spec}"))
}

fn compile_spec(profile: Profile, spec: &str) -> Result<CompiledAccount, Vec<Problem>> {
    assert_eq!(profile.validate(), Ok(()));
    let text = format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: main, namespace: gtm, generation: 3}}\n\
         spec:\n{spec}"
    );
    compile::account(&validate::quota(&yaml::read(&text).unwrap()[0].value).unwrap(), profile)
}

/// The account of a spec that has these limits.
fn account(limits: &[&str]) -> CompiledAccount {
    compile_with(profile(PROFILE), &spec(limits)).unwrap()
}

fn spec(limits: &[&str]) -> String {
    let items: String = limits.iter().map(|limit| format!("  - {limit}\n")).collect();
    if items.is_empty() { items } else { format!("  limits:\n{items}") }
}

fn refused(profile_text: &str, limit: &str) -> Vec<String> {
    let problems = compile_with(profile(profile_text), &spec(&[limit])).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

fn limit<'a>(account: &'a CompiledAccount, name: &str) -> &'a LimitConfig {
    account.engine.limits.iter().find(|limit| limit.name == name).unwrap()
}

/// The tier's limits of tokens and money, declared once more.
const DECLARED: [&str; 7] = [
    "{name: tokens, unit: TotalTokens, amount: 90k, windowSeconds: 60}",
    "{name: arrival, unit: TotalTokens, amount: 90k, windowSeconds: 60}",
    "{name: input, unit: InputTokens, amount: 30k, windowSeconds: 60}",
    "{name: output, unit: OutputTokens, amount: 8k, windowSeconds: 60}",
    "{name: burndown, unit: TotalTokens, amount: 90k, windowSeconds: 60}",
    "{name: daily, unit: TotalTokens, amount: 500k, windowSeconds: 86400}",
    "{name: spend, unit: Dollars, amount: 250, windowSeconds: 600}",
];

const ALL: TokenRates = TokenRates { input: 1, cached: 1, cache_write: 1, output: 1 };

#[test]
fn a_tiers_token_limits_are_in_force_as_it_says_or_as_the_quota_does() {
    let names = ["tokens", "arrival", "input", "output", "burndown", "daily", "spend"];
    let enforced = |account: &CompiledAccount| names.map(|name| account.engine.has_limit(name));
    let of_tier = account(&[]);
    assert_eq!((enforced(&of_tier), of_tier.not_enforced.len()), ([true; 7], 0));
    let declared = account(&DECLARED);
    assert_eq!((enforced(&declared), declared.not_enforced.len()), ([true; 7], 0));
    assert_eq!(limit(&of_tier, "input").tokens, limit(&declared, "input").tokens, "counted in the same way");
}

#[test]
fn models_have_the_amounts_that_the_tier_has_for_them() {
    let openai = |quota: &str| {
        let profile = quotakeeper_dialects::catalogue::find("openai").unwrap();
        let text =
            format!("  provider: {{name: openai, tier: tier-1}}\n  account: {{sharePercent: 50}}\n{quota}");
        compile_spec(profile, &text).unwrap()
    };
    let of_tier = openai("");
    let tokens = limit(&of_tier, "tokens");
    let amounts = |model: &str| tokens.amount_of(Some(model)).amount;
    assert_eq!(["gpt-4o", "gpt-5", "gpt-5-mini"].map(amounts), [15_000, 250_000, 250_000]);
    assert_eq!(tokens.amount_of(Some("gpt-5")).hard(), 500_000, "headers are compared with the whole");
    let own = openai("  limits: [{name: tokens, unit: TotalTokens, amount: 1M, windowSeconds: 60}]\n");
    assert_eq!(limit(&own, "tokens").amount_of(Some("gpt-5")).amount, 500_000, "the quota's own word wins");
}

#[test]
fn a_token_limit_says_how_the_provider_counts() {
    let account = account(&DECLARED);
    let tokens = |name: &str| limit(&account, name).tokens.unwrap();
    assert_eq!((tokens("tokens").charged, tokens("tokens").rates), (Charged::Unknown, ALL));
    assert_eq!(limit(&account, "tokens").effective_burst(), 90_000, "no documented bucket is smaller");
    assert!(limit(&account, "tokens").per_model);

    let arrival = tokens("arrival").arrival.unwrap();
    assert_eq!(
        (tokens("arrival").charged, arrival.output, arrival.exact),
        (Charged::AtArrival, ArrivalOutput::Largest, true)
    );
    assert_eq!(arrival.bytes_per_token, 4);

    assert_eq!(tokens("input").rates, TokenRates { input: 1, cached: 0, cache_write: 1, output: 0 });
    assert_eq!(tokens("input").arrival.unwrap().output, ArrivalOutput::Ignored);
    assert_eq!(limit(&account, "input").effective_burst(), 10_000, "the profile's word wins");
    assert_eq!(tokens("output").rates, TokenRates { output: 1, ..TokenRates::default() });
    assert_eq!(tokens("output").charged, Charged::AsProduced);
    assert_eq!(tokens("burndown").rates, TokenRates { input: 1, cached: 0, cache_write: 1, output: 5 });
    assert_eq!(limit(&account, "requests").tokens, None);
}

#[test]
fn the_bound_is_held_where_nothing_may_be_overspent() {
    let held = |own: &[&str], name: &str| limit(&account(own), name).tokens.unwrap().reserving;
    assert_eq!(held(&DECLARED, "tokens"), Reserving::Learned);
    assert_eq!(held(&DECLARED, "daily"), Reserving::Bound);
    assert_eq!(held(&DECLARED, "spend"), Reserving::Bound, "money, whatever its window");
    let own = "{name: daily, unit: TotalTokens, amount: 1M, windowSeconds: 86400, reserve: Learned}";
    assert_eq!(held(&[own], "daily"), Reserving::Learned);
    let own = "{name: tokens, unit: TotalTokens, amount: 1M, windowSeconds: 60, reserve: Bound}";
    assert_eq!(held(&[own], "tokens"), Reserving::Bound);
}

#[test]
fn a_quotas_own_token_limit_keeps_how_the_tiers_counts() {
    let account = account(&[
        "{name: burndown, unit: TotalTokens, amount: 2M, windowSeconds: 60}",
        "{name: mini-tokens, unit: TotalTokens, amount: 450k, windowSeconds: 60, models: [mini-2026]}",
    ]);
    let burndown = limit(&account, "burndown");
    assert_eq!((burndown.amount, burndown.tokens.unwrap().rates.output), (2_000_000, 5));
    let mini = limit(&account, "mini-tokens");
    assert_eq!((mini.models.as_slice(), mini.per_model), (["mini".to_owned()].as_slice(), false));
    assert_eq!(mini.tokens.unwrap().charged, Charged::Unknown);
}

#[test]
fn a_budget_is_in_nanodollars_and_has_its_period() {
    let account = account(&[
        r#"{name: budget, unit: Dollars, amount: "412.50", period: Month, timeZone: America/New_York}"#,
        "{name: weekly, unit: Requests, amount: 10k, period: Week}",
    ]);
    let budget = limit(&account, "budget");
    assert_eq!(budget.amount, 412_500_000_000);
    let zone = |kind, zone: &str| Some(CalendarPeriod { kind, time_zone: zone.to_owned() });
    assert_eq!(budget.period, zone(PeriodKind::Month, "America/New_York"));
    assert_eq!(
        (budget.window, budget.counted_as),
        (Duration::from_secs((31 * 24 + 3) * 3600), CountedAs::FixedWindow)
    );
    let tokens = budget.tokens.unwrap();
    assert_eq!(
        (tokens.charged, tokens.reserving, tokens.arrival),
        (Charged::Settled, Reserving::Bound, None)
    );
    assert_eq!(limit(&account, "weekly").period, zone(PeriodKind::Week, "UTC"));
    assert_eq!(limit(&account, "midnight").period, zone(PeriodKind::Day, "America/Los_Angeles"));
}

#[test]
fn shares_of_money_are_exact_and_never_overflow() {
    let spec = "  account: {sharePercent: 33, reservePercent: 50}\n  limits:\n  - {name: budget, unit: Dollars, amount: 10M, period: Month}\n";
    let account = compile_with(profile(PROFILE), spec).unwrap();
    let budget = limit(&account, "budget");
    assert_eq!(budget.amount, 1_650_000 * NANODOLLARS);
    assert_eq!(budget.declared, Some(10_000_000 * NANODOLLARS));
}

#[test]
fn a_class_counts_as_its_dearest_model_and_an_unknown_model_as_the_dearest_of_all() {
    let engine = account(&[]).engine;
    let prices = |name: &str| engine.models[name].prices.unwrap();
    let mini = TokenRates { input: 150_000, cached: 75_000, cache_write: 150_000, output: 600_000 };
    assert_eq!(prices("mini").tokens, mini, "a dollar a million is a million picodollars a token");
    let large =
        TokenRates { input: 15_000_000, cached: 5_000_000, cache_write: 18_750_000, output: 75_000_000 };
    assert_eq!((prices("large").tokens, prices("large").call), (large, 10_000_000_000));
    assert_eq!(
        (engine.models["large"].max_output, engine.models["large"].context),
        (Some(64_000), Some(1_000_000))
    );
    assert_eq!((engine.models["embed"].max_output, prices("embed").tokens.output), (Some(0), 0));
    let unpriced = ModelFacts { prices: None, ..engine.any_model };
    assert_eq!(engine.models["unpriced"], unpriced, "that nobody knows its price stays known");
    assert_eq!((engine.any_model.max_output, engine.any_model.prices.unwrap().tokens), (Some(64_000), large));
}

#[test]
fn a_call_that_uses_a_limit_up_alone_is_told() {
    let told = |limit: &str| {
        account(&[limit]).warnings.into_iter().filter(|it| it.contains("own")).collect::<Vec<_>>()
    };
    assert_eq!(
        told("{name: own, unit: OutputTokens, amount: 50k, windowSeconds: 3600}"),
        [
            "a call of model large that sets no maximum of output can use up to 64k of own (50k), which is held until it ends; set max_tokens"
        ]
    );
    assert_eq!(
        told("{name: own, unit: OutputTokens, amount: 50k, windowSeconds: 3600, models: [mini]}"),
        [] as [&str; 0]
    );
    assert_eq!(
        told("{name: own, unit: OutputTokens, amount: 50k, windowSeconds: 60}"),
        [] as [&str; 0],
        "learned"
    );
    let money = told("{name: own, unit: Dollars, amount: 400, period: Month}");
    assert!(money[0].contains("can use up to $4.80 of own ($400)"), "{money:?}");
    assert_eq!(told("{name: own, unit: Dollars, amount: 500, period: Month}"), [] as [&str; 0]);
}

#[test]
fn a_limit_of_money_that_names_a_model_without_a_price_is_told() {
    let told = |models: &str| {
        let limit = format!("{{name: own, unit: Dollars, amount: 5000, period: Month, models: [{models}]}}");
        let warnings = account(&[&limit]).warnings.into_iter();
        warnings.filter(|warning| warning.contains("no price")).collect::<Vec<_>>()
    };
    assert_eq!(told("mini, large"), [] as [&str; 0]);
    for model in ["unpriced", "foo-9"] {
        let sentence = format!(
            "of the model {model}, which own covers, the provider's profile knows no price; its calls count as those \
             of the dearest model; name it in `models` of an ApiProvider"
        );
        assert_eq!(told(&format!("mini, {model}")), [sentence]);
    }
}

#[test]
fn calls_last_as_long_as_the_profile_says_of_their_model() {
    let longest = |own: &str| {
        let slow = "- {names: [large-1*], maxOutputTokens: 8192,";
        let slow = PROFILE.replace(slow, &format!("{slow} {own}"));
        let engine = compile_with(profile(&slow), "").unwrap().engine;
        ["mini", "large", "foo-9"].map(|model| engine.longest_call_of(model).as_secs())
    };
    assert_eq!(longest(""), [600, 600, 600]);
    // A class lasts as long as its slowest model, and so does a model that is not known.
    assert_eq!(longest("maxCallSeconds: 3600,"), [600, 3600, 3600]);
    assert_eq!(longest("maxCallSeconds: 60,"), [600, 600, 600]);
    let of_all = format!("{PROFILE}maxCallSeconds: 90\nclient: {{patienceSeconds: 1800}}\n");
    let engine = compile_with(profile(&of_all), "").unwrap().engine;
    assert_eq!((engine.longest_call().as_secs(), engine.longest_call_of("mini").as_secs()), (90, 90));
}

#[test]
fn credits_are_counted_as_answers_tell_or_as_the_profile_says() {
    let with = |credits: &str| {
        format!("{PROFILE}  - {{name: points, unit: Credits, amount: 50, windowSeconds: 60}}\n{credits}")
    };
    let of = |credits: &str| {
        let own = spec(&["{name: own, unit: Credits, amount: 5k, windowSeconds: 3600}"]);
        compile_with(profile(&with(credits)), &own).unwrap()
    };
    let constant = of("credits: [{each: 5}]\n");
    assert_eq!(["points", "own"].map(|name| limit(&constant, name).tokens), [None, None]);
    assert!(constant.not_enforced.is_empty());
    let told = of("credits: [{each: 5, told: {at: [/cost]}}]\n");
    for name in ["points", "own"] {
        let tokens = limit(&told, name).tokens.unwrap();
        assert_eq!((tokens.charged, tokens.reserving), (Charged::Settled, Reserving::Bound), "{name}");
        assert_eq!(limit(&told, name).effective_burst(), limit(&told, name).amount);
    }
    let silent = compile_with(profile(&with("")), "").unwrap();
    assert_eq!(silent.not_enforced, ["points (Credits)"]);
}

#[test]
fn what_cannot_be_counted_is_refused_at_its_place() {
    let free: String = PROFILE
        .lines()
        .filter(|line| !line.contains("prices:") && !line.contains("Dollars"))
        .map(|it| format!("{it}\n"))
        .collect();
    assert_eq!(
        refused(&free, "{name: budget, unit: Dollars, amount: 5, period: Month}"),
        [
            "spec.limits[0].unit: Dollars can't be counted, because the provider's profile has no prices; add `models` with `prices` to it, or limit tokens"
        ]
    );
    assert_eq!(
        refused(PROFILE, "{name: own, unit: Credits, amount: 5, windowSeconds: 60}"),
        [
            "spec.limits[0].unit: Credits can't be counted, because nothing says how many a call costs; say it in `credits` of the provider's profile, or limit Requests of the endpoint"
        ]
    );
    assert_eq!(
        refused(PROFILE, "{name: own, unit: TotalTokens, amount: 5, windowSeconds: 60, models: ['mini*']}"),
        [
            "spec.limits[0].models: the limit `own` covers the models `mini*` by a pattern; give them a class in the provider's model.classes and name that"
        ]
    );
    let mute: String =
        PROFILE.lines().filter(|line| !line.starts_with("tokens:")).map(|it| format!("{it}\n")).collect();
    for unit in ["TotalTokens", "Dollars"] {
        assert_eq!(
            refused(&mute, &format!("{{name: own, unit: {unit}, amount: 5, windowSeconds: 60}}")),
            [
                "spec.limits[0].unit: tokens and Dollars can't be counted, because no answer of the provider tells what a call has used; say in `tokens.usage` of its profile where answers do, or limit Requests"
            ]
        );
    }
    let plain = "hosts: [a.example]\ntiers: [{name: default, limits: [{name: r, unit: Requests, amount: 5, windowSeconds: 1}]}]\n";
    assert_eq!(
        refused(plain, "{name: own, unit: Requests, amount: 5, windowSeconds: 60, models: [mini]}"),
        [
            "spec.limits[0].models: the provider's profile does not say where a request names its model; add `model` to it, or remove the models"
        ]
    );
}

#[test]
fn stated_use_of_a_budget_is_in_dollars() {
    let spec = "  limits:\n  - {name: budget, unit: Dollars, amount: 500, period: Month}\n  used: [{limit: budget, amount: 412, at: 2026-11-03T14:03:10Z}]\n";
    let used = compile_with(profile(PROFILE), spec).unwrap().used;
    let at = "2026-11-03T14:03:10Z".parse().unwrap();
    assert_eq!(used, [StatedUse { limit: "budget".to_owned(), amount: 412 * NANODOLLARS, at }]);
}

#[test]
fn every_model_of_the_catalogue_is_known_by_the_name_that_is_counted() {
    for name in catalogue::names() {
        let profile = catalogue::find(name).unwrap().resolve(|base| catalogue::find(base).ok()).unwrap();
        let tier = profile.tiers[0].name.clone();
        let text = format!(
            "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: main}}\nspec: {{provider: {{name: {name}, tier: {tier}}}}}\n"
        );
        let quota = validate::quota(&yaml::read(&text).unwrap()[0].value).unwrap();
        let engine = compile::account(&quota, profile.clone()).unwrap().engine;
        for known in profile.models.iter().flat_map(|model| &model.names) {
            let counted = profile.model_class(known.trim_end_matches('*'));
            assert!(engine.models.contains_key(counted), "{name}: {known} is counted as {counted}");
        }
        for class in profile.model.iter().flat_map(|model| &model.classes) {
            let has = engine.models.is_empty() || engine.models.contains_key(&class.name);
            assert!(has, "{name}: nothing is known of class {}", class.name);
        }
    }
}
