//! What unmodified SDKs write and read: megabytes before the model's name, forms, streams that fail in their events.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use counting_provider::{Entry, Force, Verdict};
use serde_json::{Value, json};

use crate::programs::{sdk_source, sdks};
use crate::rejections_pause_what_is_counted_together::quota;
use crate::scene::{Ended, Running, Scene};

const OPENAI: &str = "key-of-openai-shapes";
const ANTHROPIC: &str = "key-of-anthropic-shapes";

/// Starts the program with calls; see its first lines.
fn start(scene: &Scene, provider: &str, tier: &str, calls: &[String]) -> Running {
    let quota = scene.file("quota.yaml", &quota(provider, tier));
    let mut command = scene.quotakeeper(&quota);
    command.arg("--").arg(sdks().join("python/bin/python")).arg(sdk_source("request_shapes.py")).args(calls);
    command.env("OPENAI_API_KEY", OPENAI).env("ANTHROPIC_API_KEY", ANTHROPIC);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    scene.start(command)
}

/// Whether the progress line has shown a pause.
fn is_paused(scene: &Scene) -> bool {
    fs::read_to_string(scene.path("stderr")).unwrap_or_default().contains("PAUSED")
}

fn assert_all_ok(ended: &Ended, calls: usize) {
    let results: Value = serde_json::from_str(ended.stdout.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr));
    let results = results.as_object().unwrap();
    assert!(results.values().all(|result| result == "ok"), "{results:?}\n{}", ended.stderr);
    assert_eq!(results.len(), calls, "{results:?}");
}

/// The account's calls of a model, in the order of their arrival.
fn of_model(scene: &Scene, account: &str, model: &str) -> Vec<Entry> {
    let mut log = scene.provider.log(account);
    log.retain(|entry| entry.model.as_deref() == Some(model));
    log.sort_by_key(|entry| entry.arrival_nanos);
    log
}

fn verdicts(entries: &[Entry]) -> Vec<Verdict> {
    entries.iter().map(|entry| entry.verdict).collect()
}

fn a_429(account: &str, model: &str, seconds: &str) -> Force {
    Force {
        account: Some(account.to_owned()),
        model: Some(model.to_owned()),
        retry_after: Some(seconds.to_owned()),
        ..Force::default()
    }
}

fn words(calls: &[&str]) -> Vec<String> {
    calls.iter().map(|call| (*call).to_owned()).collect()
}

#[test]
fn calls_of_other_models_and_of_none_go_while_one_model_is_paused() {
    let scene = Scene::new("{}");
    scene.provider.force(a_429(OPENAI, "gpt-4o", "300")).unwrap();
    let gate = scene.path("paused");
    let mut calls = vec!["held:gpt-4o".to_owned(), format!("hold:{}", gate.display())];
    calls.extend((0..10).map(|_| "image:gpt-4o-mini:3000000".to_owned()));
    calls.extend(words(&["models", "batch", "file:20000000", "transcription:whisper-1"]));
    let mut running = start(&scene, "openai", "tier-5", &calls);
    running.until("the 429", || verdicts(&of_model(&scene, OPENAI, "gpt-4o")) == [Verdict::Forced]);
    running.until("its pause", || is_paused(&scene));
    fs::write(gate, "").unwrap();
    assert_all_ok(&running.ended(), 14);
    assert_eq!(verdicts(&of_model(&scene, OPENAI, "gpt-4o")), [Verdict::Forced]);
    assert_eq!(verdicts(&of_model(&scene, OPENAI, "gpt-4o-mini")), [Verdict::Ok; 10]);
    assert_eq!(verdicts(&of_model(&scene, OPENAI, "whisper-1")), [Verdict::Ok]);
}

#[test]
fn a_rejected_call_with_megabytes_is_sent_again() {
    let scene = Scene::new("{}");
    scene.provider.force(a_429(OPENAI, "gpt-4o-mini", "2")).unwrap();
    let ended = start(&scene, "openai", "tier-5", &words(&["image:gpt-4o-mini:3000000"])).ended();
    assert_all_ok(&ended, 1);
    assert_eq!(verdicts(&of_model(&scene, OPENAI, "gpt-4o-mini")), [Verdict::Forced, Verdict::Ok]);

    scene.provider.force(a_429(ANTHROPIC, "claude-haiku-4-5", "2")).unwrap();
    let ended = start(&scene, "anthropic", "tier-4", &words(&["document:claude-haiku-4-5:10000000"])).ended();
    assert_all_ok(&ended, 1);
    assert_eq!(verdicts(&of_model(&scene, ANTHROPIC, "claude-haiku-4-5")), [Verdict::Forced, Verdict::Ok]);
}

/// A stream that fails in its second event, as OpenAI's Responses API tells of a limit that is used up.
fn failing_stream() -> Force {
    let message = "Rate limit reached for gpt-4.1-mini in organization org-x on tokens per min (TPM): Limit 30000, Used 30000, Requested 9000. Please try again in 4.2s.";
    let created = json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}});
    let error = json!({"code": "rate_limit_exceeded", "message": message});
    let failed =
        json!({"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": error}});
    let body =
        format!("event: response.created\ndata: {created}\n\nevent: response.failed\ndata: {failed}\n\n");
    let headers = [("content-type".to_owned(), "text/event-stream".to_owned())].into();
    let (account, model) = (Some(OPENAI.to_owned()), Some("gpt-4.1-mini".to_owned()));
    Force { account, model, status: 200, body: Some(Value::String(body)), headers, ..Force::default() }
}

#[test]
fn a_rejection_in_a_streams_events_pauses_all_and_reaches_no_client() {
    let scene = Scene::new("{}");
    scene.provider.force(failing_stream()).unwrap();
    let gate = scene.path("failed");
    let mut calls = vec!["stream:gpt-4.1-mini".to_owned(), format!("hold:{}", gate.display())];
    calls.extend((0..4).map(|_| "stream:gpt-4.1-mini".to_owned()));
    let mut running = start(&scene, "openai", "tier-5", &calls);
    running.until("the rejection", || !of_model(&scene, OPENAI, "gpt-4.1-mini").is_empty());
    running.until("its pause", || is_paused(&scene));
    fs::write(gate, "").unwrap();
    assert_all_ok(&running.ended(), 5);
    let log = of_model(&scene, OPENAI, "gpt-4.1-mini");
    let mut expected = vec![Verdict::Forced];
    expected.extend([Verdict::Ok; 5]);
    assert_eq!(verdicts(&log), expected);
    let nanos = log[1].arrival_nanos - log[0].arrival_nanos;
    assert!(nanos >= 4_200_000_000, "a call was sent {} ms after the rejection", nanos / 1_000_000);
}

/// The most resident memory that `quotakeeper run` has had so far, in MiB.
fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}

#[test]
#[ignore = "takes minutes and gigabytes: make soak runs it"]
fn forty_bodies_of_32_megabytes_wait_in_bounded_memory() {
    let scene = Scene::new("{}");
    scene.provider.force(a_429(OPENAI, "gpt-4o-mini", "20")).unwrap();
    let gate = scene.path("paused");
    let mut calls = vec!["chat:gpt-4o-mini".to_owned(), format!("hold:{}", gate.display())];
    calls.extend((0..40).map(|_| "image:gpt-4o-mini:32000000".to_owned()));
    let mut running = start(&scene, "openai", "tier-5", &calls);
    running.until("the 429", || !of_model(&scene, OPENAI, "gpt-4o-mini").is_empty());
    fs::write(gate, "").unwrap();
    let process = running.process();
    let peak = AtomicU64::new(0);
    running.until("all answers", || {
        peak.fetch_max(peak_memory(process).unwrap_or_default(), Ordering::Relaxed);
        of_model(&scene, OPENAI, "gpt-4o-mini").iter().filter(|entry| entry.verdict == Verdict::Ok).count()
            == 41
    });
    assert_all_ok(&running.ended(), 41);
    let peak = peak.into_inner();
    println!("40 bodies of 32 MB: {peak} MiB at most");
    // 256 MiB of bodies, and the program with its connections.
    assert!(peak < 400, "{peak} MiB");
}
