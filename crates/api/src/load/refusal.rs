//! What is wrong with files, and where.

use std::fmt;

use crate::problem::Problem;

/// Where in the files something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as it was given.
    pub file: String,
    /// Which document of the file, from 1; none where it has only one.
    pub document: Option<usize>,
    /// The line, from 1, where known: the mistake's, or the one at which the document starts.
    pub line: Option<usize>,
}

impl Place {
    /// A file as a whole.
    pub(super) fn file(name: &str) -> Self {
        Self { file: name.to_owned(), document: None, line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.document, self.line) {
            (Some(document), Some(line)) => write!(f, " (document {document}, from line {line})"),
            (Some(document), None) => write!(f, " (document {document})"),
            (None, Some(line)) => write!(f, " (line {line})"),
            (None, None) => Ok(()),
        }
    }
}

/// One mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// All mistakes; printed, one sentence a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The mistakes, in the order of the files.
    pub refusals: Vec<Refusal>,
}

impl Refused {
    pub(super) fn push(&mut self, place: &Place, problem: Problem) {
        self.refusals.push(Refusal { place: place.clone(), problem });
    }

    pub fn extend(&mut self, place: &Place, problems: Vec<Problem>) {
        for problem in problems {
            self.push(place, problem);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.refusals.is_empty()
    }

    /// `value`, where nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.refusals.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{refusal}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}
