//! Schemas of Kubernetes' own types with bounds on every string, list and map, as its own
//! controllers generate them; k8s-openapi's have none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::problem::Problem;

/// Message of the rule on a selector's expression.
const EXPRESSION_VALUES: &str =
    "In and NotIn need values, Exists and DoesNotExist have none; add or remove values";

/// A moment, RFC 3339.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// A list of `metav1.Condition`.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "items": condition(generator)})
}

/// `metav1.Condition`, with the bounds of its Go markers.
fn condition(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "One aspect of the state.",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {
                "type": "string", "minLength": 1, "maxLength": 316,
                "description": "Name of the condition. Example: `Ready`.",
            },
            "status": {
                "type": "string", "enum": ["True", "False", "Unknown"],
                "description": "Whether it holds. Example: `True`.",
            },
            "observedGeneration": {
                "type": "integer", "format": "int64", "minimum": 0,
                "maximum": 9_007_199_254_740_991_i64,
                "description": "The generation of the spec that it is about. Example: `3`.",
            },
            "lastTransitionTime": {
                "type": "string", "format": "date-time", "maxLength": 64,
                "description": "When `status` last changed. Example: `2026-11-03T14:03:10Z`.",
            },
            "reason": {
                "type": "string", "minLength": 1, "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                "description": "Why, as one word. Example: `ProviderPaused`.",
            },
            "message": {
                "type": "string", "maxLength": 32768,
                "description": "Why, as a whole sentence.",
            },
        },
    })
}

/// `metav1.LabelSelector`.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object", "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
                "description": "Labels and their values, all of which must match. Default: none. \
                    Example: `{team: gtm}`.",
            },
            "matchExpressions": {
                "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
                "description": "Conditions on labels, all of which must hold. Default: none.",
                "items": {
                    "type": "object", "required": ["key", "operator"],
                    "description": "A condition on one label.",
                    "properties": {
                        "key": {
                            "type": "string", "minLength": 1, "maxLength": 317,
                            "description": "The label. Example: `team`.",
                        },
                        "operator": {
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                            "description": "How it is compared. Example: `In`.",
                        },
                        "values": {
                            "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                            "description": "The values of `In` and `NotIn`. Default: none. \
                                Example: `[gtm, sales]`.",
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator == 'In' || self.operator == 'NotIn') == \
                            (has(self.values) && self.values.size() > 0)",
                        "message": EXPRESSION_VALUES,
                        "reason": "FieldValueInvalid",
                        "fieldPath": ".values",
                    }],
                },
            },
        },
    })
}

/// The same rule as in [`label_selector`].
pub(crate) fn selector_problems(selector: &LabelSelector, at: &str) -> Vec<Problem> {
    let expressions = selector.match_expressions.iter().flatten().enumerate();
    expressions
        .filter(|(_, expression)| {
            let needed = matches!(expression.operator.as_str(), "In" | "NotIn");
            let given = expression.values.as_ref().is_some_and(|values| !values.is_empty());
            needed != given
        })
        .map(|(index, _)| Problem::new(format!("{at}.matchExpressions[{index}].values"), EXPRESSION_VALUES))
        .collect()
}
