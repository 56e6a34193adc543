//! Which pods draw on which allocation, as the limiter reads it: namespaces by their names, pods by their labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::SelectorExt;
use quotakeeper_api::problem::Problem;
use quotakeeper_api::quota::{Allocation, ApiQuota};
use quotakeeper_wire::allocation::{AllocationPods, LabelExpression, LabelOperator};

use super::{Refusal, invalid, selector_of};

/// The pods of each allocation of a quota, in its order.
pub(super) fn pods(
    quota: &ApiQuota,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<Vec<AllocationPods>, Refusal> {
    let of_each = quota.spec.allocations.iter().enumerate();
    of_each.map(|(index, allocation)| of_one(allocation, namespaces, index)).collect()
}

fn of_one(
    allocation: &Allocation,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
    index: usize,
) -> Result<AllocationPods, Refusal> {
    let field = |name: &str| format!("spec.allocations[{index}].{name}");
    let selected = match allocation.namespaces.clone() {
        None => None,
        Some(selector) => {
            let selector = selector_of(selector, &field("namespaces"))?;
            let matching = namespaces.iter().filter(|(_, labels)| selector.matches(labels));
            Some(matching.map(|(name, _)| name.clone()).collect())
        }
    };
    let LabelSelector { match_labels, match_expressions } = allocation.pods.clone().unwrap_or_default();
    let expressions = match_expressions.into_iter().flatten().map(|it| expression(it, &field("pods")));
    Ok(AllocationPods {
        allocation: allocation.name.as_str().into(),
        namespaces: selected,
        labels: match_labels.unwrap_or_default(),
        expressions: expressions.collect::<Result<_, _>>()?,
    })
}

fn expression(requirement: LabelSelectorRequirement, field: &str) -> Result<LabelExpression, Refusal> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let operator = match operator.as_str() {
        "In" => LabelOperator::In,
        "NotIn" => LabelOperator::NotIn,
        "Exists" => LabelOperator::Exists,
        "DoesNotExist" => LabelOperator::DoesNotExist,
        other => {
            let message = format!("{other} is no operator; write In, NotIn, Exists or DoesNotExist");
            return Err(invalid(&[Problem::new(field, message)]));
        }
    };
    Ok(LabelExpression { key, operator, values: values.into_iter().flatten().collect() })
}
