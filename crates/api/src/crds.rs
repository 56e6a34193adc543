//! The CustomResourceDefinitions, generated from the types: `crds/*.yaml` and the schemas that
//! documents are checked against.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceValidation, JSONSchemaProps,
};
use kube::CustomResourceExt;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::generate::SchemaSettings;
use schemars::transform::{AddNullable, RecursiveTransform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::campaign::ApiCampaign;
use crate::provider::ApiProvider;
use crate::quota::ApiQuota;
use crate::quota::columns::printer_columns;
use crate::yaml;

/// The CRDs' file names in `crds/` and their YAML.
///
/// # Errors
/// Where a CRD can't be written as YAML: a defect of the types.
pub fn yaml() -> Result<Vec<(&'static str, String)>, yaml::Error> {
    Ok(vec![
        ("apiquotas.quotakeeper.dev.yaml", yaml::write(&api_quota())?),
        ("apiproviders.quotakeeper.dev.yaml", yaml::write(&api_provider())?),
    ])
}

/// The CRD of `ApiQuota`, as it is written to `crds/`.
pub fn api_quota() -> Value {
    crd::<ApiQuota>(Some(printer_columns()))
}

/// The CRD of `ApiProvider`, as it is written to `crds/`.
pub fn api_provider() -> Value {
    crd::<ApiProvider>(None)
}

/// The same of `ApiCampaign`, which no cluster knows: its schema checks files.
pub fn api_campaign() -> Value {
    crd::<ApiCampaign>(None)
}

/// The CRD of a type, with these columns instead of those that its own attributes name.
fn crd<T: CustomResourceExt + JsonSchema>(columns: Option<Vec<CustomResourceColumnDefinition>>) -> Value {
    let mut crd = T::crd();
    for version in &mut crd.spec.versions {
        if columns.is_some() {
            version.additional_printer_columns = columns.clone();
        }
        version.schema = Some(CustomResourceValidation { open_api_v3_schema: openapi::<T>() });
    }
    serde_json::to_value(crd).map(normal).unwrap_or_default()
}

/// The schema as kube generates it, except that an optional field of an enumeration keeps what it
/// says of itself: kube puts the type's description in its place.
fn openapi<T: JsonSchema>() -> Option<JSONSchemaProps> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(RecursiveTransform(keep_description))
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let schema = serde_json::to_value(generator.into_root_schema_for::<T>());
    schema.and_then(serde_json::from_value).ok()
}

/// Of a field that is one of two (its type, or null), the field's own description.
fn keep_description(schema: &mut Schema) {
    let described = schema.get("description").is_some();
    let types = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    for one in types.into_iter().flatten().filter_map(Value::as_object_mut) {
        if described {
            one.remove("description");
        }
    }
}

/// The schema of a CRD's only version.
pub fn schema(mut crd: Value) -> Value {
    crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").map(Value::take).unwrap_or_default()
}

/// What the generator writes and an API server would rather not read.
///
/// * `nullable`: the API server drops a null of a field that is not nullable, so that null means
///   absent; of a nullable field it keeps the null, and a rule's `has()` then holds.
/// * formats that Kubernetes does not know (`uint32`).
/// * bounds as floating-point numbers (`1.0`).
/// * descriptions wrapped as in the source, which `kubectl explain` would wrap a second time.
fn normal(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            match fields.get("format").and_then(Value::as_str) {
                Some("uint8" | "uint16" | "uint32" | "int8" | "int16") => {
                    fields.insert("format".to_owned(), "int32".into());
                }
                Some("uint64" | "uint") => {
                    fields.insert("format".to_owned(), "int64".into());
                }
                _ => {}
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = unwrapped(text);
            }
            for field in fields.values_mut() {
                *field = normal(field.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = normal(item.take());
            }
        }
        Value::Number(number) => {
            // Bounds are below 2^53, where a floating-point number is exact.
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 9_007_199_254_740_992.0
            {
                *number = serde_json::Number::from(float as i64);
            }
        }
        _ => {}
    }
    value
}

/// The text with a line for each line that says something of its own: what a field is, its
/// default, its example.
fn unwrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let own = line.is_empty() || ["Default:", "Example:"].iter().any(|word| line.starts_with(word));
        match lines.last_mut() {
            Some(last) if !own && !last.is_empty() => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}
