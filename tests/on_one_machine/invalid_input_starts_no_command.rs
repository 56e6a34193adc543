//! A mistake in what was given: one sentence with file, field and remedy, exit code 2, and the command was not started.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::real_sdks_stay_within_the_quota::rules;
use crate::scene::{Scene, behind, is_root};

const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: leads}\nspec:\n  provider: {name: openai, tier: tier-1}\n  limits:\n  - {name: requests, unit: Requests, amount: 10k, windowSeconds: 60}\n";

/// One about which there is nothing else to say.
const PLAIN: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: plain}\nspec: {provider: {name: demo}}\n";

const HUBSPOT: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: crm}\nspec: {provider: {name: hubspot, tier: free}}\n";

/// Runs `command`, whose own command is added here: it would leave a file behind.
fn refused(scene: &Scene, mut command: Command, words: &[&str]) {
    command.args(["--", "touch", "started"]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(!scene.path("started").exists(), "the command was started\n{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "not one sentence:\n{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is missing in: {}", ended.stderr);
    }
}

/// The quota with one part replaced, refused with these words.
fn mistake(from: &str, to: &str, words: &[&str]) {
    assert!(QUOTA.contains(from), "{from}");
    let scene = Scene::new(&rules());
    let file = scene.file("leads.yaml", &QUOTA.replace(from, to));
    let command = scene.quotakeeper(&file);
    refused(&scene, command, &[words, &["leads.yaml"]].concat());
}

#[test]
fn the_same_without_a_mistake_starts() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", QUOTA));
    command.args(["--", "touch", "started"]);
    assert_eq!(scene.run(command).code, 0);
    assert!(scene.path("started").exists());
}

#[test]
fn an_unknown_provider() {
    mistake("name: openai", "name: opena1", &["spec.provider.name", "opena1", "openai"]);
}

#[test]
fn an_unknown_tier() {
    mistake("tier: tier-1", "tier: tier-11", &["spec.provider.tier", "tier-11", "tier-1"]);
}

#[test]
fn thousandths_of_a_call() {
    mistake("amount: 10k", "amount: 2m", &["amount", "m means a thousandth; write 2M"]);
}

#[test]
fn an_amount_that_is_no_number() {
    mistake("amount: 10k", "amount: lots", &["amount", "10k"]);
}

#[test]
fn a_window_is_missing() {
    mistake(", windowSeconds: 60", "", &["windowSeconds", "60"]);
}

#[test]
fn a_field_that_does_not_exist() {
    mistake("amount: 10k", "amount: 10k, ammount: 3", &["ammount"]);
}

#[test]
fn a_newer_version() {
    mistake("quotakeeper.dev/v1alpha1", "quotakeeper.dev/v2", &["apiVersion", "v2", "v1alpha1"]);
}

#[test]
fn another_kind() {
    mistake("kind: ApiQuota", "kind: Deployment", &["kind", "Deployment", "ApiQuota"]);
}

#[test]
fn text_that_is_no_yaml() {
    mistake("spec:", "spec: [", &["line"]);
}

#[test]
fn a_tab_in_the_indentation() {
    mistake("  limits:", "\tlimits:", &["leads.yaml", "line 6", "a tab stands in the indentation"]);
}

#[test]
fn a_log_filter_that_is_none() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.env("QUOTAKEEPER_LOG", "access=loud");
    refused(&scene, command, &["QUOTAKEEPER_LOG", "access=loud", "write a level such as info"]);
}

#[test]
fn a_command_without_the_two_hyphens() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.args(["touch", "started"]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(!scene.path("started").exists());
    assert!(ended.stderr.contains("`--` is missing before the command"), "{}", ended.stderr);
    assert!(ended.stderr.trim_end().ends_with("-- touch started"), "{}", ended.stderr);
}

#[test]
fn a_user_that_does_not_exist() {
    if !is_root("a command as another user") {
        return;
    }
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.args(["--user", "no-such-user"]);
    refused(&scene, command, &["--user no-such-user", "there is no such user"]);
}

#[test]
fn a_file_that_is_not_there() {
    let scene = Scene::new(&rules());
    let command = scene.quotakeeper(Path::new("nowhere.yaml"));
    refused(&scene, command, &["nowhere.yaml"]);
}

#[test]
fn a_file_that_is_a_folder() {
    let scene = Scene::new(&rules());
    fs::create_dir(scene.path("quotas")).unwrap();
    let command = scene.quotakeeper(&scene.path("quotas"));
    refused(&scene, command, &["quotas"]);
}

#[test]
fn a_file_without_a_quota() {
    let scene = Scene::new(&rules());
    let command = scene.quotakeeper(&scene.file("empty.yaml", "# nothing yet\n"));
    refused(&scene, command, &["empty.yaml", "ApiQuota"]);
}

#[test]
fn two_quotas_of_one_provider() {
    let scene = Scene::new(&rules());
    let two = format!("{QUOTA}---\n{}", QUOTA.replace("name: leads", "name: campaigns"));
    let command = scene.quotakeeper(&scene.file("two.yaml", &two));
    refused(&scene, command, &["two.yaml", "leads", "campaigns"]);
}

#[test]
fn a_file_that_is_not_a_certificate() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.arg("--upstream-ca").arg(scene.file("ca.pem", "not a certificate\n"));
    refused(&scene, command, &["--upstream-ca", "ca.pem", "holds no certificate", "PEM"]);
}

#[test]
fn a_certificate_that_is_not_there() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.args(["--upstream-ca", "nowhere.pem"]);
    refused(&scene, command, &["--upstream-ca", "nowhere.pem"]);
}

#[test]
fn an_address_that_is_taken() {
    let scene = Scene::new(&rules());
    let taken = scene.provider.http().unwrap().to_string();
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.args(["--listen", &taken]);
    refused(&scene, command, &[&taken]);
}

#[test]
fn an_unwritable_report_is_refused_before_the_command_starts() {
    let scene = Scene::new(&rules());
    // The scene's own `--report` is not to be there.
    let mut command = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
    command.arg("run").arg("-f").arg(scene.file("leads.yaml", PLAIN));
    command.args(["--report", "nowhere/report.json"]);
    refused(&scene, command, &["--report", "nowhere/report.json", "can't be written"]);
}

#[test]
fn a_file_that_is_not_a_ledger() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.arg("--ledger").arg(scene.file("notes.txt", "not a ledger\n"));
    let words = ["--ledger", "notes.txt is no ledger of quotakeeper (", "choose another file or delete it"];
    refused(&scene, command, &words);
}

#[test]
fn standard_input_that_has_no_end() {
    let scene = Scene::new(&rules());
    let kept = scene.quotakeeper(Path::new("-"));
    let command = behind(&["sh", "-c", r#"yes | "$0" "$@""#], &kept);
    refused(&scene, command, &["standard input", "is larger than 262144 bytes"]);
}

#[test]
fn a_machine_without_a_hosts_file() {
    if !is_root("a machine without a hosts file") {
        return;
    }
    let scene = Scene::new(&rules());
    let hubspot = PLAIN.replace("name: demo", "name: hubspot, tier: free");
    let kept = scene.quotakeeper(&scene.file("leads.yaml", &hubspot));
    let script = r#"mount -t tmpfs none /etc && exec "$0" "$@""#;
    let command = behind(&["unshare", "--mount", "sh", "-c", script], &kept);
    refused(&scene, command, &["/etc/hosts", "No such file", "--hosts off"]);
}

#[test]
fn a_quota_file_without_its_option() {
    let scene = Scene::new(&rules());
    let file = scene.file("leads.yaml", PLAIN);
    for (words, advice) in [
        (
            &["run", "leads.yaml", "--", "touch", "started"][..],
            "quotakeeper run -f leads.yaml -- touch started",
        ),
        (&["limits", "leads.yaml"], "quotakeeper limits -f leads.yaml"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
        command.args(words).current_dir(file.parent().unwrap());
        let ended = scene.run(command);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(ended.stderr.contains("`-f` is missing before the quota file"), "{}", ended.stderr);
        assert!(ended.stderr.trim_end().ends_with(advice), "{}", ended.stderr);
        assert!(!scene.path("started").exists());
    }
}

#[test]
fn an_address_without_a_port() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.args(["--listen", "127.0.0.1", "--", "touch", "started"]);
    let ended = scene.run(command);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("give ADDR:PORT, such as 127.0.0.1:8080"), "{}", ended.stderr);
    assert!(!scene.path("started").exists());
}

#[test]
fn a_limit_that_no_quota_has() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("leads.yaml", PLAIN));
    command.args(["--used", "weekly=3"]);
    refused(&scene, command, &["--used weekly=3", "no quota has the limit weekly; name one of plain:"]);
}

/// Root without the right to listen on low ports, as other users are. What is said is true of the quota.
#[test]
fn interception_without_the_right_to_it() {
    if !is_root("a process with fewer rights") {
        return;
    }
    let scene = Scene::new(&rules());
    let quota = scene.file("leads.yaml", PLAIN);
    let hubspot = scene.file("hubspot.yaml", HUBSPOT);
    for (file, more, says) in [
        (&quota, &["--hosts", "on"][..], "--hosts on: the hosts of plain can't be intercepted"),
        (&hubspot, &[], "crm: clients of the provider know no base-URL variable"),
    ] {
        let mut command = scene.quotakeeper(file);
        command.args(more);
        let fewer = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-all"];
        let mut command = behind(&fewer, &command);
        command.env("USER", "ada");
        let remedy = "run quotakeeper as root, with --user ada for the command itself";
        refused(&scene, command, &[says, "may not listen on ports 443 and 80", remedy]);
    }
}
