//! Whether a document is acceptable: its structure by the CRD's schema, then the rules between its
//! fields. What an API server refuses is refused here too, with the same field.

use std::sync::LazyLock;

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::campaign::{self, ApiCampaign};
use crate::crds;
use crate::problem::Problem;
use crate::provider::ApiProvider;
use crate::quota::{ApiQuota, rules};
use crate::structure;

static QUOTA: LazyLock<Value> = LazyLock::new(|| rooted(crds::schema(crds::api_quota())));
static CAMPAIGN: LazyLock<Value> = LazyLock::new(|| rooted(crds::schema(crds::api_campaign())));
static PROVIDER: LazyLock<Value> = LazyLock::new(|| rooted(crds::schema(crds::api_provider())));

/// What is wrong with a quota; empty when it is acceptable.
pub fn validate(quota: &ApiQuota) -> Vec<Problem> {
    let document = serde_json::to_value(quota).unwrap_or_default();
    let mut problems = structure::problems(&document, &QUOTA, "");
    add(&mut problems, rules::problems(&quota.spec));
    add(&mut problems, structure::misshapen(&document, &QUOTA, ""));
    problems
}

/// The quota that a document is.
///
/// # Errors
/// All of its mistakes.
pub fn quota(document: &Value) -> Result<ApiQuota, Vec<Problem>> {
    read(document, &QUOTA, |quota: &ApiQuota| {
        let mut problems = metadata_problems(&quota.name_any(), quota.namespace().as_deref());
        problems.extend(rules::problems(&quota.spec));
        problems
    })
}

/// The provider that a document is; what it inherits is not looked at.
///
/// # Errors
/// All of its mistakes.
pub fn provider(document: &Value) -> Result<ApiProvider, Vec<Problem>> {
    read(document, &PROVIDER, |provider: &ApiProvider| {
        let mut problems = metadata_problems(&provider.name_any(), None);
        problems.extend(profile_problems(&provider.spec.profile));
        problems
    })
}

/// The campaign that a document is; whether its quotas are there is not looked at.
///
/// # Errors
/// All of its mistakes.
pub fn campaign(document: &Value) -> Result<ApiCampaign, Vec<Problem>> {
    read(document, &CAMPAIGN, |campaign: &ApiCampaign| {
        let mut problems = metadata_problems(&campaign.name_any(), campaign.namespace().as_deref());
        problems.extend(campaign::problems(&campaign.spec));
        problems
    })
}

/// What is wrong with a profile, with its fields as they are in an `ApiProvider`.
pub fn profile_problems(profile: &quotakeeper_dialects::Profile) -> Vec<Problem> {
    let problems = profile.validate().err().into_iter().flatten();
    problems.map(|problem| Problem::new(format!("spec.{}", problem.field), problem.message)).collect()
}

fn read<T: DeserializeOwned>(
    document: &Value,
    schema: &Value,
    rules: impl Fn(&T) -> Vec<Problem>,
) -> Result<T, Vec<Problem>> {
    let document = without_nulls(document.clone());
    let mut problems = structure::problems(&document, schema, "");
    let misshapen = structure::misshapen(&document, schema, "");
    match serde_json::from_value(document) {
        Ok(resource) => {
            add(&mut problems, rules(&resource));
            add(&mut problems, misshapen);
            if problems.is_empty() {
                return Ok(resource);
            }
        }
        Err(error) if problems.is_empty() => {
            problems.push(Problem::new("", format!("can't be read: {error}; correct the field")));
        }
        Err(_) => {}
    }
    Err(problems)
}

/// Adds problems of fields that have none yet.
fn add(problems: &mut Vec<Problem>, more: Vec<Problem>) {
    for problem in more {
        if problems.iter().all(|known| known.field != problem.field) {
            problems.push(problem);
        }
    }
}

/// The schema of a whole object; the API server adds these fields by itself.
fn rooted(mut schema: Value) -> Value {
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Example: `openai`."},
            "namespace": {"type": "string", "description": "Example: `gtm`."},
        },
        "additionalProperties": {},
        "description": "Example: `{name: openai}`.",
    });
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("metadata".into());
    }
    schema
}

/// The value without fields that are null: as in an API server, null means absent.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name, without_nulls(field)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Names of objects are DNS subdomains, those of namespaces DNS labels (RFC 1123).
fn metadata_problems(name: &str, namespace: Option<&str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if name.len() > 253 || !name.split('.').all(is_label) {
        let message = "must be lower-case letters, digits, inner hyphens and dots, at most 253";
        problems.push(Problem::new("metadata.name", message));
    }
    if namespace.is_some_and(|namespace| namespace.len() > 63 || !is_label(namespace)) {
        let message = "must be lower-case letters, digits and inner hyphens, at most 63";
        problems.push(Problem::new("metadata.namespace", message));
    }
    problems
}

fn is_label(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
}
