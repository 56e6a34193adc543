//! What an API server makes of a document: the CRD's schema (by `jsonschema`) and its rules (by
//! `cel`), each at its place in the document.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind as Kind;
use quotakeeper_api::crds;
use quotakeeper_api::problem::Problem;
use serde_json::Value;

/// One CRD, ready to judge.
pub struct ApiServer {
    schema: Value,
}

impl ApiServer {
    /// The judge of a CRD.
    pub fn new(crd: Value) -> Self {
        Self { schema: crds::schema(crd) }
    }

    /// Why the document can't be created, or can't replace `old`.
    pub fn problems(&self, document: &Value, old: Option<&Value>) -> Vec<Problem> {
        let (mut problems, blocking) = self.schema_problems(document);
        if !blocking {
            walk(&self.schema, document, old, "", &mut problems);
        }
        problems
    }

    /// The messages of all rules.
    pub fn rules(&self) -> Vec<String> {
        let mut messages = Vec::new();
        messages_of(&self.schema, &mut messages);
        messages
    }

    /// The schema's problems, and whether one of them keeps the rules from being asked.
    fn schema_problems(&self, document: &Value) -> (Vec<Problem>, bool) {
        let validator = jsonschema::draft4::new(&plain(self.schema.clone())).unwrap();
        let mut problems = Vec::new();
        let mut blocking = false;
        for error in validator.iter_errors(document) {
            let mut field = field_of(error.instance_path().as_str());
            if let Kind::Required { property } = error.kind() {
                field = join(&field, property.as_str().unwrap());
            }
            problems.push(Problem::new(field, format!("schema: {error}")));
            blocking |= matches!(
                error.kind(),
                Kind::Required { .. }
                    | Kind::Type { .. }
                    | Kind::Enum { .. }
                    | Kind::MaxLength { .. }
                    | Kind::MaxItems { .. }
            );
        }
        list_maps(&self.schema, document, "", &mut problems);
        (problems, blocking)
    }
}

/// Kubernetes' own words in those of JSON schema.
fn plain(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            if fields.remove("x-kubernetes-int-or-string").is_some() {
                fields.insert("type".to_owned(), serde_json::json!(["integer", "string"]));
            }
            for field in fields.values_mut() {
                *field = plain(field.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = plain(item.take())),
        _ => {}
    }
    schema
}

/// Keys of list-maps are unique: `Duplicate value` at the second item.
fn list_maps(schema: &Value, value: &Value, at: &str, problems: &mut Vec<Problem>) {
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    for key in keys.filter_map(Value::as_str) {
        let items = value.as_array().into_iter().flatten().enumerate();
        for (index, item) in items {
            let before = &value.as_array().unwrap()[..index];
            if before.iter().any(|other| other.get(key) == item.get(key)) {
                let field = format!("{at}[{index}]");
                problems.push(Problem::new(field, "schema: Duplicate value"));
            }
        }
    }
    each_child(schema, value, None, at, &mut |schema, value, _, at| {
        list_maps(schema, value, at, problems);
    });
}

fn walk(schema: &Value, value: &Value, old: Option<&Value>, at: &str, problems: &mut Vec<Problem>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap();
        // A rule about a change is not asked of what is new.
        if text.contains("oldSelf") && old.is_none() {
            continue;
        }
        if !holds(text, value, old) {
            let field = format!("{at}{}", rule["fieldPath"].as_str().unwrap_or_default());
            problems.push(Problem::new(field, rule["message"].as_str().unwrap()));
        }
    }
    each_child(schema, value, old, at, &mut |schema, value, old, at| {
        walk(schema, value, old, at, problems);
    });
}

/// A function of lists that Kubernetes adds to CEL.
fn sum(cel::extractors::This(all): cel::extractors::This<std::sync::Arc<Vec<cel::Value>>>) -> i64 {
    let number = |value: &cel::Value| if let cel::Value::Int(number) = value { *number } else { 0 };
    all.iter().map(number).sum()
}

fn holds(rule: &str, value: &Value, old: Option<&Value>) -> bool {
    let program = cel::Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let mut context = cel::Context::default();
    context.add_function("sum", sum).unwrap();
    context.add_variable("self", cel_value(value)).unwrap();
    if let Some(old) = old {
        context.add_variable("oldSelf", cel_value(old)).unwrap();
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => holds,
        other => panic!("{rule} on {value}: {other:?}"),
    }
}

/// Whole numbers are `int`, as in an API server; serde would make them `uint`.
fn cel_value(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(cel_value).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| (name.clone(), cel_value(value));
            fields.iter().map(field).collect::<HashMap<String, cel::Value>>().into()
        }
    }
}

type Visit<'v> = dyn FnMut(&Value, &Value, Option<&Value>, &str) + 'v;

fn each_child(schema: &Value, value: &Value, old: Option<&Value>, at: &str, visit: &mut Visit<'_>) {
    for (name, child) in value.as_object().into_iter().flatten() {
        let schema = match &schema["properties"][name] {
            Value::Null => &schema["additionalProperties"],
            known => known,
        };
        visit(schema, child, old.and_then(|old| old.get(name)), &join(at, name));
    }
    for (index, child) in value.as_array().into_iter().flatten().enumerate() {
        visit(&schema["items"], child, None, &format!("{at}[{index}]"));
    }
}

fn messages_of(schema: &Value, messages: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                messages.push(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|field| messages_of(field, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| messages_of(item, messages)),
        _ => {}
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// `/spec/limits/0` as `spec.limits[0]`.
fn field_of(pointer: &str) -> String {
    let mut field = String::new();
    for part in pointer.split('/').skip(1) {
        if part.parse::<usize>().is_ok() {
            field.push_str(&format!("[{part}]"));
        } else {
            field = join(&field, part);
        }
    }
    field
}
