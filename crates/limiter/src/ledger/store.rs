//! The seam between the ledger and its storage: bytes by key, stored in atomic batches.
//!
//! A store knows neither records nor clocks. To add one, implement [`RecordStore`] and name it in
//! `conformance.rs`, whose tests every store has to pass.

use std::collections::BTreeMap;
use std::error::Error;

/// Stored values, by key.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// Storage of a ledger. One process uses it at a time.
pub trait RecordStore: Send + 'static {
    /// Returns all records, by the accounts' keys.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load(&mut self) -> Result<Entries, StoreError>;

    /// Stores a batch as a whole. When this returns, the batch outlives a crash of the process and of
    /// the machine.
    ///
    /// # Errors
    /// [`StoreError`]. Nothing of the batch counts as stored then, and a later commit may succeed: the
    /// store recovers by itself when its disk does.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Returns an entry about the ledger as a whole. These have keys of their own: none is the key of an account.
    ///
    /// # Errors
    /// [`StoreError`].
    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Changes that are stored together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Remove all records before the new ones are stored.
    pub clear: bool,
    /// Records that are new or replace those of the same keys.
    pub records: Entries,
    /// Entries about the ledger as a whole that are new or replace those of the same keys.
    pub meta: Entries,
}

/// The storage can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be opened, read or written, now.
    #[error("can't be opened, read or written: {0}; is its disk full, or another limiter using it?")]
    Unavailable(Box<dyn Error + Send + Sync>),
    /// It holds something else, or is damaged.
    #[error("is no ledger of quotakeeper ({0}); choose another file or delete it")]
    Damaged(Box<dyn Error + Send + Sync>),
}

impl RecordStore for Box<dyn RecordStore> {
    fn load(&mut self) -> Result<Entries, StoreError> {
        (**self).load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        (**self).commit(batch)
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).meta(key)
    }
}
