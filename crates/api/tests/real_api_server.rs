//! A real API server judges the table of `documents` as the other judges do, and shows the
//! resources as we mean them. `make cluster-test` runs this with a control plane of its own.

#![allow(clippy::unwrap_used)]

#[path = "validators_agree/table.rs"]
mod table;

use std::path::Path;
use std::sync::Once;

use serde_json::{Value, json};
use table::{Case, cases};
use test_support::golden::assert_golden;
use test_support::kubectl::{self, get, kubectl};
use test_support::wait::until_seen;

const NEEDS: &str =
    "tests/cluster/control-plane.sh run tests/built.py quotakeeper-api:real_api_server -- --ignored";

/// How the API server words what the schema refuses.
const SCHEMA: [&str; 6] =
    [" in body must ", " in body should ", "Required value", "Unsupported value", "Too ", "Duplicate value"];

/// What `kubectl` said: its output, or its complaint.
type Answer = Result<String, String>;

/// Has the CRDs in the API server, once.
fn with_crds() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        kubectl::require_test_control_plane(NEEDS);
        kubectl::install_crds();
        kubectl::create_namespaces(&["gtm", "changes"]);
    });
}

/// Whether the API server would take the document as `kubectl create` sends it; nothing is kept.
fn create(document: &Value, validate: &str) -> Answer {
    let validate = format!("--validate={validate}");
    kubectl(&["create", "--dry-run=server", &validate, "-o", "json", "-f", "-"], Some(document))
}

/// Whether the API server would let the document replace `old`.
fn replace(document: &Value, old: &Value) -> Answer {
    let elsewhere = |document: &Value| {
        let mut document = document.clone();
        document["metadata"]["namespace"] = json!("changes");
        document
    };
    kubectl(&["create", "-f", "-"], Some(&elsewhere(old))).unwrap();
    let answer = kubectl(&["replace", "--dry-run=server", "-f", "-"], Some(&elsewhere(document)));
    kubectl(&["delete", "-f", "-"], Some(&elsewhere(old))).unwrap();
    answer
}

fn asked(case: &Case) -> Answer {
    match &case.old {
        Some(old) => replace(&case.document, old),
        None => create(&case.document, "strict"),
    }
}

/// Each complaint as (field, sentence), of `… is invalid: field: sentence`, or a list of them.
fn complaints(text: &str) -> Vec<(String, String)> {
    let (_, list) = text.split_once(" is invalid:").unwrap_or_else(|| panic!("no refusal: {text}"));
    let lines = list.trim().lines().map(|line| line.trim_start_matches("* "));
    // Left unsaid where the schema already refuses.
    let said = lines.filter(|line| !line.starts_with("<nil>: "));
    let parts = said.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no field: {line}")));
    parts.map(|(field, sentence)| (field.to_owned(), sentence.to_owned())).collect()
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn the_api_server_stores_the_crds_unchanged() {
    with_crds();
    let again = kubectl(&["apply", "-f", kubectl::crds().to_str().unwrap()], None).unwrap();
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "the API server rewrote: {again}");
    for crd in ["apiquotas.quotakeeper.dev", "apiproviders.quotakeeper.dev"] {
        let crd = get(&["crd", crd]);
        for condition in crd["status"]["conditions"].as_array().unwrap() {
            let expected = ["NamesAccepted", "Established"].contains(&condition["type"].as_str().unwrap());
            assert_eq!(condition["status"] == "True", expected, "{condition}");
        }
        assert_eq!(crd["status"]["acceptedNames"], crd["spec"]["names"]);
    }
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn accepted_documents_are_stored_unchanged() {
    with_crds();
    for case in cases("accepted") {
        let answer = asked(&case).unwrap_or_else(|refusal| panic!("{}: {refusal}", case.name()));
        if case.old.is_none() {
            let stored: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(stored["spec"], case.document["spec"], "{}: not kept as written", case.name());
        }
    }
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn refused_documents_name_the_field() {
    with_crds();
    let mut disagreements = Vec::new();
    for case in cases("refused") {
        let field = case.field.as_deref().unwrap();
        let answer = asked(&case);
        if case.server.as_deref() == Some("accepts") {
            disagreements.extend(lenient(&case, field, answer));
            continue;
        }
        let Err(text) = answer else {
            disagreements.push(format!("{}: accepted", case.name()));
            continue;
        };
        let message = case.server.as_deref().or(case.message.as_deref()).unwrap();
        for (said, sentence) in complaints(&text) {
            // A rule's sentence is ours; those of the schema are the API server's own.
            let ours = sentence.ends_with(message);
            let schema = SCHEMA.iter().any(|words| sentence.contains(words));
            if said != field || !(ours || schema) {
                disagreements.push(format!("{}: {said}: {sentence}", case.name()));
            }
        }
    }
    assert!(disagreements.is_empty(), "the API server disagrees:\n{}", disagreements.join("\n"));
}

/// What the CRD lets pass: a field that it does not know is told by strict validation alone, and
/// all the rest is for the operator to tell.
fn lenient(case: &Case, field: &str, strict: Answer) -> Option<String> {
    let unknown = case.message.as_deref().unwrap().starts_with("is unknown");
    match (strict, unknown) {
        (Ok(_), false) => None,
        (Err(text), true) if text.contains(&format!("unknown field \"{field}\"")) => {
            create(&case.document, "ignore").err().map(|text| format!("{}: {text}", case.name()))
        }
        (answer, _) => Some(format!("{}: {answer:?}", case.name())),
    }
}

/// The answer once the API server has published the schemas of new CRDs, which takes it a moment.
fn published(arguments: &[&str]) -> String {
    until_seen(&arguments.join(" "), || kubectl(arguments, None).ok())
}

#[test]
#[ignore = "needs an API server: make cluster-test"]
fn explain_matches_the_golden_files() {
    with_crds();
    let golden = |name: &str, explained: String| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
        assert_golden(&file, &explained, NEEDS);
    };
    let mut explained = published(&["explain", "apiquota.spec", "--recursive"]);
    for field in [
        "limits",
        "limits.amount",
        "used",
        "pacing.algorithm",
        "consumers.namespaces",
        "enforcement.maxQueueSeconds",
    ] {
        explained.push_str(&kubectl(&["explain", &format!("apiquota.spec.{field}")], None).unwrap());
    }
    golden("explain_apiquota_spec", explained);
    golden("explain_apiquota_status", published(&["explain", "apiquota.status", "--recursive"]));
    golden("explain_apiprovider_spec", published(&["explain", "apiprovider.spec", "--recursive"]));
}
