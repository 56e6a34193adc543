//! kubectl, as a person uses it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

pub const NEEDS: &str = "tests/cluster/control-plane.sh run cargo test -p quotakeeper-inject --test the_api_server_agrees -- --ignored";

/// What kubectl said.
#[derive(Debug)]
pub struct Said {
    pub output: String,
    pub warnings: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap()
    }
}

/// An object as the API server made it, and what it said besides.
#[derive(Debug)]
pub struct Made {
    pub object: Value,
    pub warnings: String,
}

/// # Errors
/// Its complaint.
pub fn kubectl(arguments: &[&str], input: Option<&Value>) -> Result<Said, String> {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("kubectl: {error}; run {NEEDS}"));
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        stdin.write_all(input.to_string().as_bytes()).unwrap();
    }
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let warnings = text(done.stderr);
    if done.status.success() { Ok(Said { output: text(done.stdout), warnings }) } else { Err(warnings) }
}

/// # Errors
/// The refusal.
pub fn create(object: &Value) -> Result<Made, String> {
    made(&["create", "-o", "json", "-f", "-"], object)
}

/// What would be created; nothing is kept.
///
/// # Errors
/// The refusal.
pub fn create_dry(object: &Value) -> Result<Made, String> {
    made(&["create", "--dry-run=server", "-o", "json", "-f", "-"], object)
}

fn made(arguments: &[&str], object: &Value) -> Result<Made, String> {
    let said = kubectl(arguments, Some(object))?;
    Ok(Made { object: said.json(), warnings: said.warnings })
}
