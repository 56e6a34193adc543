//! One table of documents: what a person may write, and what not. Three judges read it: the Rust
//! validation, a JSON schema validator and a CEL evaluator on the generated CRD. The latter two
//! stand for the API server; `real_api_server` asks a real one.

#![allow(clippy::unwrap_used)]

mod api_server;
mod table;

use api_server::ApiServer;
use quotakeeper_api::problem::Problem;
use quotakeeper_api::quota::{ApiQuota, rules};
use quotakeeper_api::{crds, validate};
use table::{Case, cases};

impl Case {
    fn is_quota(&self) -> bool {
        self.document["kind"] == "ApiQuota"
    }

    fn rust(&self) -> Vec<Problem> {
        if !self.is_quota() {
            return validate::provider(&self.document).err().unwrap_or_default();
        }
        match (validate::quota(&self.document), &self.old) {
            (Ok(new), Some(old)) => {
                let old: ApiQuota = serde_json::from_value(old.clone()).unwrap();
                rules::change_problems(&new.spec, &old.spec)
            }
            (result, _) => result.err().unwrap_or_default(),
        }
    }

    fn server(&self) -> Vec<Problem> {
        let crd = if self.is_quota() { crds::api_quota() } else { crds::api_provider() };
        ApiServer::new(crd).problems(&self.document, self.old.as_ref())
    }
}

#[test]
fn all_validators_accept_the_accepted_documents() {
    let cases = cases("accepted");
    assert!(cases.len() >= 8, "the table is gone");
    for case in cases {
        assert_eq!(case.rust(), [], "{}", case.name());
        assert_eq!(case.server(), [], "{}", case.name());
        if case.is_quota() {
            let quota = validate::quota(&case.document).unwrap();
            assert_eq!(validate::validate(&quota), [], "{}", case.name());
            let written = serde_json::to_value(&quota).unwrap();
            assert_eq!(written["spec"], case.document["spec"], "{}: not kept as written", case.name());
        }
    }
}

#[test]
fn all_validators_refuse_with_the_same_field() {
    let cases = cases("refused");
    assert!(cases.len() >= 30, "the table is gone");
    for case in cases {
        let field = case.field.as_deref().unwrap();
        let message = case.message.as_deref().unwrap();
        let expected = [Problem::new(field, message)];
        assert_eq!(case.rust(), expected, "{}: Rust", case.name());

        let server = case.server();
        match case.server.as_deref() {
            // The API server prunes unknown fields, can't compare text amounts, and so on.
            Some("accepts") => assert_eq!(server, [], "{}: API server", case.name()),
            wording => {
                assert!(!server.is_empty(), "{}: the API server accepts it", case.name());
                for problem in &server {
                    assert_eq!(problem.field, field, "{}: {problem}", case.name());
                }
                // A schema's bound has no sentence of ours; a rule has.
                if let Some(rule) = server.iter().find(|problem| !problem.message.starts_with("schema: ")) {
                    assert_eq!(rule.message, wording.unwrap_or(message), "{}", case.name());
                }
            }
        }
    }
}

#[test]
fn every_rule_of_the_crd_refuses_some_document() {
    let cases = cases("refused");
    let said: Vec<String> = cases.iter().flat_map(Case::server).map(|problem| problem.message).collect();
    for rule in ApiServer::new(crds::api_quota()).rules() {
        assert!(said.contains(&rule), "no document of the table breaks the rule: {rule}");
    }
}
