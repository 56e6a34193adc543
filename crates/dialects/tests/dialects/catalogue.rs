//! The built-in profiles are complete, spelt right and acceptable, and a mistyped name is answered with the
//! right one.

use quotakeeper_dialects::profile::{Limit, Profile, Tier, Unit};
use quotakeeper_dialects::{CallShape, catalogue};

use crate::answers::profile;

#[test]
fn every_built_in_profile_is_acceptable() {
    for name in catalogue::names() {
        assert_eq!(profile(name).validate(), Ok(()), "{name}");
    }
}

#[test]
fn each_file_of_the_folder_is_in_the_catalogue() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/providers")).unwrap();
    let name = |file: std::fs::DirEntry| file.file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned);
    let mut names: Vec<String> =
        files.map(|file| name(file.unwrap()).expect("providers/ has YAML files only")).collect();
    names.sort();
    assert_eq!(catalogue::names(), names);
    assert!(catalogue::names().contains(&"openai"));
}

#[test]
fn a_built_in_provider_has_no_second_profile_in_the_tests() {
    for name in catalogue::names() {
        let second = format!("{}/tests/profiles/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        assert!(!std::path::Path::new(&second).exists(), "move {second} to providers/, or remove it");
    }
}

#[test]
fn no_field_of_a_built_in_profile_is_misspelt_or_dropped() {
    for name in catalogue::names() {
        let text =
            std::fs::read_to_string(format!("{}/providers/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let written: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let read = serde_json::to_value(catalogue::find(name).unwrap()).unwrap();
        assert_eq!(read, written, "{name}: what is read differs from what is written");
    }
}

#[test]
fn a_mistyped_provider_is_answered_with_the_nearest() {
    let message = catalogue::find("opnai").unwrap_err().to_string();
    let known = catalogue::names().join(", ");
    assert_eq!(message, format!("provider `opnai` is unknown (did you mean `openai`?); use one of: {known}"));
    let far = catalogue::find("zzz").unwrap_err().to_string();
    assert_eq!(far, format!("provider `zzz` is unknown; use one of: {known}"));
}

#[test]
fn a_mistyped_tier_is_answered_with_the_nearest() {
    let openai = catalogue::find("openai").unwrap();
    let message = openai.tier("tier4").unwrap_err().to_string();
    assert_eq!(
        message,
        "tier `tier4` is unknown (did you mean `tier-4`?); use one of: free, tier-1, tier-2, tier-3, tier-4, tier-5"
    );
    assert_eq!(openai.tier("tier-4").unwrap().name, "tier-4");
    assert_eq!(openai.lowest_tier().unwrap().name, "free");
}

fn limit<'p>(profile: &'p Profile, tier: &str, name: &str) -> &'p Limit {
    profile.tier(tier).unwrap().limit(name).unwrap()
}

#[test]
fn tiers_allow_what_the_providers_say() {
    let hubspot = catalogue::find("hubspot").unwrap();
    let per_ten_seconds = |tier: &str| limit(&hubspot, tier, "ten-seconds").amount;
    assert_eq!(["free", "pro", "limit-increase"].map(per_ten_seconds), [100, 190, 250]);
    assert_eq!(limit(&hubspot, "pro", "ten-seconds").window_seconds, Some(10));

    let demo = catalogue::find("demo").unwrap();
    assert_eq!(limit(&demo, "free", "requests").amount, 100);
    assert_eq!(limit(&demo, "enterprise", "requests").amount, 10_000);

    let openai = catalogue::find("openai").unwrap();
    let requests: Vec<u64> = openai.tiers.iter().map(|tier| tier.limit("requests").unwrap().amount).collect();
    assert_eq!(requests, [3, 500, 5000, 5000, 10_000, 10_000]);

    // Lowest first: nothing that a tier allows in every tier shrinks on the way up.
    for name in ["openai", "anthropic", "demo"] {
        let profile = catalogue::find(name).unwrap();
        // Anthropic replaced its tiers by others, which are not above all of the old ones.
        for pair in profile.tiers.windows(2).filter(|pair| pair[1].name != "start") {
            for above in &pair[1].limits {
                let below = pair[0].limit(&above.name).map_or(0, |limit| limit.amount);
                let unpaid =
                    below > above.amount && pair[0].name == "free" && above.unit == Unit::TotalTokens;
                assert!(below <= above.amount || unpaid, "{name} {} {}", pair[1].name, above.name);
            }
        }
    }
}

/// When a provider counts tokens, where its documents or its answers say so; of the others nobody knows.
#[test]
fn tokens_are_charged_as_providers_say() {
    use quotakeeper_dialects::profile::Charged::{AsProduced, AtArrival, Settled, Unknown};
    for (name, limit, charged) in [
        ("openai", "tokens", AtArrival),
        ("azure", "tokens", AtArrival),
        ("anthropic", "input-tokens", Settled),
        ("anthropic", "output-tokens", AsProduced),
        ("bedrock", "tokens", Settled),
        ("cerebras", "tokens", Settled),
        ("groq", "tokens", Settled),
        ("gemini", "input-tokens", Unknown),
        ("mistral", "tokens", Unknown),
        ("xai", "tokens", Unknown),
        ("deepseek", "tokens", Unknown),
        ("fireworks", "generated-tokens", Unknown),
        ("together", "tokens", Unknown),
    ] {
        for tier in profile(name).tiers {
            let found = tier.limit(limit).unwrap_or_else(|| panic!("{name} {} {limit}", tier.name));
            assert_eq!(found.charged(), charged, "{name} {} {limit}", tier.name);
        }
    }
    let daily = profile("gemini");
    let daily = limit(&daily, "free", "daily");
    assert_eq!(daily.time_zone.as_deref(), Some("America/Los_Angeles"), "its days end at midnight Pacific");
}

#[test]
fn every_tier_of_a_provider_has_a_limit_of_requests_or_of_what_they_cost() {
    for name in catalogue::names() {
        for Tier { name: tier, limits } in profile(name).tiers {
            assert!(
                limits.iter().any(|limit| matches!(limit.unit, Unit::Requests | Unit::Credits)),
                "{name} {tier}"
            );
        }
    }
}

#[test]
fn sdks_are_pointed_at_the_proxy_by_their_own_variables() {
    let environment = |name: &str| {
        let profile = catalogue::find(name).unwrap();
        profile.environment("http://127.0.0.1:15801", name)
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        environment("openai"),
        [
            pair("OPENAI_BASE_URL", "http://127.0.0.1:15801/openai/v1"),
            pair("OPENAI_API_BASE", "http://127.0.0.1:15801/openai/v1")
        ]
    );
    assert_eq!(environment("anthropic"), [pair("ANTHROPIC_BASE_URL", "http://127.0.0.1:15801/anthropic")]);
    assert_eq!(environment("demo"), [pair("DEMO_BASE_URL", "http://127.0.0.1:15801/demo")]);
    assert!(environment("hubspot").is_empty(), "reached by its host");
}

#[test]
fn models_that_share_a_limit_share_a_count() {
    let count = |provider: &str, tier: &str, model: &str| {
        let profile = catalogue::find(provider).unwrap();
        let shape = CallShape { model: Some(model.to_owned()), ..CallShape::default() };
        profile.partition(limit(&profile, tier, "requests"), &shape).unwrap()
    };
    assert_eq!(count("openai", "tier-1", "gpt-4o-2024-08-06"), "gpt-4o");
    assert_eq!(count("openai", "tier-1", "gpt-4o"), "gpt-4o");
    assert_eq!(count("openai", "tier-1", "gpt-4o-mini"), "gpt-4o-mini");
    assert_eq!(count("openai", "tier-1", "ft:gpt-4o:acme"), "ft:gpt-4o:acme");
    assert_eq!(count("anthropic", "tier-1", "claude-opus-4-1-20250805"), "claude-opus-4");
    assert_eq!(count("anthropic", "tier-1", "claude-sonnet-4-5"), "claude-sonnet-4");
}
