//! Unmodified SDKs under limits of tokens that they would break: what a call uses is known when it has ended, and
//! nothing is over, because the most that it can use is held until then.

use std::path::PathBuf;

use crate::programs::{self, Program, Told};
use crate::scene::Scene;

/// The limit of every story: so many tokens in so many seconds.
const AMOUNT: u64 = 6_000;
const WINDOW_SECONDS: u64 = 8;
/// They use some 80 tokens in the mean, and allow 200 of output.
const CALLS: u64 = 120;
const CLIENTS: u64 = 40;

/// When the provider counts, as it says itself and as the profile says.
#[derive(Clone, Copy)]
struct Charged {
    provider: &'static str,
    profile: &'static str,
}

/// What is limited.
#[derive(Clone, Copy)]
struct Limited {
    /// The name that the shipped profile has for it.
    name: &'static str,
    unit: &'static str,
    /// What else a tier of that provider has to have: its headers tell of it. YAML.
    others: &'static str,
}

const REQUESTS: &str = "    - {name: requests, unit: Requests, amount: 100000, windowSeconds: 60}\n";
const ALL_TOKENS: Limited = Limited { name: "tokens", unit: "TotalTokens", others: "" };
const SENT: Limited = Limited { unit: "InputTokens", ..ALL_TOKENS };
const PRODUCED_TOKENS: Limited = Limited {
    name: "output-tokens",
    unit: "OutputTokens",
    others: "    - {name: input-tokens, unit: InputTokens, amount: 10000000, windowSeconds: 60, charged: Settled}\n",
};

const SETTLED: Charged = Charged { provider: "Settled", profile: "Settled" };
const PRODUCED: Charged = Charged { provider: "Produced", profile: "AsProduced" };
const NOT_KNOWN: Charged = Charged { provider: "End", profile: "Unknown" };

fn rules(provider: &str, charged: Charged, limited: Limited) -> String {
    let (window, unit) = (WINDOW_SECONDS * 1_000, limited.unit);
    let tokens = format!("{{charged: {}, output: Sum}}", charged.provider);
    let limit = format!(
        "{{name: tokens, count: {AMOUNT}, windowMillis: {window}, countedAs: Sliding, unit: {unit}, tokens: {tokens}}}"
    );
    format!("providers:\n  {provider}: {{limits: [{limit}], answerMillis: 20, streamMillis: 2}}\n")
}

/// As in the stories of requests, a stall of this machine for three seconds excuses nothing.
fn quota(scene: &Scene, provider: &str, charged: Charged, limited: Limited) -> PathBuf {
    let Limited { name, unit, others } = limited;
    let tier = format!(
        "{REQUESTS}{others}    - {{name: {name}, unit: {unit}, amount: 100000, windowSeconds: 60, charged: {}, deliveryMillis: 3000}}\n",
        charged.profile
    );
    let own = format!(
        "  - {{name: {name}, unit: {unit}, amount: {AMOUNT}, windowSeconds: {WINDOW_SECONDS}, reserve: Bound}}\n"
    );
    scene.quota_of_this_machine(provider, &tier, &own)
}

fn story(program: &Program, charged: Charged, limited: Limited) {
    let scene = Scene::new(&rules(program.provider, charged, limited));
    let quota = quota(&scene, program.provider, charged, limited);
    let ended = scene.run(program.kept(&scene, &quota, CALLS, CLIENTS));
    let told = Told::of(&ended);
    assert_eq!((told.ok, told.failed), (CALLS, 0), "{}\n{}", ended.stdout, ended.stderr);
    let summary = scene.provider.summary(&program.account());
    let tokens = summary.amounts.iter().find(|limit| limit.limit == "tokens").unwrap();
    println!("{}: {:?}, {tokens:?}", program.name, summary.totals);
    assert_eq!((summary.totals.ok, summary.totals.over), (CALLS, 0), "{tokens:?}");
    assert!(tokens.peak_percent <= 100.0, "{tokens:?}");
    // A window has room for fifteen of the most that calls can use, of which they use a fifth.
    let least = if charged.profile == "Unknown" { 10.0 } else { 40.0 };
    assert!(tokens.peak_percent >= least, "what calls did not use did not come back: {tokens:?}");
}

#[test]
fn without_quotakeeper_they_are_rejected() {
    let program = &programs::TOKENS_CHAT;
    let scene = Scene::new(&rules(program.provider, SETTLED, ALL_TOKENS));
    scene.run(program.alone(&scene, CALLS, CLIENTS));
    assert!(scene.provider.summary(&program.account()).totals.over > 0);
}

#[test]
fn openai_chat() {
    story(&programs::TOKENS_CHAT, SETTLED, ALL_TOKENS);
}

#[test]
fn openai_chat_streaming() {
    story(&programs::TOKENS_CHAT_STREAMING, PRODUCED, ALL_TOKENS);
}

#[test]
fn openai_responses() {
    story(&programs::TOKENS_RESPONSES, NOT_KNOWN, ALL_TOKENS);
}

#[test]
fn openai_responses_streaming() {
    story(&programs::TOKENS_RESPONSES_STREAMING, SETTLED, ALL_TOKENS);
}

#[test]
fn openai_embeddings() {
    story(&programs::TOKENS_EMBEDDINGS, SETTLED, SENT);
}

#[test]
fn anthropic_messages() {
    story(&programs::TOKENS_MESSAGES, SETTLED, PRODUCED_TOKENS);
}

#[test]
fn anthropic_messages_streaming() {
    story(&programs::TOKENS_MESSAGES_STREAMING, PRODUCED, PRODUCED_TOKENS);
}
