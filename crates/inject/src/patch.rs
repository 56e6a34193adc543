//! Edits a pod as raw JSON, and keeps the edits as a JSON Patch (RFC 6902).
//!
//! Each step ensures something, and does nothing where that is so already: the same pod may come again, with a
//! container more, after another webhook has changed it.

pub(crate) mod annotations;
pub(crate) mod environment;
pub(crate) mod hosts;
pub(crate) mod own_cas;
pub(crate) mod resources;
pub(crate) mod sidecar;
pub(crate) mod trust;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

/// The pod has not the form of one.
#[derive(Debug, thiserror::Error)]
#[error("the pod can't be changed at {path}: {source}; correct it there")]
pub(crate) struct EditError {
    path: String,
    source: json_patch::PatchError,
}

/// A pod, and what has been done to it.
#[derive(Debug)]
pub(crate) struct Edit {
    pod: Value,
    operations: Vec<PatchOperation>,
}

impl Edit {
    pub(crate) fn new(pod: &Value) -> Self {
        Self { pod: pod.clone(), operations: Vec::new() }
    }

    /// The pod as it is now.
    pub(crate) fn pod(&self) -> &Value {
        &self.pod
    }

    /// What has been done; none: nothing.
    pub(crate) fn finish(self) -> Option<Patch> {
        (!self.operations.is_empty()).then_some(Patch(self.operations))
    }

    /// Puts a value at a path: replaces a field, or inserts an item before the one at an index.
    pub(crate) fn add(&mut self, path: &[&str], value: Value) -> Result<(), EditError> {
        let path = PointerBuf::from_tokens(path.iter().copied());
        let operation = PatchOperation::Add(AddOperation { path, value });
        json_patch::patch(&mut self.pod, std::slice::from_ref(&operation))
            .map_err(|source| EditError { path: operation.path().to_string(), source })?;
        self.operations.push(operation);
        Ok(())
    }

    /// Sets a field, and the objects above it where they are absent; nothing where it has that value.
    pub(crate) fn set(&mut self, path: &[&str], value: Value) -> Result<(), EditError> {
        if self.at(path) == Some(&value) {
            return Ok(());
        }
        for length in 1..path.len() {
            self.ensure(&path[..length], json!({}))?;
        }
        self.add(path, value)
    }

    /// Inserts an item into a list, which is made where it is absent.
    pub(crate) fn insert(&mut self, list: &[&str], at: Place, value: Value) -> Result<(), EditError> {
        for length in 1..list.len() {
            self.ensure(&list[..length], json!({}))?;
        }
        self.ensure(list, json!([]))?;
        let index = match at {
            Place::First => "0",
            Place::Last => "-",
        };
        self.add(&[list, &[index]].concat(), value)
    }

    fn ensure(&mut self, path: &[&str], value: Value) -> Result<(), EditError> {
        match self.at(path) {
            Some(found) if !found.is_null() => Ok(()),
            _ => self.add(path, value),
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        PointerBuf::from_tokens(path.iter().copied()).resolve(&self.pod).ok()
    }
}

/// Where an item is inserted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    First,
    Last,
}
