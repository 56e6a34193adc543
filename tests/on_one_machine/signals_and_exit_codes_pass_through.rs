//! `quotakeeper run` stands between a person and a command without getting in the way: signals reach the command, its
//! exit code comes back.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::programs::OPENAI_PYTHON;
use crate::real_sdks_stay_within_the_quota::{quota, rules};
use crate::scene::{Ended, Running, Scene};

fn shell(scene: &Scene, script: &str) -> Command {
    let mut command = scene.quotakeeper(&quota(scene, &OPENAI_PYTHON));
    command.args(["--", "sh", "-c", script]);
    command
}

/// A script that says when it is there by a file named `there`.
fn started(scene: &Scene, script: &str) -> Running {
    let mut running = scene.start(shell(scene, script));
    running.until("the command is there", || scene.path("there").exists());
    running
}

fn run(script: &str) -> Ended {
    let scene = Scene::new(&rules());
    scene.run(shell(&scene, script))
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    for code in [0, 1, 2, 77, 255] {
        assert_eq!(run(&format!("exit {code}")).code, code);
    }
}

#[test]
fn a_command_that_cannot_be_found_is_named() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&quota(&scene, &OPENAI_PYTHON));
    command.args(["--", "no-such-command"]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 127, "{}", ended.stderr);
    assert!(ended.stderr.contains("`no-such-command`"), "{}", ended.stderr);
}

#[test]
fn a_signal_sets_the_exit_code_as_in_a_shell() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let scene = Scene::new(&rules());
        let running = started(&scene, "touch there; exec sleep 600");
        running.signal(signal);
        assert_eq!(running.ended().code, 128 + signal as i32);
    }
}

#[test]
fn a_command_has_time_to_clean_up() {
    let scene = Scene::new(&rules());
    let script = "trap 'sleep 1; touch clean; exit 7' TERM; touch there; while :; do sleep 0.05; done";
    let running = started(&scene, script);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.ended().code, 7);
    assert!(scene.path("clean").exists(), "it was ended before it had cleaned up");
}

#[test]
fn a_command_may_continue_after_a_signal() {
    let scene = Scene::new(&rules());
    let script = "trap 'touch heard' TERM; trap 'exit 9' INT; touch there; while :; do sleep 0.05; done";
    let mut running = started(&scene, script);
    running.signal(Signal::SIGTERM);
    running.until("the command heard SIGTERM", || scene.path("heard").exists());
    running.signal(Signal::SIGINT);
    assert_eq!(running.ended().code, 9);
}

#[test]
fn standard_output_is_that_of_the_command_alone() {
    let ended = run("echo out; echo err >&2");
    assert_eq!(ended.stdout, "out\n");
    assert!(ended.stderr.contains("err\n"), "{}", ended.stderr);
}

#[test]
fn an_existing_base_url_is_kept_and_reported() {
    let scene = Scene::new(&rules());
    let mut command = shell(&scene, r#"echo "$OPENAI_BASE_URL""#);
    command.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let ended = scene.run(command);
    assert_eq!(ended.stdout, "http://127.0.0.1:9/v1\n");
    assert!(ended.stderr.contains("OPENAI_BASE_URL is set already"), "{}", ended.stderr);
}

#[test]
fn a_report_is_written_even_when_the_command_fails() {
    let scene = Scene::new(&rules());
    let ended = scene.run(shell(&scene, "exit 3"));
    assert_eq!((ended.code, &scene.report()["exitCode"]), (3, &serde_json::json!(3)));
    assert!(fs::metadata(scene.path("report.json")).unwrap().len() > 0);
}
