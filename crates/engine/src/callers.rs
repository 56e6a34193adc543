//! Whose calls a pause holds: all, or those of a workload or of a credential.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{Fingerprint, Scope};
use crate::name::Consumer;

/// Whose calls of a scope a pause holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Callers {
    /// Everyone's.
    #[default]
    All,
    /// Those of one workload.
    Workload(Consumer),
    /// Those that carry one credential.
    Credential(Fingerprint),
}

impl Callers {
    /// Whether they are everyone's.
    pub fn is_all(&self) -> bool {
        *self == Callers::All
    }

    /// Whether a call is one of theirs.
    pub(crate) fn cover(&self, caller: Caller<'_>) -> bool {
        match self {
            Callers::All => true,
            Callers::Workload(consumer) => *consumer == *caller.consumer,
            Callers::Credential(credential) => *credential == caller.credential,
        }
    }
}

/// For people, behind a scope: nothing for everyone's, ` of workload gtm/Job/enrich`, ` with one of the credentials`.
impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Callers::All => Ok(()),
            Callers::Workload(consumer) => write!(f, " of workload {consumer}"),
            Callers::Credential(_) => f.write_str(" with one of the credentials"),
        }
    }
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) credential: Fingerprint,
}

/// Which calls a pause holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PauseKey {
    pub(crate) scope: Scope,
    pub(crate) callers: Callers,
}

impl PauseKey {
    /// Everyone's calls of a scope.
    pub(crate) fn all(scope: &Scope) -> PauseKey {
        PauseKey { scope: scope.clone(), callers: Callers::All }
    }
}
