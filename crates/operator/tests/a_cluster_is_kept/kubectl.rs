//! Workloads, and tables as kubectl shows them.

use std::path::Path;

use quotakeeper_dialects::catalogue;
use regex::Regex;
use serde_json::{Value, json};
use test_support::golden::assert_golden;
use test_support::kubectl::{apply, kubectl};
use test_support::wait::until_seen;

/// Creates a pod, once the namespace's ServiceAccount is there.
pub fn pod(namespace: &str, name: &str, annotations: &Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1"}]},
    });
    until_seen("the pod is created", || kubectl(&["create", "-f", "-"], Some(&pod)).ok());
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
        (r"after \d+s\b", "after Ns"),
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
    assert_golden(&file, text, needs);
}
