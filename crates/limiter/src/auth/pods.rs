//! The pods that exist, as far as they have been seen.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The UIDs of the injected pods. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pods(Arc<RwLock<BTreeSet<String>>>);

impl Pods {
    /// Whether the pod of this UID has been seen and not been deleted.
    pub fn contains(&self, uid: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(uid)
    }

    /// A pod exists.
    pub fn insert(&self, uid: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(uid);
    }

    /// A pod has been deleted.
    pub fn remove(&self, uid: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// These exist and no others. Returns those that are gone.
    pub fn replace(&self, uids: BTreeSet<String>) -> Vec<String> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *known, uids);
        old.difference(&known).cloned().collect()
    }
}
