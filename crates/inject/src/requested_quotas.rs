//! Which quotas a pod requests.
//!
//! The annotation names them, or says `auto`; the label on the pod, or else on its namespace, means `auto`. The pod's
//! own label and annotation come before its namespace's label, and a label `disabled` on the pod before its annotation.

use quotakeeper_dialects::did_you_mean;
use serde_json::Value;
use thiserror::Error;

use crate::pod;
use crate::view::Namespace;
use quotakeeper_api::names::{AUTO, DISABLED, ENABLED, INJECT, QUOTAS};
use quotakeeper_wire::limiter::MOST_QUOTAS;

/// The most bytes of the annotation: 64 names of usual length with their namespaces. Whoever may create a pod
/// writes it, and every review and every look at the pod reads it.
const MOST_BYTES: usize = 16 << 10;

/// The quotas that a pod requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// None: the pod stays as it is.
    Nothing,
    /// These, each once, as they were written.
    Names(Vec<String>),
    /// All that admit the pod.
    Auto {
        /// By the pod's own annotation, not by a label that may be set for many pods.
        explicitly: bool,
    },
}

/// Why a pod's request for quotas is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The label has an unknown value.
    #[error(
        "the label {INJECT} is `{0}`, which means nothing{hint}; write {ENABLED} or {DISABLED}",
        hint = did_you_mean(.0, [ENABLED, DISABLED])
    )]
    UnknownLabel(String),
    /// The annotation names nothing.
    #[error("the annotation {QUOTAS} is empty; write names of quotas, separated by commas, or {AUTO}")]
    Empty,
    /// The annotation is longer than any list of quotas.
    #[error("the annotation {QUOTAS} has {0} bytes, more than {MOST_BYTES}; name fewer quotas")]
    TooLong(usize),
    /// The annotation names more quotas than a pod may draw on.
    #[error("the annotation {QUOTAS} names more than {MOST_QUOTAS} quotas; name fewer of them")]
    TooMany,
    /// The annotation requests all quotas and some.
    #[error("the annotation {QUOTAS} says {AUTO} and names quotas too; write one or the other")]
    AutoAndNames,
}

/// The quotas that a pod requests.
///
/// # Errors
/// [`RequestError`].
pub fn requested(pod: &Value, namespace: &Namespace) -> Result<Requested, RequestError> {
    let label = pod::label(pod, INJECT);
    match label {
        None | Some(ENABLED) => {}
        Some(DISABLED) => return Ok(Requested::Nothing),
        Some(other) => return Err(RequestError::UnknownLabel(other.to_owned())),
    }
    if let Some(annotation) = pod::annotation(pod, QUOTAS) {
        return names(annotation);
    }
    let of_namespace = || namespace.labels.get(INJECT).map(String::as_str);
    match label.or_else(of_namespace) {
        Some(ENABLED) => Ok(Requested::Auto { explicitly: false }),
        _ => Ok(Requested::Nothing),
    }
}

fn names(annotation: &str) -> Result<Requested, RequestError> {
    if annotation.len() > MOST_BYTES {
        return Err(RequestError::TooLong(annotation.len()));
    }
    let mut names: Vec<String> = Vec::new();
    for name in annotation.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if names.iter().any(|known| known == name) {
            continue;
        }
        if names.len() == MOST_QUOTAS {
            return Err(RequestError::TooMany);
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(RequestError::Empty);
    }
    if names == [AUTO] {
        return Ok(Requested::Auto { explicitly: true });
    }
    if names.iter().any(|name| name == AUTO) {
        return Err(RequestError::AutoAndNames);
    }
    Ok(Requested::Names(names))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod(annotation: Option<&str>, label: Option<&str>) -> Value {
        let mut pod = json!({"metadata": {}});
        if let Some(annotation) = annotation {
            pod["metadata"]["annotations"] = json!({(QUOTAS): annotation});
        }
        if let Some(label) = label {
            pod["metadata"]["labels"] = json!({(INJECT): label});
        }
        pod
    }

    fn namespace(label: Option<&str>) -> Namespace {
        let labels = label.map(|label| (INJECT.to_owned(), label.to_owned())).into_iter().collect();
        Namespace { name: "gtm".to_owned(), labels }
    }

    #[test]
    fn the_pod_comes_before_its_namespace_and_disabled_before_all_else_on_it() {
        let auto = |explicitly| Requested::Auto { explicitly };
        for (annotation, label, of_namespace, expected) in [
            (None, None, None, Requested::Nothing),
            (None, None, Some("enabled"), auto(false)),
            (None, None, Some("disabled"), Requested::Nothing),
            (None, None, Some("true"), Requested::Nothing),
            (None, Some("enabled"), None, auto(false)),
            (None, Some("enabled"), Some("disabled"), auto(false)),
            (None, Some("disabled"), Some("enabled"), Requested::Nothing),
            (Some("auto"), None, None, auto(true)),
            (Some("auto"), None, Some("disabled"), auto(true)),
            (Some("openai"), Some("disabled"), Some("enabled"), Requested::Nothing),
            (Some("openai"), Some("enabled"), None, Requested::Names(vec!["openai".to_owned()])),
        ] {
            let found = requested(&pod(annotation, label), &namespace(of_namespace)).unwrap();
            assert_eq!(found, expected, "{annotation:?} {label:?} {of_namespace:?}");
        }
    }

    #[test]
    fn names_are_trimmed_and_each_is_requested_once() {
        let found =
            requested(&pod(Some(" openai, platform/hubspot,,openai "), None), &namespace(None)).unwrap();
        assert_eq!(found, Requested::Names(vec!["openai".to_owned(), "platform/hubspot".to_owned()]));
    }

    #[test]
    fn an_annotation_without_end_is_refused_before_it_is_compared() {
        let refused =
            |annotation: &str| requested(&pod(Some(annotation), None), &namespace(None)).unwrap_err();
        let list = |names: usize| (0..names).map(|name| format!("q{name},")).collect::<String>();
        assert_eq!(refused(&list(100_000)), RequestError::TooLong(list(100_000).len()));
        assert_eq!(refused(&list(MOST_QUOTAS + 1)), RequestError::TooMany);
        let most = requested(&pod(Some(&list(MOST_QUOTAS)), None), &namespace(None)).unwrap();
        assert!(matches!(most, Requested::Names(names) if names.len() == MOST_QUOTAS));
    }

    #[test]
    fn invalid_requests_are_refused_with_a_remedy() {
        let refused =
            |annotation, label| requested(&pod(annotation, label), &namespace(None)).unwrap_err().to_string();
        assert!(refused(Some(" , "), None).contains("is empty; write names of quotas"));
        assert!(refused(Some("auto, openai"), None).contains("write one or the other"));
        assert!(refused(None, Some("true")).ends_with("write enabled or disabled"));
        assert!(refused(Some("openai"), Some("false")).contains("is `false`, which means nothing"));
        assert!(refused(None, Some("enable")).contains("(did you mean `enabled`?)"));
    }
}
