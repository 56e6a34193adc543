//! What a person can look at before, during and after a run: providers, limits, a dry run, metrics; and a command that
//! runs as another user.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use test_support::ports::free_port;

use crate::scene::{Ended, Scene, is_root};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 100, windowMillis: 10000, countedAs: Sliding, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: ours}
spec:
  extends: demo
  tiers:
  - name: one
    limits:
    - {name: requests, unit: Requests, amount: 100, windowSeconds: 10, countedAs: SlidingWindow}
    - {name: daily, unit: Requests, amount: 250000, windowSeconds: 86400, countedAs: FixedWindow}
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: ours, tier: one}}
"#;

const CALL: &str = r#"
import os, urllib.request
def call():
    request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer crm"})
    return urllib.request.urlopen(request).status
"#;

fn quotakeeper(scene: &Scene, words: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
    command.args(words);
    scene.run(command)
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

#[test]
fn providers_and_their_figures() {
    let scene = Scene::new(RULES);
    let all = quotakeeper(&scene, &["providers"]).stdout;
    let row = all.lines().find(|line| line.starts_with("openai ")).unwrap();
    assert!(row.contains("free, tier-1") && row.contains("OPENAI_BASE_URL"), "{all}");
    let one = quotakeeper(&scene, &["providers", "hubspot"]).stdout;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(one.lines().any(|line| words(line) == "free ten-seconds 100 Requests 10 seconds"), "{one}");
    let whole = json(&quotakeeper(&scene, &["providers", "hubspot", "-o", "json"]));
    assert_eq!(whole["spec"]["tiers"][0]["limits"][0]["amount"], 100);
    let yaml = quotakeeper(&scene, &["providers", "-o", "yaml"]).stdout;
    assert!(yaml.contains("- name: anthropic\n"), "{yaml}");
    let wide = quotakeeper(&scene, &["providers", "-o", "wide"]).stdout;
    assert!(wide.contains("api.hubapi.com"), "{wide}");
    let wrong = quotakeeper(&scene, &["providers", "opena1"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("did you mean `openai`"), "{}", wrong.stderr);
}

#[test]
fn a_dry_run_starts_nothing() {
    let scene = Scene::new(RULES);
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    command.args(["--dry-run", "--", "touch", "started"]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for there in ["DEMO_BASE_URL=http://127.0.0.1:PORT/ours", "daily", "250,000", "touch started"] {
        assert!(ended.stdout.contains(there), "{there}: {}", ended.stdout);
    }
    assert!(ended.stdout.contains("crm: calls wait as long as their client does"), "{}", ended.stdout);
    for left in ["started", "state", "report.json"] {
        assert!(!scene.path(left).exists(), "{left}");
    }
}

#[test]
fn limits_show_what_a_run_has_used() {
    let scene = Scene::new(RULES);
    let quota = scene.file("quota.yaml", QUOTA);
    let state = scene.path("state");
    let words = ["limits", "-f", quota.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let limits = |more: &[&str]| quotakeeper(&scene, &[&words[..], more].concat());
    let daily = |ended: &Ended| {
        let found = json(ended)[0]["limits"][1]["counts"][0].clone();
        (found["used"].clone(), found["assumed"].clone())
    };
    assert_eq!(daily(&limits(&["-o", "json"])), (0.into(), 0.into()));
    assert!(!state.exists(), "it writes nothing");

    let mut run = scene.quotakeeper(&quota);
    let script = format!(
        "{CALL}\nprint([call() for _ in range(3)])\nopen('called', 'w').close()\nimport time\nwhile not os.path.exists('seen'): time.sleep(0.02)"
    );
    run.args(["--", "python3", "-c", &script]);
    let mut running = scene.start(run);
    running.until("three calls", || scene.path("called").exists());
    // A story's commands share the files of outputs: the run's are open already.
    let during = || {
        let limits =
            Command::new(env!("CARGO_BIN_EXE_quotakeeper")).args(words).args(["-o", "json"]).output();
        let limits = limits.unwrap();
        assert!(limits.status.success(), "{}", String::from_utf8_lossy(&limits.stderr));
        let limits: Value = serde_json::from_slice(&limits.stdout).unwrap();
        (
            limits[0]["limits"][1]["counts"][0]["used"].clone(),
            limits[0]["limits"][1]["counts"][0]["left"].clone(),
        )
    };
    running.until("the run tells of its calls", || during() == (3.into(), 249_997.into()));
    scene.file("seen", "");
    assert_eq!(running.ended().code, 0);

    assert_eq!(daily(&limits(&["-o", "json"])), (3.into(), 0.into()));
    let table = limits(&[]).stdout;
    let row = table.lines().find(|line| line.contains("daily")).unwrap();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["249,997", "250,000", "day", "crm", "daily", "3", "0", "tier", "one"]
    );
    assert_eq!(daily(&limits(&["-o", "json"])), (3.into(), 0.into()), "looking changes nothing");
}

const OTHER: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: answers}
spec:
  provider: {name: openai, tier: tier-1}
  limits: [{name: daily, unit: Requests, amount: 1000, windowSeconds: 86400, countedAs: FixedWindow}]
"#;

/// Two accounts, used alone and together, in either order: each run goes on from what all before it have used.
#[test]
fn runs_of_several_accounts_continue_from_each_other() {
    let scene = Scene::new(RULES);
    let (crm, answers) = (scene.file("crm.yaml", QUOTA), scene.file("answers.yaml", OTHER));
    let script = r#"
import os, urllib.request
for variable, path, body in [("DEMO_BASE_URL", "/anything", None), ("OPENAI_BASE_URL", "/chat/completions", b'{"model": "gpt-4o", "messages": []}')]:
    if variable in os.environ:
        headers = {"Authorization": "Bearer " + variable, "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(os.environ[variable] + path, body, headers)).read()
"#;
    for files in [&[&crm][..], &[&answers, &crm], &[&answers], &[&crm, &answers], &[&crm]] {
        let mut run = scene.quotakeeper(files[0]);
        for file in &files[1..] {
            run.arg("-f").arg(file);
        }
        run.args(["--", "python3", "-c", script]);
        let ended = scene.run(run);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(!ended.stderr.contains("an earlier run may have used"), "{files:?}: {}", ended.stderr);
    }
    let state = scene.path("state");
    let words = ["limits", "-f", crm.to_str().unwrap(), "-f", answers.to_str().unwrap()];
    let limits =
        quotakeeper(&scene, &[&words[..], &["--state", state.to_str().unwrap(), "-o", "json"]].concat());
    let used = |quota: &Value| {
        let daily =
            quota["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "daily").unwrap();
        daily["counts"][0]["used"].clone()
    };
    let used: Vec<Value> = json(&limits).as_array().unwrap().iter().map(used).collect();
    assert_eq!(used, [4, 3], "{}", limits.stdout);
}

/// Whoever watches sees the use of a run that begins later.
#[test]
fn limits_can_be_watched() {
    let scene = Scene::new(RULES);
    let quota = scene.file("quota.yaml", QUOTA);
    let state = scene.path("state");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
    watch.args(["limits", "--watch", "-f"]).arg(&quota).arg("--state").arg(&state).stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("250,000   250,000   day")));
    let mut run = scene.quotakeeper(&quota);
    run.args(["--", "python3", "-c", &format!("{CALL}\n[call() for _ in range(3)]")]);
    assert_eq!(scene.run(run).code, 0);
    assert!(lines.any(|line| line.starts_with("249,997   250,000   day")));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// The schema's own dialect is checked too.
#[test]
fn a_report_is_as_its_schema_says() {
    let scene = Scene::new(RULES);
    let mut run = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    run.args(["--", "python3", "-c", &format!("{CALL}\ncall()")]);
    assert_eq!(scene.run(run).code, 0);
    let mut report = scene.report();
    assert_eq!(departures_from_schema(&report), [""; 0]);
    let limits = report["accounts"][0]["limits"].as_array().unwrap();
    let daily = limits.iter().find(|limit| limit["name"] == "daily").unwrap();
    assert_eq!((&daily["used"], &daily["assumed"]), (&1.into(), &0.into()), "{report}");
    report["calls"] = "many".into();
    assert_eq!(departures_from_schema(&report).len(), 1);
}

/// Where a report is not as the documented schema says.
pub fn departures_from_schema(report: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("../../docs/run-report.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(report).map(|error| error.to_string()).collect()
}

#[test]
fn a_scrape_shows_use_and_pauses() {
    let scene = Scene::new(RULES);
    let port = free_port();
    let admin = format!("127.0.0.1:{port}");
    let script = format!(
        "{CALL}
import time
assert [call() for _ in range(3)] == [200] * 3
while True:
    text = urllib.request.urlopen('http://{admin}/metrics').read().decode()
    used = [line for line in text.splitlines() if 'quotakeeper_limiter_limit_used{{' in line and '\"daily\"' in line]
    if used and used[0].endswith(' 3'):
        break
    time.sleep(0.05)
print([line for line in text.splitlines() if 'active_pauses{{' in line][0], text.count('# EOF'), 'quotakeeper_proxy_calls' in text)"
    );
    let mut run = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    run.args(["--admin", &admin, "--", "timeout", "60", "python3", "-c", &script]);
    let ended = scene.run(run);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let line = ended.stdout.trim_end();
    assert!(line.starts_with("quotakeeper_limiter_active_pauses{") && line.ends_with("} 0 1 True"), "{line}");
}

#[test]
fn a_command_runs_as_another_user_beside_interception() {
    if !is_root("a command as another user") {
        return;
    }
    let scene = Scene::on_port_443(RULES);
    let script = r#"
id -u; id -g; id -G; echo "$HOME $USER"; grep CapEff /proc/self/status
cd / && curl -sS -o /dev/null -w '%{http_code}\n' -H 'Authorization: Bearer crm' https://api.demo.example/anything"#;
    let mut run = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    run.args(["--hosts", "on", "--user", "nobody", "--", "sh", "-c", script]);
    let ended = scene.run(run);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    assert_eq!(lines[..3], [uid.as_str(), gid.as_str(), gid.as_str()]);
    assert_eq!(lines[3], format!("{} nobody", nobody.dir.display()));
    assert_eq!(lines[4], "CapEff:\t0000000000000000");
    assert_eq!(lines[5], "200");
    assert_eq!(scene.provider.summary("crm").totals.ok, 1);

    let mut missing = scene.quotakeeper(&scene.path("quota.yaml"));
    // A folder that the user may not search would be told of instead.
    missing.args(["--user", "nobody", "--", "no-such-command"]).env("PATH", "/usr/bin:/bin");
    let ended = scene.run(missing);
    assert_eq!(ended.code, 127, "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot start `no-such-command`"), "{}", ended.stderr);
}

#[test]
fn a_command_behind_sudo_runs_as_who_called_it() {
    if !is_root("a command as another user") {
        return;
    }
    let scene = Scene::new(RULES);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.to_string();
    for (caller, runs_as) in [(Some(nobody.as_str()), nobody.as_str()), (Some("0"), "0"), (None, "0")] {
        let mut run = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
        run.args(["--", "id", "-u"]).env_remove("SUDO_UID");
        run.envs(caller.map(|caller| ("SUDO_UID", caller)));
        let ended = scene.run(run);
        assert_eq!((ended.code, ended.stdout.trim_end()), (0, runs_as), "{caller:?}: {}", ended.stderr);
    }
}
