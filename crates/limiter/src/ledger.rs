//! The ledger: what was charged, stored before it is granted.
//!
//! One record for each account, replaced by group commits on a thread of their own, because a commit
//! waits for the disk. A record says what was charged as of a time and how much of each limit might be
//! granted beyond it; after a crash the engine holds those as granted. It is of use only while the
//! clock that its times were read from goes on: after a reboot the clock's domain is another, and the
//! account begins as after a takeover.
//!
//! | module | holds |
//! |---|---|
//! | [`store`] | what a store has to do |
//! | [`redb`] | the store in a file |
//! | [`damage`] | a file that can't be read is set aside |
//! | [`per_account`] | a store for each account |
//! | [`memory`] | the store for tests |
//! | `conformance` | the tests that every store passes |

#[cfg(test)]
mod conformance;
pub mod damage;
pub mod memory;
pub mod per_account;
pub mod redb;
pub mod store;

use std::path::Path;

use quotakeeper_limiter_core::{DueRecord, Handover, LostGrants, Record, Recovered};
use quotakeeper_wire::message::Epoch;
use quotakeeper_wire::name::AccountKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::redb::RedbStore;
use self::store::{Batch, Entries, RecordStore, StoreError};
use crate::clock::{ClockDomain, ClockDomainError};

/// The layout of records. A record of another layout is not read: the account begins as if its
/// ledger were lost, which costs capacity and nothing else.
const LAYOUT: u32 = 15;
/// The key of the epoch of the limiter that last used the ledger.
const EPOCH: &str = "epoch";
/// The key of what was granted before the ledger began, as [`LostGrants`].
const LOST: &str = "lost";
/// The key of [`Beginning`].
const SINCE: &str = "since";

/// The limiter that began the ledger.
#[derive(Serialize, Deserialize)]
struct Beginning {
    domain: ClockDomain,
    epoch: u64,
}

/// A record as it is stored: written by reference, read as a value.
#[derive(Serialize, Deserialize)]
struct Stored<R> {
    domain: ClockDomain,
    record: R,
}

/// The ledger of a limiter: the meaning of what a store holds.
pub struct Ledger<S> {
    store: S,
    domain: ClockDomain,
}

/// The ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Its storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value has no stored form.
    #[error("a ledger record can't be encoded: {0}; please report this")]
    Encode(#[from] postcard::Error),
    /// Its store has panicked.
    #[error("the ledger's store has panicked; please report this with the limiter's log")]
    Panicked,
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockDomainError),
}

/// Opens or creates the ledger in a file.
///
/// # Errors
/// [`LedgerError`].
pub fn open(file: &Path) -> Result<Ledger<RedbStore>, LedgerError> {
    let domain = ClockDomain::current()?;
    Ok(Ledger::new(RedbStore::open(file)?, domain))
}

/// What a limiter hands over, as it travels: with the layout of its records.
///
/// # Errors
/// [`LedgerError::Encode`].
pub fn encode_handover(handover: &Handover) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = LAYOUT.to_be_bytes().to_vec();
    bytes.extend(postcard::to_stdvec(handover)?);
    Ok(bytes)
}

/// What another limiter hands over; none: its records are of another layout.
pub fn decode_handover(bytes: &[u8]) -> Option<Handover> {
    postcard::from_bytes(bytes.strip_prefix(&LAYOUT.to_be_bytes())?).ok()
}

impl<S: RecordStore> Ledger<S> {
    /// The ledger in a store. `domain`: that of the clock whose times are written and read.
    pub fn new(store: S, domain: ClockDomain) -> Ledger<S> {
        Ledger { store, domain }
    }

    /// The same ledger without the type of its store.
    pub fn boxed(self) -> Ledger<Box<dyn RecordStore>> {
        Ledger { store: Box::new(self.store), domain: self.domain }
    }

    /// The epoch of the limiter that last used the ledger.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn last_epoch(&mut self) -> Result<Option<u64>, LedgerError> {
        self.meta(EPOCH)
    }

    /// The clock that the ledger's times are of: none before it has begun.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn beginning(&mut self) -> Result<Option<ClockDomain>, LedgerError> {
        Ok(self.meta::<Beginning>(SINCE)?.map(|beginning| beginning.domain))
    }

    /// The clock whose times are written and read from now on.
    pub fn set_domain(&mut self, domain: ClockDomain) {
        self.domain = domain;
    }

    /// Begins the limiter `epoch`, durably, with what another has handed over, in place of all that is here.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn begin(&mut self, epoch: Epoch, handed_over: &Recovered) -> Result<(), LedgerError> {
        let since = handed_over.since.unwrap_or(epoch);
        let beginning = Beginning { domain: self.domain.clone(), epoch: since.0 };
        let meta = Entries::from([
            (EPOCH.to_owned(), postcard::to_stdvec(&epoch.0)?),
            (SINCE.to_owned(), postcard::to_stdvec(&beginning)?),
            (LOST.to_owned(), postcard::to_stdvec(&handed_over.lost)?),
        ]);
        // What could not be read there can't be read here.
        let mut records: Entries =
            handed_over.unreadable.iter().map(|account| (account.to_string(), Vec::new())).collect();
        for (account, record) in &handed_over.records {
            records.insert(account.to_string(), self.encode(record)?);
        }
        Ok(self.store.commit(&Batch { clear: true, meta, records })?)
    }

    /// Reads all records, to find out whether that is possible.
    fn read_all(&mut self) -> Result<(), LedgerError> {
        self.store.load()?;
        Ok(())
    }

    /// Begins the limiter `epoch`, durably, and returns what the ledger knows of the time before.
    /// Unless the ledger is `trusted`, and after a reboot, that is nothing, and the ledger begins anew: `lost` is
    /// remembered for as long as it goes on.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn resume(
        &mut self,
        epoch: Epoch,
        trusted: bool,
        lost: Option<LostGrants>,
    ) -> Result<Recovered, LedgerError> {
        let beginning: Option<Beginning> = self.meta(SINCE)?;
        let beginning = beginning.filter(|beginning| trusted && beginning.domain == self.domain);
        let mut meta = Entries::from([(EPOCH.to_owned(), postcard::to_stdvec(&epoch.0)?)]);
        if beginning.is_none() {
            let beginning = Beginning { domain: self.domain.clone(), epoch: epoch.0 };
            meta.insert(SINCE.to_owned(), postcard::to_stdvec(&beginning)?);
            meta.insert(LOST.to_owned(), postcard::to_stdvec(&lost)?);
        }
        self.store.commit(&Batch { clear: beginning.is_none(), meta, ..Batch::default() })?;

        let since = beginning.map_or(epoch, |beginning| Epoch(beginning.epoch));
        let lost = self.meta::<Option<LostGrants>>(LOST)?.flatten();
        let mut recovered = Recovered { since: Some(since), lost, ..Recovered::default() };
        for (account, bytes) in self.store.load()? {
            let account = AccountKey::from(account);
            match self.decode(&bytes) {
                Some(record) => drop(recovered.records.insert(account, record)),
                None => drop(recovered.unreadable.insert(account)),
            }
        }
        Ok(recovered)
    }

    /// Writes the records of some accounts; when this returns they outlive a crash.
    ///
    /// # Errors
    /// [`LedgerError`]; then none of them is written.
    pub fn write(&mut self, due: &[DueRecord]) -> Result<(), LedgerError> {
        let mut records = Entries::new();
        for DueRecord { account, record } in due {
            records.insert(account.to_string(), self.encode(record)?);
        }
        Ok(self.store.commit(&Batch { records, ..Batch::default() })?)
    }

    fn encode(&self, record: &Record) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = LAYOUT.to_be_bytes().to_vec();
        bytes.extend(postcard::to_stdvec(&Stored { domain: self.domain.clone(), record })?);
        Ok(bytes)
    }

    /// A record, if its layout is known and its times are of this ledger's clock.
    fn decode(&self, bytes: &[u8]) -> Option<Record> {
        let bytes = bytes.strip_prefix(&LAYOUT.to_be_bytes())?;
        let stored: Stored<Record> = postcard::from_bytes(bytes).ok()?;
        (stored.domain == self.domain).then_some(stored.record)
    }

    fn meta<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, LedgerError> {
        let stored = self.store.meta(key)?;
        Ok(stored.and_then(|stored| postcard::from_bytes(&stored).ok()))
    }
}
