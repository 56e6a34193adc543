//! The only room that knows a YAML library.
//!
//! Reads documents into JSON values, as an API server does, and writes CRDs.

mod bounds;

use serde::Deserialize;
use serde_json::Value;

/// Text that is not YAML or costs too much, or a value that YAML can't hold.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It breaks YAML's rules.
    #[error("is not YAML: {message}; check indentation, quotes and brackets there")]
    Syntax {
        /// What is wrong, in the library's words.
        message: String,
        /// The line in the text, from 1, where known.
        line: Option<usize>,
    },
    /// It is YAML of which no quota has so much.
    #[error("{message}")]
    TooMuch {
        /// A sentence with the bound and the remedy.
        message: String,
        /// The line in the text, from 1, where known.
        line: Option<usize>,
    },
}

impl Error {
    /// The line in the text, from 1, where known.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. } | Self::TooMuch { line, .. } => *line,
        }
    }

    /// The same of a document that starts at line `start` of its file.
    fn in_file(mut self, start: usize) -> Self {
        let (Self::Syntax { line, .. } | Self::TooMuch { line, .. }) = &mut self;
        *line = Some(line.map_or(start, |inner| start + inner - 1));
        self
    }
}

impl From<serde_yaml::Error> for Error {
    fn from(error: serde_yaml::Error) -> Self {
        let line = error.location().map(|at| at.line());
        let message = error.to_string();
        // The place is reported separately, relative to the file.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Self::Syntax { message, line }
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
/// The first document that is not YAML, costs too much, or has a key twice or one that is not a text.
pub fn read(text: &str) -> Result<Vec<Document>, Error> {
    bounds::before_parsing(text)?;
    let mut documents = Vec::new();
    // Windows' editors begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, part) in split(text) {
        let value = parse(&part).map_err(|error| with_tab(error, &part).in_file(line))?;
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
    bounds::before_keeping(text)?;
    let mut value = serde_yaml::Value::deserialize(serde_yaml::Deserializer::from_str(text))?;
    value.apply_merge()?;
    serde_json::to_value(value).map_err(|error| Error::Syntax { message: error.to_string(), line: None })
}

/// The error with a tab in the indentation named, which the library does not.
fn with_tab(error: Error, text: &str) -> Error {
    let indented = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    match (error, text.lines().position(indented)) {
        (Error::Syntax { .. }, Some(at)) => Error::Syntax {
            message: "a tab stands in the indentation, where YAML allows spaces only".to_owned(),
            line: Some(at + 1),
        },
        (error, _) => error,
    }
}

/// The documents of a stream and the lines at which they start. The markers `---` and `...` at a line's start are
/// ones wherever they stand (YAML 1.2.2, 9.1.2), so that no parser is needed to find them.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    // Before a document's content there may be directives (`%YAML 1.2`), which belong to it (9.1.1).
    let (mut before, mut directives) = (true, false);
    for (index, line) in text.lines().enumerate() {
        let begins = marked(line, "---");
        if let Some(rest) = begins.filter(|_| !directives) {
            // What stands behind a marker belongs to its document.
            parts.push((index + 1, format!("   {rest}\n")));
            before = false;
        } else if let Some(rest) = marked(line, "...") {
            parts.push((index + 1, format!("   {rest}\n")));
            (before, directives) = (true, false);
        } else if let Some((_, part)) = parts.last_mut() {
            // The parser finds the marker that ends directives by itself.
            directives = begins.is_none() && before && (directives || line.starts_with('%'));
            before &= begins.is_none() && (line.trim().is_empty() || line.starts_with(['%', '#']));
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

/// What stands behind a marker at a line's start.
fn marked<'l>(line: &'l str, marker: &str) -> Option<&'l str> {
    line.strip_prefix(marker).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
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
    fn directives_and_ends_of_documents_are_read_as_a_parser_reads_them() {
        let first = json!({"a": 1});
        for text in [
            "%YAML 1.2\n---\na: 1\n",
            "# made by a program\n%YAML 1.1\n%TAG ! tag:example.com,2026:\n\n--- # first\na: 1\n...\n",
            "a: 1\n...\n",
            "---\na: 1\n... # the end\n",
            "\u{feff}%YAML 1.2\n---\na: 1\n",
        ] {
            let values: Vec<Value> = read(text).unwrap().into_iter().map(|document| document.value).collect();
            assert_eq!(values, std::slice::from_ref(&first), "{text}");
        }
        let two = read("%YAML 1.2\n---\na: 1\n...\n# next\n%YAML 1.2\n---\nb: 2\nc: \"\n  %\"\n---\nd: 3\n")
            .unwrap();
        let lines: Vec<usize> = two.iter().map(|document| document.line).collect();
        assert_eq!((lines, &two[2].value), (vec![1, 4, 11], &json!({"d": 3})));
        let text = "text: |\n  %no directive\n  ...\n  ---\n";
        assert_eq!(read(text).unwrap()[0].value, json!({"text": "%no directive\n...\n---\n"}));
        let mistake = read("%YAML 1.2\n---\na: 1\n...\n%YAML 1.2\n---\nb: [x\n").unwrap_err();
        assert!(mistake.line().is_some_and(|line| (7..=8).contains(&line)), "{mistake:?}");
    }

    #[test]
    fn a_file_may_begin_with_a_byte_order_mark() {
        assert_eq!(read("\u{feff}a: 1\r\n").unwrap()[0].value, json!({"a": 1}));
        let mistake = read("a: 1\n---\n\u{feff}b: [\n").unwrap_err();
        assert!(matches!(mistake, Error::Syntax { .. }), "{mistake:?}");
    }

    #[test]
    fn what_nests_without_end_is_refused_before_it_is_parsed() {
        for opening in ["[", "{a: ", "[x: "] {
            let said = read(&opening.repeat(60_000)).unwrap_err().to_string();
            assert_eq!(said, "has more than 10000 brackets; split it", "{opening}");
        }
        for opening in ["[", "{a: ", "- ", "? "] {
            let said = read(&format!("a: 1\n---\n{}", opening.repeat(9_000))).unwrap_err();
            assert!(said.to_string().starts_with("is nested deeper than 64; "), "{opening}: {said}");
            assert_eq!(said.line(), Some(3), "{opening}");
        }
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&deep(64)).is_ok());
        assert!(matches!(read(&deep(66)), Err(Error::TooMuch { .. })));
    }

    #[test]
    fn aliases_that_unfold_to_too_much_are_refused() {
        let wide = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(20_000), "*a, ".repeat(20_000));
        let mut laughs = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..40 {
            laughs += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        for bomb in [wide, laughs] {
            let said = read(&bomb).unwrap_err().to_string();
            assert!(said.starts_with("unfolds to more than 100000 values; write out"), "{said}");
        }
    }

    #[test]
    fn values_with_tags_and_of_every_type_are_read() {
        let value =
            read("[1, -1, 1.5, true, ~, x, '', !!str 1, 18446744073709551615]\n").unwrap().remove(0).value;
        assert_eq!(value, json!([1, -1, 1.5, true, null, "x", "", "1", 18446744073709551615_u64]));
        assert_eq!(read("a: !own {b: 1}\n").unwrap()[0].value, json!({"a": {"!own": {"b": 1}}}));
    }

    #[test]
    fn a_mistake_is_told_with_its_line_in_the_file() {
        let error = read("a: 1\n---\nb: 2\nc: [x\n").unwrap_err();
        assert!(error.line().is_some_and(|line| (4..=5).contains(&line)), "{error:?}");
        let twice = read("a: 1\n---\nb: 2\nb: 3\n").unwrap_err();
        assert!(twice.to_string().contains("duplicate"), "{twice}");
    }

    #[test]
    fn anchors_and_merges_work_as_with_kubectl() {
        let text = "base: &base {x: 1}\nmore: {<<: *base, y: 2}\n";
        assert_eq!(read(text).unwrap()[0].value["more"], json!({"x": 1, "y": 2}));
    }
}
