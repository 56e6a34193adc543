//! The ledger can't be written for a while: calls wait, go on when it can, and the command's exit code is its own
//! whatever became of our books.

use std::process::Command;

use crate::programs::Told;
use crate::real_sdks_stay_within_the_quota::rules;
use crate::scene::{Ended, Scene, behind};

const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: plain}\nspec:\n  provider: {name: demo, tier: free}\n  limits:\n  - {name: requests, unit: Requests, amount: 10000, windowSeconds: 1}\n";

/// Takes the run's right to write more than the first page of any file, as a full disk does, and gives it back.
const DISK: &str = r#"
import json, os, resource, sys, time, urllib.request

def disk(full):
    soft = 4096 if full else resource.RLIM_INFINITY
    resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

def call():
    request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer key-of-demo"})
    with urllib.request.urlopen(request) as answer:
        return answer.status == 200
"#;

/// Calls all the time; the disk is full until somebody has seen that calls wait.
const CALLS: &str = r#"
import threading
ok = sum(call() for _ in range(3))
disk(full=True)
open("full", "w").close()

def room():
    while not os.path.exists("seen"):
        time.sleep(0.01)
    disk(full=False)
    open("room", "w").close()

threading.Thread(target=room).start()
calls = 3
while not os.path.exists("room"):
    ok += call()
    calls += 1
ok += sum(call() for _ in range(20))
print(json.dumps({"calls": calls + 20, "ok": ok, "failed": 0}))
sys.exit(7)
"#;

/// The quota kept around a python script, with a ledger, by a process that lives on when it may not write.
fn kept(scene: &Scene, script: &str) -> Command {
    let mut kept = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    kept.args(["--progress", "off", "--ledger"]).arg(scene.path("ledger"));
    kept.args(["--", "python3", "-c", &format!("{DISK}{script}")]);
    behind(&["sh", "-c", r#"trap "" XFSZ; exec "$0" "$@""#], &kept)
}

fn said(ended: &Ended, words: &str) {
    assert!(ended.stderr.contains(words), "`{words}` is missing:\n{}", ended.stderr);
}

#[test]
fn calls_wait_until_the_ledger_can_be_written_again() {
    let scene = Scene::new(&rules());
    let mut running = scene.start(kept(&scene, CALLS));
    let log = scene.path("stderr");
    running.until("a failed write", || {
        std::fs::read_to_string(&log).unwrap().contains("calls wait until the ledger can be written")
    });
    scene.file("seen", "");
    let ended = running.ended();
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    let told = Told::of(&ended);
    assert_eq!((told.ok, told.failed), (told.calls, 0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("begins carefully"), "it could be written at the end:\n{}", ended.stderr);
    assert_eq!(scene.provider.summary("key-of-demo").totals.ok, told.calls);
}

#[test]
fn the_exit_code_is_that_of_the_command_when_the_ledger_cannot_be_closed() {
    let scene = Scene::new(&rules());
    let ended = scene.run(kept(&scene, "call()\ndisk(full=True)\nsys.exit(7)\n"));
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    said(&ended, "the next run with this ledger begins carefully");
    assert_eq!(scene.report()["exitCode"], 7, "the report was written all the same");
}

#[test]
fn the_exit_code_is_that_of_the_command_when_the_report_cannot_be_written() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    command.args(["--", "sh", "-c", "rm report.json; mkdir report.json; exit 7"]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    said(&ended, "cannot write the report to ");
}
