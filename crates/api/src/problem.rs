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
