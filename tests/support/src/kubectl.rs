//! kubectl, as a person uses it, on an API server of the test's own (`tests/cluster/control-plane.sh`).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The context of a control plane that was started for tests.
const CONTEXT: &str = "quotakeeper-test";

/// What kubectl printed.
#[derive(Debug)]
pub struct Printed {
    /// Its standard output.
    pub output: String,
    /// Its standard error: the API server's warnings.
    pub warnings: String,
}

impl Printed {
    /// The output of `-o json`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap()
    }
}

/// Runs kubectl, with an object at its standard input.
///
/// # Errors
/// What it printed, where it failed.
///
/// # Panics
/// If there is no kubectl.
pub fn run(arguments: &[&str], input: Option<&Value>) -> Result<Printed, String> {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child =
        started.unwrap_or_else(|error| panic!("kubectl: {error}; run tests/cluster/control-plane.sh"));
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input.to_string().as_bytes()).unwrap();
    }
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (output, warnings) = (text(ended.stdout), text(ended.stderr));
    if ended.status.success() { Ok(Printed { output, warnings }) } else { Err(warnings) }
}

/// The same, where warnings do not matter: its standard output.
///
/// # Errors
/// What it printed, where it failed.
pub fn kubectl(arguments: &[&str], input: Option<&Value>) -> Result<String, String> {
    run(arguments, input).map(|printed| printed.output)
}

/// An object, or a list of them; `Null` where there is none.
pub fn get(arguments: &[&str]) -> Value {
    let arguments = [&["get", "-o", "json"], arguments].concat();
    kubectl(&arguments, None).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Creates an object, or changes it.
///
/// # Panics
/// If the API server refuses it.
pub fn apply(object: &Value) {
    kubectl(&["apply", "-f", "-"], Some(object)).unwrap();
}

/// An object as the API server stored it, with its warnings.
#[derive(Debug)]
pub struct Created {
    /// The object.
    pub object: Value,
    /// The API server's warnings.
    pub warnings: String,
}

/// Creates an object.
///
/// # Errors
/// The refusal.
pub fn create(object: &Value) -> Result<Created, String> {
    created(&["create", "-o", "json", "-f", "-"], object)
}

/// What would be created; nothing is stored.
///
/// # Errors
/// The refusal.
pub fn create_dry(object: &Value) -> Result<Created, String> {
    created(&["create", "--dry-run=server", "-o", "json", "-f", "-"], object)
}

fn created(arguments: &[&str], object: &Value) -> Result<Created, String> {
    let printed = run(arguments, Some(object))?;
    Ok(Created { object: printed.json(), warnings: printed.warnings })
}

/// Refuses to go on unless kubectl leads to a control plane for tests.
///
/// # Panics
/// With `rerun`, the command that gives the test one.
pub fn require_test_control_plane(rerun: &str) {
    let context = kubectl(&["config", "current-context"], None).unwrap_or_default();
    assert_eq!(context.trim(), CONTEXT, "not an API server for tests; run {rerun}");
}

/// The folder of the generated CRDs.
pub fn crds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds")
}

/// Installs the CRDs and waits until they are served.
///
/// # Panics
/// If the API server warns: of a deprecation, a schema that is not structural, an unknown format.
pub fn install_crds() {
    let folder = crds();
    let folder = folder.to_str().unwrap();
    kubectl(&["apply", "--warnings-as-errors", "-f", folder], None).unwrap();
    kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", folder], None).unwrap();
}

/// Creates namespaces.
///
/// # Panics
/// If one is there.
pub fn create_namespaces(names: &[&str]) {
    for name in names {
        kubectl(&["create", "namespace", name], None).unwrap();
    }
}

/// A pod that nothing runs, with this image and metadata.
pub fn pod(metadata: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1"}]},
    })
}
