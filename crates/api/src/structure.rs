//! Whether a document has the structure that its CRD's schema asks for, in sentences.
//!
//! A general schema validator says "additional properties are not allowed"; a person who wrote
//! `windowSecs` wants to read which field was meant. This walks the vocabulary that a Kubernetes
//! schema can have. Patterns come apart, and last: mostly a rule of the quota or the profile says
//! better what a text should look like.

use std::sync::LazyLock;

use jiff::Timestamp;
use quotakeeper_dialects::did_you_mean;
use regex::Regex;
use serde_json::{Map, Value};

use crate::problem::Problem;

/// The mistakes of `value`, which is found at the field `at`, against `schema`, but for patterns.
pub fn problems(value: &Value, schema: &Value, at: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(value, schema, at, &mut |value, schema, at| check(value, schema, at, &mut problems));
    problems
}

/// The texts of `value` that don't have the pattern that `schema` asks for.
pub fn misshapen(value: &Value, schema: &Value, at: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(value, schema, at, &mut |value, schema, at| {
        let pattern = schema["pattern"].as_str().and_then(|pattern| Regex::new(pattern).ok());
        if let (Some(pattern), Some(text)) = (pattern, value.as_str())
            && !pattern.is_match(text)
        {
            let message = format!("`{text}` doesn't have the form {pattern}{}", example(schema));
            problems.push(Problem::new(at, message));
        }
        true
    });
    problems
}

/// Visits a value and, where the visitor says so, what is inside, each with its schema and field.
fn walk(value: &Value, schema: &Value, at: &str, visit: &mut dyn FnMut(&Value, &Value, &str) -> bool) {
    if !visit(value, schema, at) {
        return;
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        walk(item, &schema["items"], &format!("{at}[{index}]"), visit);
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let schema = match &schema["properties"][name] {
            Value::Null => &schema["additionalProperties"],
            known => known,
        };
        walk(field, schema, &inside(at, name), visit);
    }
}

fn inside(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// Adds what is wrong with a value itself; whether it makes sense to look into it.
fn check(value: &Value, schema: &Value, at: &str, problems: &mut Vec<Problem>) -> bool {
    if let Some(message) = wrong_type(value, schema) {
        problems.push(Problem::new(at, message));
        return false;
    }
    let message = match value {
        Value::String(text) => wrong_text(text, schema),
        Value::Number(_) => wrong_number(value, schema),
        Value::Array(items) => wrong_size(items.len(), schema, ["minItems", "maxItems"], "items"),
        Value::Object(fields) => {
            wrong_size(fields.len(), schema, ["minProperties", "maxProperties"], "entries")
        }
        Value::Bool(_) | Value::Null => None,
    };
    problems.extend(message.map(|message| Problem::new(at, message)));
    match value {
        Value::Array(items) => check_keys(items, schema, at, problems),
        Value::Object(fields) => check_names(fields, schema, at, problems),
        _ => {}
    }
    true
}

fn wrong_type(value: &Value, schema: &Value) -> Option<String> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_i64() || value.is_string();
        return (!fits).then(|| format!("must be a whole number or a text{}", example(schema)));
    }
    let (fits, wanted) = match schema["type"].as_str()? {
        "object" => (value.is_object(), "a group of fields"),
        "array" => (value.is_array(), "a list"),
        "string" => (value.is_string(), "a text"),
        "boolean" => (value.is_boolean(), "true or false"),
        "integer" => (value.is_i64(), "a whole number"),
        "number" => (value.is_number(), "a number"),
        _ => return None,
    };
    if fits {
        return None;
    }
    let remedy = match value {
        Value::Number(_) | Value::Bool(_) if wanted == "a text" => format!("; write \"{value}\""),
        _ => example(schema),
    };
    Some(format!("must be {wanted}, not {}{remedy}", name_of(value)))
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of fields",
    }
}

fn wrong_text(text: &str, schema: &Value) -> Option<String> {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return (!values.contains(&text)).then(|| {
            let hint = did_you_mean(text, values.iter().copied());
            format!("`{text}` is unknown{hint}; use one of: {}", values.join(", "))
        });
    }
    let size = wrong_size(text.chars().count(), schema, ["minLength", "maxLength"], "characters");
    size.or_else(|| {
        let wrong = schema["format"] == "date-time" && !is_time(text);
        wrong.then(|| format!("`{text}` is no time{}", example(schema)))
    })
}

/// Whether a text is a time with seconds and an offset (RFC 3339), as API servers read it.
fn is_time(text: &str) -> bool {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:[0-5]\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$").ok()
    });
    let has_form = FORM.as_ref().is_none_or(|form| form.is_match(text));
    has_form && text.parse::<Timestamp>().is_ok()
}

fn wrong_size(size: usize, schema: &Value, keys: [&str; 2], what: &str) -> Option<String> {
    let bound = |key: &str| schema[key].as_u64().and_then(|bound| usize::try_from(bound).ok());
    let [least, most] = keys.map(bound);
    if let Some(most) = most.filter(|most| size > *most) {
        return Some(format!("has {size} {what}; write at most {most}"));
    }
    least.filter(|least| size < *least).map(|least| match (size, least) {
        (0, 1) => format!("is empty; fill it in or remove the field{}", example(schema)),
        _ => format!("has {size} {what}; write at least {least}"),
    })
}

fn wrong_number(value: &Value, schema: &Value) -> Option<String> {
    let number = value.as_i64()?;
    let [least, most] = [schema["minimum"].as_i64(), schema["maximum"].as_i64()];
    let fits = least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
    if fits {
        return None;
    }
    Some(match (least, most) {
        (Some(least), Some(most)) => format!("is {number}; write a number from {least} to {most}"),
        (Some(least), None) => format!("is {number}; write at least {least}"),
        _ => format!("is {number}; write at most {}", most.unwrap_or_default()),
    })
}

/// Items of a list-map have different keys. Like the API server, names the second item.
fn check_keys(items: &[Value], schema: &Value, at: &str, problems: &mut Vec<Problem>) {
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    for key in keys.filter_map(Value::as_str) {
        for (index, item) in items.iter().enumerate() {
            let twice = items[..index].iter().any(|other| other.get(key) == item.get(key));
            if let Some(name) = item.get(key).filter(|_| twice) {
                let field = format!("{at}[{index}]");
                problems.push(Problem::new(field, format!("{name} is used twice; rename one")));
            }
        }
    }
}

/// Required fields are there, and no unknown ones.
fn check_names(fields: &Map<String, Value>, schema: &Value, at: &str, problems: &mut Vec<Problem>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            let hint = example(&schema["properties"][name]);
            problems.push(Problem::new(inside(at, name), format!("is required; add it{hint}")));
        }
    }
    let Some(known) = schema["properties"].as_object().filter(|_| schema["additionalProperties"].is_null())
    else {
        return;
    };
    for name in fields.keys().filter(|name| !known.contains_key(*name)) {
        let hint = did_you_mean(name, known.keys().map(String::as_str));
        let names = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("is unknown{hint}; remove it, or use one of: {names}");
        problems.push(Problem::new(inside(at, name), message));
    }
}

/// The example that a field's description ends with, as the end of a sentence.
fn example(schema: &Value) -> String {
    let example = schema["description"].as_str().and_then(|text| {
        let (_, rest) = text.split_once("Example: `")?;
        rest.split_once('`')
    });
    example.map(|(example, _)| format!(", for example {example}")).unwrap_or_default()
}
