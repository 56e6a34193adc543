//! The program: says where it listens, obeys a signal, refuses what it can't do.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::client::*;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counting-provider"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn the_program_says_where_it_listens_and_stops_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let (ready, ca) = (folder.path().join("ready.json"), folder.path().join("ca.pem"));
    let free = "127.0.0.1:0";
    let mut command = program();
    command.args(["--https", free, "--http", free, "--control", free]);
    command.arg("--ready").arg(&ready).arg("--ca-out").arg(&ca);
    let child = command.spawn().unwrap();
    for _ in 0..3_000 {
        if ready.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let said: Value = serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
    assert_eq!(said["ca"], ca.to_str().unwrap());
    assert!(std::fs::read_to_string(&ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(said["https"].is_string());
    let address = |name: &str| said[name].as_str().unwrap().parse().unwrap();
    let mut client = Client::plain(address("http")).await;
    assert_eq!(client.send(demo("key")).await.unwrap().status, 200);
    let mut control = Client::plain(address("control")).await;
    let summary = control.send(get("control", "/summary?account=key", "none")).await.unwrap().json();
    assert_eq!(summary["totals"]["ok"], 1);
    // Connections that are still open don't hold it up.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn invalid_rules_prevent_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (rules, ready) = (folder.path().join("rules.yaml"), folder.path().join("ready.json"));
    std::fs::write(
        &rules,
        "accounts: {key: {limits: [{name: l, count: 0, windowMillis: 1, countedAs: Sliding}]}}",
    )
    .unwrap();
    let mut command = program();
    command.args(["--http", "127.0.0.1:0", "--rules"]).arg(&rules).arg("--ready").arg(&ready);
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(message.contains("rules.yaml") && message.contains("count is 0"), "{message}");
    assert!(!ready.exists());
}
