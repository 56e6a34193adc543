//! The summary, worked out again from the log's lines alone, as a suspicious reader would.

use std::time::Duration;

use counting_provider::{CountedAs, Limit};
use serde_json::Value;

use crate::client::*;

/// Accepted calls between two instants in nanoseconds, the later one left out.
fn between(accepted: &[u64], from: i128, to: i128) -> u64 {
    accepted.iter().filter(|&&at| (from..to).contains(&i128::from(at))).count() as u64
}

#[tokio::test]
async fn the_summary_follows_from_the_log() {
    let provider = provider().await;
    let window_millis = 150;
    let named = |name: &str, limit: Limit| Limit { name: name.into(), ..limit };
    let all = vec![
        named("sliding", sliding(12, window_millis)),
        named(
            "fixed",
            Limit { counted_as: CountedAs::Fixed, phase_millis: 40, ..sliding(14, window_millis) },
        ),
        named(
            "bucket",
            Limit { counted_as: CountedAs::Bucket, bucket: Some(4), ..sliding(13, window_millis) },
        ),
    ];
    provider.set_rules("key", limits(all)).unwrap();
    // Six clients call over and over for a good many windows.
    let mut calls = Vec::new();
    for index in 0..6 {
        let mut client = Client::connect(&provider, WIRES[index % 4], "api.demo.example").await;
        calls.push(tokio::spawn(async move {
            for _ in 0..60 {
                client.send(demo("key")).await.unwrap();
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        }));
    }
    for call in calls {
        call.await.unwrap();
    }

    let mut control = Client::plain(provider.control().unwrap()).await;
    let lines = control.send(get("control", "/log?account=key", "none")).await.unwrap().body;
    let summary = control.send(get("control", "/summary?account=key", "none")).await.unwrap().json();
    let log: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(log.len(), 360);
    let with = |verdict: &'static str| log.iter().filter(move |entry| entry["verdict"] == verdict);
    assert_eq!(summary["totals"]["ok"], with("ok").count());
    assert_eq!(summary["totals"]["over"], with("over").count());
    assert!(with("ok").count() > 0 && with("over").count() > 0, "both verdicts must occur to be recounted");

    let accepted: Vec<u64> = with("ok").map(|entry| entry["countedNanos"].as_u64().unwrap()).collect();
    let window = i128::from(window_millis * 1_000_000);
    let (first, last) = (i128::from(accepted[0]), i128::from(accepted[accepted.len() - 1]));
    for limit in summary["limits"].as_array().unwrap() {
        let name = limit["limit"].as_str().unwrap();
        let begin = match name {
            "fixed" => (first - 40_000_000).div_euclid(window) * window + 40_000_000,
            _ => first,
        };
        let mut windows = Vec::new();
        let mut from = begin;
        while from <= last {
            windows.push(between(&accepted, from, from + window));
            from += window;
        }
        assert_eq!(limit["windows"], serde_json::json!(windows), "{name}");
        let spans =
            accepted.iter().map(|&at| between(&accepted, i128::from(at) - window + 1, i128::from(at) + 1));
        let largest = spans.max().unwrap();
        assert_eq!(limit["largestSliding"], largest, "{name}");
        let inner = &windows[1..windows.len() - 1];
        let used = 100.0 * inner.iter().sum::<u64>() as f64
            / (inner.len() as u64 * limit["count"].as_u64().unwrap()) as f64;
        assert!((limit["usedPercent"].as_f64().unwrap() - used).abs() < 1e-9, "{name}");
        assert_eq!(limit["over"], log.iter().filter(|entry| entry["exceeded"] == name).count(), "{name}");
        match name {
            "sliding" => assert!(largest <= 12),
            "fixed" => assert!(windows.iter().all(|count| *count <= 14)),
            // What it holds and what it gains in a window.
            _ => assert!(largest <= 4 + 13),
        }
    }
}
