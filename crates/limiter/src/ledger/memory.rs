//! A store in memory. It outlives its user, not the process: for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::store::{Batch, Entries, RecordStore, StoreError};

/// A store in memory. Clones share what is stored, as processes that open a file one after the other do.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    records: Entries,
    meta: Entries,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordStore for MemoryStore {
    fn load(&mut self) -> Result<Entries, StoreError> {
        Ok(self.tables().records.clone())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if batch.clear {
            tables.records.clear();
        }
        tables.records.extend(batch.records.clone());
        tables.meta.extend(batch.meta.clone());
        Ok(())
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables().meta.get(key).cloned())
    }
}
