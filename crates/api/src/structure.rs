//! Whether a document has the structure that its CRD's schema asks for, said in sentences.
//!
//! A general schema validator says "additional properties are not allowed"; a person who wrote
//! `windowSecs` wants to read which field was meant. This walks the vocabulary that a Kubernetes
//! schema can have. Patterns are left to those who know what they mean, and can say it: the rules
//! of the quota and of the profile.

use serde_json::{Map, Value};

use crate::problem::{Problem, did_you_mean};

/// The mistakes of `value`, which is found at the field `at`, against `schema`.
pub fn problems(value: &Value, schema: &Value, at: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    check(value, schema, at, &mut problems);
    problems
}

fn check(value: &Value, schema: &Value, at: &str, problems: &mut Vec<Problem>) {
    let before = problems.len();
    if let Some(message) = wrong_type(value, schema) {
        problems.push(Problem::new(at, message));
        return;
    }
    let message = match value {
        Value::String(text) => wrong_text(text, schema),
        Value::Number(_) => wrong_number(value, schema),
        Value::Array(items) => {
            check_list(items, schema, at, problems);
            wrong_size(items.len(), schema, ["minItems", "maxItems"], "items")
        }
        Value::Object(fields) => {
            check_fields(fields, schema, at, problems);
            wrong_size(fields.len(), schema, ["minProperties", "maxProperties"], "entries")
        }
        Value::Bool(_) | Value::Null => None,
    };
    if let Some(message) = message {
        problems.insert(before, Problem::new(at, message));
    }
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
    wrong_size(text.chars().count(), schema, ["minLength", "maxLength"], "characters")
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

fn check_list(items: &[Value], schema: &Value, at: &str, problems: &mut Vec<Problem>) {
    for (index, item) in items.iter().enumerate() {
        check(item, &schema["items"], &format!("{at}[{index}]"), problems);
    }
    for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
        let Some(key) = key.as_str() else { continue };
        let name = |item: &Value| item.get(key).cloned();
        for (index, item) in items.iter().enumerate() {
            let twice = items[..index].iter().any(|other| name(other) == name(item));
            if let Some(name) = name(item).filter(|_| twice) {
                let field = format!("{at}[{index}].{key}");
                problems.push(Problem::new(field, format!("{name} is used twice; rename one")));
            }
        }
    }
}

fn check_fields(fields: &Map<String, Value>, schema: &Value, at: &str, problems: &mut Vec<Problem>) {
    let inside = |key: &str| match at {
        "" => key.to_owned(),
        _ => format!("{at}.{key}"),
    };
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(key) {
            let hint = example(&schema["properties"][key]);
            problems.push(Problem::new(inside(key), format!("is required; add it{hint}")));
        }
    }
    let known = schema["properties"].as_object();
    for (key, value) in fields {
        if let Some(schema) = known.and_then(|known| known.get(key)) {
            check(value, schema, &inside(key), problems);
        } else if schema["additionalProperties"].is_object() {
            check(value, &schema["additionalProperties"], &inside(key), problems);
        } else if let Some(known) = known {
            let names = || known.keys().map(String::as_str);
            let hint = did_you_mean(key, names());
            let names = names().collect::<Vec<_>>().join(", ");
            let message = format!("is unknown{hint}; remove it, or use one of: {names}");
            problems.push(Problem::new(inside(key), message));
        }
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
