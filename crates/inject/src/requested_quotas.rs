//! Whether a pod asks for quotas, and which.
//!
//! The annotation names them, or says `auto`; the label on the pod, or else on its namespace, means `auto`. What a
//! pod says comes before what its namespace says, and `disabled` before all else that stands at the same place.

use quotakeeper_dialects::did_you_mean;
use serde_json::Value;

use crate::pod;
use crate::view::Namespace;
use quotakeeper_api::names::{AUTO, DISABLED, ENABLED, INJECT, QUOTAS};

/// The quotas that a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// None: it stays as it is.
    Nothing,
    /// These, each once, as they were written.
    Names(Vec<String>),
    /// All that admit it.
    Auto {
        /// The pod's own annotation asks, not a label that speaks for many.
        explicitly: bool,
    },
}

/// What a pod asks for.
///
/// # Errors
/// A sentence where the pod's own words can't be understood.
pub fn asked(pod: &Value, namespace: &Namespace) -> Result<Asked, String> {
    let label = pod::label(pod, INJECT);
    match label {
        None | Some(ENABLED) => {}
        Some(DISABLED) => return Ok(Asked::Nothing),
        Some(other) => {
            return Err(format!(
                "the label {INJECT} is `{other}`, which means nothing{}; write {ENABLED} or {DISABLED}",
                did_you_mean(other, [ENABLED, DISABLED])
            ));
        }
    }
    if let Some(annotation) = pod::annotation(pod, QUOTAS) {
        return names(annotation);
    }
    let of_namespace = || namespace.labels.get(INJECT).map(String::as_str);
    match label.or_else(of_namespace) {
        Some(ENABLED) => Ok(Asked::Auto { explicitly: false }),
        _ => Ok(Asked::Nothing),
    }
}

fn names(annotation: &str) -> Result<Asked, String> {
    let mut names: Vec<String> = Vec::new();
    for name in annotation.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(format!(
            "the annotation {QUOTAS} is empty; write names of quotas, separated by commas, or {AUTO}"
        ));
    }
    if names == [AUTO] {
        return Ok(Asked::Auto { explicitly: true });
    }
    if names.iter().any(|name| name == AUTO) {
        return Err(format!(
            "the annotation {QUOTAS} says {AUTO} and names quotas too; write one or the other"
        ));
    }
    Ok(Asked::Names(names))
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
        let auto = |explicitly| Asked::Auto { explicitly };
        for (annotation, label, of_namespace, expected) in [
            (None, None, None, Asked::Nothing),
            (None, None, Some("enabled"), auto(false)),
            (None, None, Some("disabled"), Asked::Nothing),
            (None, None, Some("true"), Asked::Nothing),
            (None, Some("enabled"), None, auto(false)),
            (None, Some("enabled"), Some("disabled"), auto(false)),
            (None, Some("disabled"), Some("enabled"), Asked::Nothing),
            (Some("auto"), None, None, auto(true)),
            (Some("auto"), None, Some("disabled"), auto(true)),
            (Some("openai"), Some("disabled"), Some("enabled"), Asked::Nothing),
            (Some("openai"), Some("enabled"), None, Asked::Names(vec!["openai".to_owned()])),
        ] {
            let found = asked(&pod(annotation, label), &namespace(of_namespace)).unwrap();
            assert_eq!(found, expected, "{annotation:?} {label:?} {of_namespace:?}");
        }
    }

    #[test]
    fn names_are_trimmed_and_asked_for_once() {
        let found = asked(&pod(Some(" openai, platform/hubspot,,openai "), None), &namespace(None)).unwrap();
        assert_eq!(found, Asked::Names(vec!["openai".to_owned(), "platform/hubspot".to_owned()]));
    }

    #[test]
    fn what_means_nothing_is_told() {
        let refused = |annotation, label| asked(&pod(annotation, label), &namespace(None)).unwrap_err();
        assert!(refused(Some(" , "), None).contains("is empty; write names of quotas"));
        assert!(refused(Some("auto, openai"), None).contains("write one or the other"));
        assert!(refused(None, Some("true")).ends_with("write enabled or disabled"));
        assert!(refused(Some("openai"), Some("false")).contains("is `false`, which means nothing"));
        assert!(refused(None, Some("enable")).contains("(did you mean `enabled`?)"));
    }
}
