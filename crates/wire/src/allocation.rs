//! Which pods draw on which allocation of a quota, as the limiter decides by their metadata.

use std::collections::{BTreeMap, BTreeSet};

use quotakeeper_engine::name::AllocationName;
use serde::{Deserialize, Serialize};

/// The pods of an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationPods {
    /// The allocation.
    pub allocation: AllocationName,
    /// The namespaces whose pods are meant; `None`: all that may draw on the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<BTreeSet<String>>,
    /// Labels and their values, all of which a pod must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Conditions on a pod's labels, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<LabelExpression>,
}

/// A condition on a label, as in `matchExpressions` of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// What must be so.
    pub operator: LabelOperator,
    /// Of [`LabelOperator::In`] and [`LabelOperator::NotIn`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub values: BTreeSet<String>,
}

/// What must be so of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelOperator {
    /// Its value is one of these.
    In,
    /// It has none of these values, or is absent.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl LabelExpression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let named = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => named,
            LabelOperator::NotIn => !named,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

impl AllocationPods {
    /// Whether a pod of this namespace with these labels is one of them.
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(namespace))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.holds(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pod_is_selected_by_its_namespace_and_all_conditions_on_its_labels() {
        let expression = |operator, values: &[&str]| LabelExpression {
            key: "tier".to_owned(),
            operator,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let pods = |expressions| AllocationPods {
            allocation: "web".into(),
            namespaces: Some(["gtm".to_owned()].into()),
            labels: labels(&[("app", "chat")]),
            expressions,
        };
        let gold = labels(&[("app", "chat"), ("tier", "gold")]);
        assert!(pods(vec![]).selects("gtm", &gold));
        assert!(!pods(vec![]).selects("ops", &gold));
        assert!(!pods(vec![]).selects("gtm", &labels(&[("app", "mail")])));
        for (operator, values, with, without) in [
            (LabelOperator::In, &["gold"][..], true, false),
            (LabelOperator::NotIn, &["gold"], false, true),
            (LabelOperator::Exists, &[], true, false),
            (LabelOperator::DoesNotExist, &[], false, true),
        ] {
            let pods = pods(vec![expression(operator, values)]);
            assert_eq!(pods.selects("gtm", &gold), with, "{operator:?}");
            assert_eq!(pods.selects("gtm", &labels(&[("app", "chat")])), without, "{operator:?}");
        }
    }
}
