#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use quotakeeper_dialects::catalogue;
use quotakeeper_dialects::profile::{self, Profile};
use quotakeeper_engine::config::{CountedAs, LimitConfig, Pacing, Unit};
use quotakeeper_wire::tier::{Share, TierBasis, TierLimits, UndeclaredTier};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

fn subject(limit: &str, model: Option<&str>) -> Subject {
    Subject { limit: limit.to_owned(), model: model.map(str::to_owned) }
}

/// Figures of one limit, as workloads tell them.
#[derive(Default)]
struct Story(LearnedLimits);

impl Story {
    fn told(&mut self, second: u64, by: &str, amount: u64) -> u64 {
        self.0.tell(at(second), &by.into(), subject("requests", None), MINUTE, amount);
        self.0.figures[&subject("requests", None)].amount
    }
}

#[test]
fn the_first_word_is_believed_and_a_second_workload_raises() {
    let mut story = Story::default();
    assert_eq!(story.told(0, "a", 500), 500);
    assert_eq!(story.told(1, "b", 5000), 500, "one workload alone");
    assert_eq!(story.told(50, "b", 5000), 500);
    assert_eq!(story.told(51, "c", 5000), 5000, "a second witness");
}

#[test]
fn one_workload_raises_after_two_windows_that_nobody_contradicts() {
    let mut story = Story::default();
    story.told(0, "a", 500);
    story.told(10, "b", 5000);
    assert_eq!(story.told(129, "b", 5000), 500);
    assert_eq!(story.told(130, "b", 5000), 5000);

    let mut contradicted = Story::default();
    contradicted.told(0, "a", 500);
    contradicted.told(10, "b", 5000);
    contradicted.told(20, "a", 500);
    assert_eq!(contradicted.told(500, "b", 5000), 500, "another workload was told less since");

    let mut alone = Story::default();
    alone.told(0, "a", 500);
    assert_eq!(alone.told(1, "a", 5000), 500);
    assert_eq!(alone.told(121, "a", 5000), 5000, "the provider has raised it");
}

#[test]
fn a_lowering_binds_all_on_a_second_word_and_at_once_who_is_alone() {
    let mut story = Story::default();
    story.told(0, "a", 5000);
    assert_eq!(story.told(1, "a", 500), 500, "nobody else has been told anything");
    let mut story = Story::default();
    story.told(0, "a", 5000);
    assert_eq!(story.told(1, "b", 500), 5000);
    assert_eq!(story.told(2, "c", 400), 500, "two were told no more than that");
}

#[test]
fn two_against_two_stay_at_the_lower_figure() {
    let mut story = Story::default();
    story.told(0, "a", 500);
    story.told(1, "b", 500);
    story.told(2, "c", 9000);
    assert_eq!(story.told(3, "d", 9000), 9000, "the first two have been silent since");
    assert_eq!(story.told(4, "c", 9000), 9000, "and what they were told before is old");
    assert_eq!(story.told(5, "a", 500), 9000, "one alone");
    assert_eq!(story.told(6, "b", 500), 500);
    for second in 7..400 {
        let by = ["a", "b", "c", "d"][second as usize % 4];
        assert_eq!(story.told(second, by, if second % 4 < 2 { 500 } else { 9000 }), 500, "no flapping");
    }
}

#[test]
fn answers_that_tell_nothing_are_waited_for_a_few_times() {
    let mut learned = LearnedLimits::default();
    let told: Vec<bool> = (0..20).map(|_| learned.answered(false)).collect();
    assert_eq!(told.iter().position(|ends| *ends), Some(usize::from(MOST_SILENT) - 1));
    assert_eq!(told.iter().filter(|ends| **ends).count(), 1);
    let mut story = Story::default();
    story.told(0, "a", 500);
    assert!(!story.0.awaits_answer() && !story.0.answered(false));
}

/// The tiers of a built-in provider, as a quota with a share of 50 % has them.
fn undeclared(profile: &Profile, declared: &[&str]) -> UndeclaredTier {
    let share = Share { percent: 50, reserve_percent: 0 };
    let limit = |limit: &profile::Limit| LimitConfig {
        name: limit.name.clone(),
        unit: Unit::Requests,
        amount: share.of(limit.amount),
        declared: Some(limit.amount),
        model_amounts: BTreeMap::new(),
        window: limit.window().unwrap_or_default(),
        counted_as: CountedAs::Unknown,
        delivery: Duration::from_secs(1),
        burst: None,
        pacing: Pacing::TokenBucket,
        endpoint: limit.endpoint.clone(),
        except_endpoints: Vec::new(),
        models: Vec::new(),
        per_model: limit.partition.is_some(),
        tokens: None,
        period: None,
    };
    let requests = |tier: &profile::Tier| {
        let requests = tier.limits.iter().filter(|limit| limit.unit == profile::Unit::Requests);
        TierLimits {
            name: tier.name.clone(),
            limits: requests.map(limit).collect(),
            not_enforced: Vec::new(),
        }
    };
    UndeclaredTier {
        tiers: profile.tiers.iter().map(requests).collect(),
        share,
        declared: declared.iter().map(|name| (*name).to_owned()).collect(),
        told_by_answers: true,
    }
}

/// The tier, what it rests on, and each limit with what is enforced.
fn learned(provider: &str, told: &[(&str, Option<&str>, u64)]) -> (String, TierBasis, Vec<(String, u64)>) {
    let profile = catalogue::find(provider).unwrap();
    let undeclared = undeclared(&profile, &[]);
    let mut learned = LearnedLimits::default();
    for (limit, model, amount) in told {
        learned.tell(at(0), &"a".into(), subject(limit, *model), MINUTE, *amount);
    }
    let chosen = learned.choose(&undeclared, &profile).unwrap();
    let limits = learned.limits(&undeclared, chosen.tier);
    let mut amounts = Vec::new();
    for limit in limits {
        amounts.push((limit.name.clone(), limit.amount));
        amounts.extend(limit.model_amounts.iter().map(|(model, own)| (model.clone(), own.amount)));
    }
    (chosen.tier.name.clone(), chosen.basis, amounts)
}

fn amounts<'a>(pairs: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<(String, u64)> {
    pairs.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

#[test]
fn the_tier_is_the_one_whose_figures_are_told() {
    let gpt = Some("gpt-4o");
    let openai = |told: &[(&str, Option<&str>, u64)]| learned("openai", told);
    let free = amounts([("requests", 1), ("daily-requests", 100)]);
    assert_eq!(openai(&[]), ("free".into(), TierBasis::Assumed, free));
    let told = openai(&[("requests", gpt, 5000)]);
    assert_eq!(
        told,
        ("tier-2".into(), TierBasis::Matched, amounts([("requests", 2500)])),
        "the lower of two"
    );
    let (tier, ..) = openai(&[("requests", gpt, 5000), ("tokens", gpt, 800_000)]);
    assert_eq!(tier, "tier-3", "limits that are not enforced decide between equals");
    let (tier, ..) = openai(&[("requests", gpt, 5000), ("tokens", gpt, 123)]);
    assert_eq!(tier, "tier-2", "… and between no others");
    let told = openai(&[("requests", gpt, 4000)]);
    let own = amounts([("requests", 1), ("gpt-4o", 2000), ("daily-requests", 100)]);
    assert_eq!(told, ("free".into(), TierBasis::Told, own), "no tier has it");
    let told = openai(&[("requests", gpt, 5000), ("requests", Some("o3"), 700)]);
    assert_eq!(told, ("tier-2".into(), TierBasis::Matched, amounts([("requests", 2500), ("o3", 350)])));

    let hubspot = |told: &[(&str, Option<&str>, u64)]| learned("hubspot", told).0;
    assert_eq!(hubspot(&[("ten-seconds", None, 190)]), "pro");
    assert_eq!(hubspot(&[("ten-seconds", None, 190), ("daily", None, 1_000_000)]), "enterprise");
    let told = learned("hubspot", &[("ten-seconds", None, 110), ("daily", None, 777)]);
    assert_eq!(told.2, amounts([("ten-seconds", 55), ("daily", 388), ("search", 2)]), "told as they are");
}

#[test]
fn a_limit_that_the_quota_declares_is_not_learned() {
    let profile = catalogue::find("openai").unwrap();
    let undeclared = undeclared(&profile, &["requests"]);
    let mut learned = LearnedLimits::default();
    learned.tell(at(0), &"a".into(), subject("requests", Some("gpt-4o")), MINUTE, 5000);
    let chosen = learned.choose(&undeclared, &profile).unwrap();
    assert_eq!((chosen.tier.name.as_str(), chosen.basis), ("free", TierBasis::Assumed));
    assert_eq!(learned.limits(&undeclared, chosen.tier), undeclared.tiers[0].limits);
}

/// Which workload was told how much, and how many seconds later than before.
fn words() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
    prop::collection::vec((0..12u8, 1..9u64, 0..40u64), 1..120)
}

proptest! {
    /// From the second word on: who raises has a witness, or has been told it for two windows.
    #[test]
    fn no_workload_alone_raises_within_two_windows(words in words()) {
        let mut story = Story::default();
        let (mut now, mut before, mut changed) = (1, None, 0);
        // What each was told last, since when, and when last.
        let mut newest: BTreeMap<u8, (u64, u64, u64)> = BTreeMap::new();
        for (by, amount, later) in words {
            now += later;
            let known = newest.get(&by).filter(|(told, ..)| *told == amount).map(|(_, since, _)| *since);
            newest.insert(by, (amount, known.unwrap_or(now), now));
            let believed = story.told(now, &format!("w{by}"), amount);
            if before.is_some_and(|before| believed > before) {
                let witnesses = newest.values().filter(|(told, ..)| *told >= believed).count();
                let long = newest.values().any(|(told, since, _)| *told >= believed && since + 120 <= now);
                prop_assert!(witnesses >= 2 || long, "{believed} after {before:?}: {newest:?}");
            }
            if before != Some(believed) {
                changed = now;
            }
            before = Some(believed);
            let figure = &story.0.figures[&subject("requests", None)];
            prop_assert!(figure.words.len() <= MOST_WORDS);
            // Nothing stays above what two workloads have been told since.
            let lower = newest.values().filter(|(told, _, last)| *told < believed && *last > changed).count();
            prop_assert!(lower < 2 || newest.len() > MOST_WORDS, "{believed} above {newest:?}");
        }
    }

    /// Whatever is told of whatever, what is enforced of a limit is our part of a figure that was told of it, or the tier's.
    #[test]
    fn what_is_enforced_was_told_or_is_a_tiers(
        provider in prop::sample::select(vec!["openai", "hubspot", "anthropic"]),
        told in prop::collection::vec((0..4usize, 0..80u8, prop_oneof![1..20u64, 90..200u64, Just(5000), Just(u64::MAX)]), 0..100),
    ) {
        let profile = catalogue::find(provider).unwrap();
        let undeclared = undeclared(&profile, &[]);
        let mut learned = LearnedLimits::default();
        let names = ["requests", "ten-seconds", "daily", "daily-requests"];
        for (limit, model, amount) in &told {
            let per_model = profile.limit("", names[*limit]).is_some_and(|limit| limit.partition.is_some());
            let model = per_model.then(|| format!("m{model}"));
            learned.tell(at(0), &"a".into(), subject(names[*limit], model.as_deref()), MINUTE, *amount);
        }
        prop_assert!(learned.figures.len() <= MOST_FIGURES);
        let chosen = learned.choose(&undeclared, &profile).unwrap();
        for limit in learned.limits(&undeclared, chosen.tier) {
            let told: Vec<u64> = told.iter().filter(|(name, ..)| names[*name] == limit.name).map(|it| it.2).collect();
            let was_told = |amount: u64| told.iter().any(|told| undeclared.enforced(Unit::Requests, *told).amount == amount);
            let of_tier = chosen.tier.limits.iter().any(|own| own.name == limit.name && own.amount == limit.amount);
            prop_assert!(of_tier || was_told(limit.amount), "{limit:?}");
            prop_assert!(limit.model_amounts.values().all(|own| was_told(own.amount)), "{limit:?}");
        }
    }
}

#[test]
fn token_figures_differ_by_model_so_they_bind_but_rule_out_no_tier() {
    let profile = catalogue::find("openai").unwrap();
    let mut undeclared = undeclared(&profile, &[]);
    for (tier, of) in undeclared.tiers.iter_mut().zip(&profile.tiers) {
        let amount = of.limit("tokens").unwrap().amount;
        let name = "tokens".to_owned();
        let requests = tier.limits[0].clone();
        let (unit, declared) = (Unit::TotalTokens, Some(amount));
        tier.limits.push(LimitConfig { name, unit, amount: amount / 2, declared, ..requests });
    }
    let mini = Some("gpt-4o-mini");
    let in_force = |told: &[(&str, u64)]| {
        let mut learned = LearnedLimits::default();
        for (limit, amount) in told {
            learned.tell(at(0), &"a".into(), subject(limit, mini), MINUTE, *amount);
        }
        let chosen = learned.choose(&undeclared, &profile).unwrap();
        let limits = learned.limits(&undeclared, chosen.tier);
        let tokens = limits.iter().find(|limit| limit.name == "tokens").unwrap().amount_of(mini).amount;
        (chosen.tier.name.clone(), chosen.basis, tokens)
    };
    let told = in_force(&[("requests", 500), ("tokens", 200_000)]);
    assert_eq!(told, ("tier-1".to_owned(), TierBasis::Matched, 100_000));
    let told = in_force(&[("tokens", 150_000_000)]);
    assert_eq!(
        told,
        ("free".to_owned(), TierBasis::Told, 75_000_000),
        "more than requests could be kept apart"
    );
}
