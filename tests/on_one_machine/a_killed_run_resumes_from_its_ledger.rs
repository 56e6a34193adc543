//! A run that is killed in the middle leaves a ledger, and the next one goes on inside the quota.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::judge::Judged;
use crate::programs::{OPENAI_PYTHON, Program, Told};
use crate::real_sdks_stay_within_the_quota::{AMOUNT, quota, scene};
use crate::scene::Scene;

const CLIENTS: u64 = 20;
const KILLS: u64 = 3;

fn with_ledger(program: &Program, scene: &Scene, quota: &Path, calls: u64) -> Command {
    let mut command = scene.quotakeeper(quota);
    command.arg("--ledger").arg(scene.path("ledger")).arg("--").args(program.words(scene, calls, CLIENTS));
    program.with_account(&mut command);
    command
}

#[test]
fn a_run_killed_repeatedly_stays_within_the_quota() {
    let program = &OPENAI_PYTHON;
    let (scene, account) = (scene(program), program.account());
    let quota = quota(&scene, program);
    for kill in 1..=KILLS {
        let mut running = scene.start(with_ledger(program, &scene, &quota, AMOUNT * 10));
        running.until("some calls", || scene.provider.summary(&account).totals.ok >= kill * AMOUNT);
        running.signal_all(Signal::SIGKILL);
        assert_eq!(running.ended().code, 128 + 9);
    }
    let ended = scene.run(with_ledger(program, &scene, &quota, AMOUNT));
    let (told, judged) = (Told::of(&ended), Judged::of(&scene.provider, &account));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!((told.ok, told.failed), (AMOUNT, 0), "{}", ended.stderr);
    assert_eq!(judged.over, 0, "a run forgot what the one before had used");
}

#[test]
fn two_runs_do_not_share_a_ledger() {
    let program = &OPENAI_PYTHON;
    let scene = scene(program);
    let quota = quota(&scene, program);
    let mut holder = scene.quotakeeper(&quota);
    let ready = scene.path("ready");
    holder.arg("--ledger").arg(scene.path("ledger")).args(["--", "sh", "-c"]);
    holder.arg(format!("touch {} && sleep 600", ready.display()));
    let mut holder = scene.start(holder);
    holder.until("the first run", || ready.exists());
    let mut second = scene.quotakeeper(&quota);
    second.arg("--ledger").arg(scene.path("ledger")).args(["--", "true"]);
    let ended = scene.run(second);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("another limiter"), "{}", ended.stderr);
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.ended().code, 128 + 15);
}
