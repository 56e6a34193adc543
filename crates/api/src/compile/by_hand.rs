//! What a person has paused, or had go on, by annotations of the quota.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::names::{PAUSED_UNTIL, RESUMED_AT};
use crate::quota::ApiQuota;

/// What the annotations say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ByHand {
    pub(super) paused_until: Option<Timestamp>,
    pub(super) resumed_at: Option<Timestamp>,
    /// What can't be read of them, as sentences.
    pub(super) warnings: Vec<String>,
}

pub(super) fn compile(quota: &ApiQuota) -> ByHand {
    let mut warnings = Vec::new();
    let mut time = |annotation: &str, effect: &str| {
        let text = quota.annotations().get(annotation)?;
        let time = text.parse();
        if time.is_err() {
            let shown: String = text.chars().take(60).collect();
            warnings.push(format!(
                "the annotation {annotation} is `{shown}`, which is no time, so {effect}; write it as 2026-11-03T14:03:10Z"
            ));
        }
        time.ok()
    };
    let paused_until = time(PAUSED_UNTIL, "nothing is paused");
    let resumed_at = time(RESUMED_AT, "nothing goes on by it");
    ByHand { paused_until, resumed_at, warnings }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn of(annotations: serde_json::Value) -> ByHand {
        let quota = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "crm", "annotations": annotations}, "spec": {"provider": {"name": "hubspot"}},
        });
        compile(&serde_json::from_value(quota).unwrap())
    }

    #[test]
    fn times_are_read_and_all_else_is_said() {
        let read = of(json!({"quotakeeper.dev/paused-until": "2026-11-03T14:03:10Z"}));
        assert_eq!(read.paused_until, Some("2026-11-03T14:03:10Z".parse().unwrap()));
        assert!(read.warnings.is_empty() && read.resumed_at.is_none());
        let wrong = of(json!({"quotakeeper.dev/paused-until": "tomorrow"}));
        assert_eq!(wrong.paused_until, None);
        assert!(wrong.warnings[0].contains("is `tomorrow`, which is no time, so nothing is paused"));
        assert_eq!(of(json!({})), ByHand::default());
    }
}
