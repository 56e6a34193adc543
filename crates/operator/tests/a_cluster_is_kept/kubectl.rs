//! kubectl, and what the story needs of a cluster.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use quotakeeper_dialects::catalogue;
use regex::Regex;
use serde_json::{Value, json};

/// What kubectl said: its output, or its complaint.
pub fn kubectl(arguments: &[&str], input: Option<&Value>) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input.to_string().as_bytes()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// An object, or a list of them.
pub fn get(arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["get", "-o", "json"].into_iter().chain(arguments.iter().copied()).collect();
    kubectl(&arguments, None).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Applies an object.
pub fn apply(object: &Value) {
    kubectl(&["apply", "-f", "-"], Some(object)).unwrap();
}

/// Has the CRDs in the API server; any other than a test's own is left alone.
pub fn with_crds(needs: &str) {
    let context = kubectl(&["config", "current-context"], None).unwrap_or_default();
    assert_eq!(context.trim(), "quotakeeper-test", "not an API server for tests; run {needs}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let folder = folder.to_str().unwrap();
    kubectl(&["apply", "-f", folder], None).unwrap();
    kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", folder], None).unwrap();
}

/// Creates a pod, once the namespace's ServiceAccount is there.
pub fn pod(namespace: &str, name: &str, annotations: &Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1"}]},
    });
    for _ in 0..100 {
        if kubectl(&["create", "-f", "-"], Some(&pod)).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    kubectl(&["create", "-f", "-"], Some(&pod)).unwrap();
}

/// A Deployment of one pod.
pub fn deployment(namespace: &str, name: &str, annotations: &Value, pod: &Value) {
    let labels = json!({"app": name});
    apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
        },
    }));
}

/// A Job whose pods run all at once.
pub fn job(namespace: &str, name: &str, pods: u32, annotations: &Value, pod: &Value) {
    let mut pod = pod.clone();
    pod["restartPolicy"] = json!("Never");
    apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parallelism": pods, "completions": pods,
            "template": {"metadata": {"annotations": annotations}, "spec": pod},
        },
    }));
}

/// A table with its columns as they are, but for times, ages and the list of all built-in providers, which may
/// make the last column but one wider.
pub fn without_times(table: &str) -> String {
    const MASKS: [(&str, &str); 3] = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"(?m)\d+[smh](\d+[smh])?$", "AGE"),
        (r"(?m)[ ]{2,}AGE$", "  AGE"),
    ];
    let mut table = table.replace(&catalogue::names().join(", "), "PROVIDERS");
    for (pattern, name) in MASKS {
        table = Regex::new(pattern).unwrap().replace_all(&table, name).into_owned();
    }
    table
}

/// What differs from run to run, hidden: times, ages, identities, and the widths of columns that follow from them.
pub fn masked(text: &str) -> String {
    const MASKS: [(&str, &str); 8] = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"\d\d:\d\d:\d\d", "HH:MM:SS"),
        (r"(UID:\s+)\S+", "${1}UID"),
        (r"(Resource Version:\s+)\d+", "${1}N"),
        (r"(?m)^\S+( \(x\d+ over \S+\))?(\s+(Normal|Warning)\s)", "AGE$2"),
        (r"after \d+s,", "after Ns,"),
        (r"(\S)[ \t]{2,}", "$1  "),
        (r"(?m)[ \t]+$", ""),
    ];
    let mut text = text.to_owned();
    for (pattern, name) in MASKS {
        text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
    }
    text
}

/// What `kubectl events` shows of objects, one after the other, without what Kubernetes' own controllers tell.
/// Events of one second come in any order.
pub fn events_table(namespace: &str, objects: &[&str]) -> String {
    let mut table = String::new();
    for object in objects {
        let shown = masked(&kubectl(&["events", "-n", namespace, "--for", object], None).unwrap());
        let (head, rows) = shown.split_once('\n').unwrap();
        let others = ["  SuccessfulCreate  ", "  ScalingReplicaSet  "];
        let ours = |row: &&str| !others.iter().any(|reason| row.contains(reason));
        let mut rows: Vec<&str> = rows.lines().filter(ours).collect();
        rows.sort_unstable();
        table.push_str(&format!(
            "$ kubectl events -n {namespace} --for {object}\n{head}\n{}\n",
            rows.join("\n")
        ));
    }
    table
}

/// Compares a text with a golden file.
pub fn golden(name: &str, text: &str, needs: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/a_cluster_is_kept/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "refresh it: UPDATE_GOLDEN=1 {needs}");
}
