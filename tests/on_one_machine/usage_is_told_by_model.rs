//! What a run has used of tokens and money: the same figures in its report, its last line, its progress and in `limits`
//! as the provider and the list of prices have them.

use std::process::Command;

use serde_json::Value;

use crate::commands_show_what_a_run_would_do::departures_from_schema;
use crate::programs::{self, Program, Told};
use crate::scene::{Ended, Scene};

const CALLS: u64 = 60;
const CLIENTS: u64 = 12;
/// The price of gpt-4o-mini in the shipped profile, in nanodollars a token.
const INPUT_PRICE: u64 = 150;
const OUTPUT_PRICE: u64 = 600;

const RULES: &str = "providers:\n  openai: {limits: [{name: tokens, count: 1000000, windowMillis: 8000, countedAs: Sliding, unit: TotalTokens, tokens: {charged: Settled, output: Sum}}], answerMillis: 20, streamMillis: 2}\n";
const TIER: &str = "    - {name: requests, unit: Requests, amount: 100000, windowSeconds: 60}
    - {name: tokens, unit: TotalTokens, amount: 1000000, windowSeconds: 8, charged: Settled}\n";
const BUDGET: &str = "  - {name: budget, unit: Dollars, amount: \"5.50\", period: Month}\n";

fn story(program: &Program) {
    let scene = Scene::new(RULES);
    let quota = scene.quota_of_this_machine(program.provider, TIER, BUDGET);
    let ended = scene.run(program.kept(&scene, &quota, CALLS, CLIENTS));
    let told = Told::of(&ended);
    assert_eq!((told.ok, told.failed), (CALLS, 0), "{}\n{}", ended.stdout, ended.stderr);
    let report = scene.report();
    assert_eq!(departures_from_schema(&report), [""; 0]);
    let usage = report["accounts"][0]["usage"].as_array().unwrap();
    let [usage] = usage.as_slice() else { panic!("one workload and one model: {usage:?}") };
    for (field, expected) in [
        ("calls", CALLS),
        ("refused", 0),
        ("lost", 0),
        ("estimated", 0),
        ("unpriced", 0),
        ("cachedTokens", 0),
    ] {
        assert_eq!(usage[field], expected, "{field}: {usage}");
    }
    assert_eq!((&usage["model"], &usage["workload"]), (&"gpt-4o-mini".into(), &"python".into()), "{usage}");
    let (input, output) = (number(&usage["inputTokens"]), number(&usage["outputTokens"]));
    let counted = scene.provider.summary(&program.account()).amounts[0].used;
    assert_eq!(input + output, counted, "as the provider has counted: {usage}");
    assert!(input > 0 && output > 0, "{usage}");
    let nanodollars = input * INPUT_PRICE + output * OUTPUT_PRICE;
    assert_eq!(usage["dollars"], format!("0.{nanodollars:09}"));
    let limits = report["accounts"][0]["limits"].as_array().unwrap();
    let budget = limits.iter().find(|limit| limit["name"] == "budget").unwrap();
    let dollars = |field: &str| nanodollars_of(&budget[field]);
    assert_eq!((&budget["unit"], dollars("amount")), (&"Dollars".into(), 5_500_000_000), "{budget}");
    // The provider may correct the last calls for a few seconds more.
    let used = dollars("used");
    assert!(used >= nanodollars && used - dollars("reserved") <= nanodollars, "{budget}");
    assert_eq!(dollars("remaining"), 5_500_000_000 - used, "{budget}");
    let line = format!(
        "gpt-4o-mini: {CALLS} calls, {} input and {} output tokens, $0.",
        thousands(input),
        thousands(output)
    );
    assert!(ended.stderr.contains(&line), "{line}\n{}", ended.stderr);
    learned(&scene, &quota.to_string_lossy());
}

/// What was learned of the calls is in the ledger of the account.
fn learned(scene: &Scene, quota: &str) {
    let state = scene.path("state");
    let limits = |words: &[&str]| -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
        command.args(["limits", "-f", quota]).arg("--state").arg(&state).args(words);
        scene.run(command)
    };
    let json: Value = serde_json::from_str(&limits(&["-o", "json"]).stdout).unwrap();
    let estimates = json[0]["estimates"].as_array().unwrap();
    let everybody = estimates.iter().find(|it| it["workload"].is_null()).unwrap();
    assert_eq!((&everybody["samples"], &everybody["known"]), (&CALLS.into(), &true.into()), "{json}");
    let (quantile, mean) = (number(&everybody["output"]["quantile90"]), number(&everybody["output"]["mean"]));
    // A call uses 1 to 100 tokens of output, evenly spread.
    assert!((80..=120).contains(&quantile) && (40..=60).contains(&mean), "{everybody}");
    let table = limits(&[]).stdout;
    let heading = table.lines().position(|line| line.starts_with("Tokens that calls use")).unwrap();
    let rows: Vec<&str> = table.lines().skip(heading + 1).collect();
    assert!(rows[0].contains("OUTPUT, 9 OF 10") && rows[1].contains("gpt-4o-mini"), "{table}");
    assert!(rows[1].contains(&CALLS.to_string()) && rows[1].contains(&mean.to_string()), "{table}");
}

/// A decimal with nine places, in nanodollars.
fn nanodollars_of(value: &Value) -> u64 {
    let (whole, part) = value.as_str().and_then(|text| text.split_once('.')).unwrap();
    assert_eq!(part.len(), 9, "{value}");
    format!("{whole}{part}").parse().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a whole number: {value}"))
}

/// As people read it: `950`, `9.8k`.
fn thousands(tokens: u64) -> String {
    if tokens < 1_000 { tokens.to_string() } else { format!("{}.{}k", tokens / 1_000, tokens % 1_000 / 100) }
}

#[test]
fn openai_chat() {
    story(&programs::TOKENS_CHAT);
}

#[test]
fn openai_chat_streaming() {
    story(&programs::TOKENS_CHAT_STREAMING);
}

#[test]
fn openai_responses_streaming() {
    story(&programs::TOKENS_RESPONSES_STREAMING);
}
