//! What is wrong with a document: one sentence for each mistake, with its field and the remedy.

use std::fmt;

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, from the document's root: `spec.limits[0].amount`. Empty: the document itself.
    pub field: String,
    /// What is wrong and what to write instead, without the field and without a full stop.
    pub message: String,
}

impl Problem {
    /// A mistake at `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

/// The name of `known` that was probably meant by `asked`, as ` (did you mean …?)`; else nothing.
pub fn did_you_mean<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let asked = asked.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&asked, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let fields = ["windowSeconds", "countedAs", "amount"];
        assert_eq!(did_you_mean("windowSecs", fields), " (did you mean `windowSeconds`?)");
        assert_eq!(did_you_mean("Amount", fields), " (did you mean `amount`?)");
        assert_eq!(did_you_mean("zzz", fields), "");
    }
}
