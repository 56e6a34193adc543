//! The only room that knows a YAML library.
//!
//! Reads documents into JSON values, as an API server does, and writes CRDs.

use serde::Deserialize;
use serde_json::Value;

/// Text that is not YAML, or a value that YAML can't hold.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong, in the library's words.
    pub message: String,
    /// The line in the text, from 1, where known.
    pub line: Option<usize>,
}

impl From<serde_yaml::Error> for Error {
    fn from(error: serde_yaml::Error) -> Self {
        let line = error.location().map(|at| at.line());
        let message = error.to_string();
        // The place is told apart, and relative to the file.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Self { message, line }
    }
}

/// One document of a file.
#[derive(Debug, PartialEq)]
pub struct Document {
    /// The line at which it starts, from 1.
    pub line: usize,
    /// Its content.
    pub value: Value,
}

/// The documents of a text, without the empty ones.
///
/// # Errors
/// The first document that is not YAML, or has a key twice or one that is not a text.
pub fn read(text: &str) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    // Windows' editors begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, part) in split(text) {
        let value = parse(&part).map_err(|mut error| {
            error.line = Some(error.line.map_or(line, |inner| line + inner - 1));
            error
        })?;
        if !value.is_null() {
            documents.push(Document { line, value });
        }
    }
    Ok(documents)
}

/// Writes a value, keys in the value's order.
///
/// # Errors
/// A value that YAML can't hold.
pub fn write(value: &Value) -> Result<String, Error> {
    Ok(serde_yaml::to_string(value)?)
}

fn parse(text: &str) -> Result<Value, Error> {
    let mut value = serde_yaml::Value::deserialize(serde_yaml::Deserializer::from_str(text))?;
    value.apply_merge()?;
    serde_json::to_value(value).map_err(|error| Error { message: error.to_string(), line: None })
}

/// The documents of a stream and the lines at which they start. A marker `---` at a line's start is
/// one wherever it stands (YAML 1.2.2, 9.1.2), so that no parser is needed to find it.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        let marker = line.strip_prefix("---");
        if let Some(rest) = marker.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
            // What stands behind a marker belongs to its document.
            parts.push((index + 1, format!("   {rest}\n")));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn each_document_knows_its_line() {
        let documents = read("# quotas\na: 1\n---\n\n---\nb: |\n  --- no marker\nc: [x]\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0], Document { line: 1, value: json!({"a": 1}) });
        let value = json!({"b": "--- no marker\n", "c": ["x"]});
        assert_eq!(documents[1], Document { line: 5, value });
    }

    #[test]
    fn a_mistake_is_told_with_its_line_in_the_file() {
        let error = read("a: 1\n---\nb: 2\nc: [x\n").unwrap_err();
        assert!(error.line.is_some_and(|line| (4..=5).contains(&line)), "{error:?}");
        let twice = read("a: 1\n---\nb: 2\nb: 3\n").unwrap_err();
        assert!(twice.message.contains("duplicate"), "{twice}");
    }

    #[test]
    fn anchors_and_merges_work_as_with_kubectl() {
        let text = "base: &base {x: 1}\nmore: {<<: *base, y: 2}\n";
        assert_eq!(read(text).unwrap()[0].value["more"], json!({"x": 1, "y": 2}));
    }
}
