//! The ledger: what was charged, on disk before it is needed.
//!
//! One record for each account, replaced by group commits of a thread of its own, because a commit
//! waits for the disk. A record says what was charged as of a time and how much of each limit might be
//! granted beyond it; after a crash the engine holds those as granted. It is of use only while the
//! clock that its times were read from goes on: after a reboot the machine's boot id is another,
//! and the account begins as after a takeover.

mod resume;

use std::io;
use std::path::{Path, PathBuf};

use quotakeeper_limiter_core::{DueRecord, Record};
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// The layout of records. A record of another layout is not read: the account begins as if its
/// ledger were lost, which costs capacity and nothing else.
const LAYOUT: u32 = 3;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A record as it is stored: written by reference, read as a value.
#[derive(Serialize, Deserialize)]
struct Stored<R> {
    boot: String,
    record: R,
}

/// The ledger of this limiter.
pub struct Ledger {
    file: PathBuf,
    /// None after a failed write: the database refuses everything from then on and has to be opened anew.
    database: Option<Database>,
    boot: String,
}

/// The ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file.
    #[error("can't be opened, read or written: {0}; is its disk full, or another limiter using it?")]
    Storage(Box<redb::Error>),
    /// The file is something else, or damaged.
    #[error("is no ledger of quotakeeper ({0}); choose another file or delete it")]
    NotALedger(Box<redb::Error>),
    /// A record.
    #[error("a ledger record can't be written: {0}")]
    Record(#[from] postcard::Error),
    /// Which boot of the machine this is.
    #[error("{BOOT_ID} can't be read: {0}; without it the ledger's times have no meaning")]
    BootId(io::Error),
}

/// redb has an error type for each step; what matters here is that the ledger failed.
fn storage<T, E: Into<redb::Error>>(result: Result<T, E>) -> Result<T, LedgerError> {
    result.map_err(|error| {
        let error = Box::new(error.into());
        if is_foreign(&error) { LedgerError::NotALedger(error) } else { LedgerError::Storage(error) }
    })
}

fn is_foreign(error: &redb::Error) -> bool {
    use redb::Error::{Corrupted, Io, RepairAborted, TableTypeMismatch, UpgradeRequired};
    match error {
        Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        Corrupted(_) | RepairAborted | TableTypeMismatch { .. } | UpgradeRequired(_) => true,
        _ => false,
    }
}

impl Ledger {
    /// Opens or creates the ledger in a file.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(file: &Path) -> Result<Ledger, LedgerError> {
        let boot = std::fs::read_to_string(BOOT_ID).map_err(LedgerError::BootId)?.trim().to_owned();
        Ledger::of_boot(file, boot)
    }

    fn of_boot(file: &Path, boot: String) -> Result<Ledger, LedgerError> {
        let mut ledger = Ledger { file: file.to_owned(), database: None, boot };
        let tables = storage(ledger.database()?.begin_write())?;
        storage(tables.open_table(ACCOUNTS))?;
        storage(tables.open_table(META))?;
        storage(tables.commit())?;
        Ok(ledger)
    }

    fn database(&mut self) -> Result<&Database, LedgerError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => storage(Database::create(&self.file))?,
        };
        Ok(self.database.insert(database))
    }

    /// The record of an account, if there is one that this process can rely on.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn read(&mut self, account: &str) -> Result<Option<Record>, LedgerError> {
        let accounts = storage(storage(self.database()?.begin_read())?.open_table(ACCOUNTS))?;
        let Some(stored) = storage(accounts.get(account))? else { return Ok(None) };
        let Some((layout, bytes)) = stored.value().split_at_checked(size_of::<u32>()) else {
            return Ok(None);
        };
        if layout != LAYOUT.to_be_bytes() {
            return Ok(None);
        }
        let stored: Option<Stored<Record>> = postcard::from_bytes(bytes).ok();
        Ok(stored.filter(|stored| stored.boot == self.boot).map(|stored| stored.record))
    }

    /// Writes the records of some accounts; when this returns they outlive a crash.
    ///
    /// # Errors
    /// [`LedgerError`]; then none of them is written.
    pub fn write(&mut self, records: &[DueRecord]) -> Result<(), LedgerError> {
        let written = self.write_all(records);
        if written.is_err() {
            self.database = None;
        }
        written
    }

    fn write_all(&mut self, records: &[DueRecord]) -> Result<(), LedgerError> {
        let boot = self.boot.clone();
        let write = storage(self.database()?.begin_write())?;
        {
            let mut accounts = storage(write.open_table(ACCOUNTS))?;
            for DueRecord { account, record } in records {
                let mut bytes = LAYOUT.to_be_bytes().to_vec();
                bytes.extend(postcard::to_stdvec(&Stored { boot: boot.clone(), record })?);
                storage(accounts.insert(account.as_str(), bytes.as_slice()))?;
            }
        }
        storage(write.commit())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::collections::BTreeMap;

    use quotakeeper_engine::Snapshot;
    use quotakeeper_engine::cost::Amount;
    use quotakeeper_engine::event::{Reserve, SessionId};
    use quotakeeper_engine::time::Time;

    use super::*;

    fn due(account: &str, calls: u64) -> DueRecord {
        DueRecord { account: account.to_owned(), record: record(calls) }
    }

    fn record(calls: u64) -> Record {
        let amounts = BTreeMap::from([("requests".to_owned(), Amount(calls))]);
        let reserve = Reserve { as_of: Time(1), amounts, horizon: Time(9) };
        let snapshot = Snapshot { as_of: Time(1), ..Snapshot::default() };
        Record { snapshot, reserve, pods: [(SessionId(7), "uid-7".to_owned())].into() }
    }

    #[test]
    fn what_was_written_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let mut ledger = Ledger::of_boot(&file, "boot".to_owned()).unwrap();
        ledger.write(&[due("openai/a", 1), due("openai/b", 2)]).unwrap();
        ledger.write(&[due("openai/a", 3)]).unwrap();
        drop(ledger);
        let mut ledger = Ledger::of_boot(&file, "boot".to_owned()).unwrap();
        assert_eq!(ledger.read("openai/a").unwrap(), Some(record(3)));
        assert_eq!(ledger.read("openai/b").unwrap(), Some(record(2)));
        assert_eq!(ledger.read("openai/c").unwrap(), None);
    }

    #[test]
    fn a_record_of_another_boot_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        Ledger::of_boot(&file, "monday".to_owned()).unwrap().write(&[due("a", 1)]).unwrap();
        assert_eq!(Ledger::of_boot(&file, "tuesday".to_owned()).unwrap().read("a").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_no_ledger_or_a_damaged_one_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let mut ledger = Ledger::of_boot(&file, "boot".to_owned()).unwrap();
        ledger.write(&[due("openai/a", 1)]).unwrap();
        drop(ledger);
        let whole = std::fs::read(&file).unwrap();
        let text = b"spec: {provider: {name: openai}}\n".repeat(1000);
        for content in [b"not a ledger\n".as_slice(), &text, &whole[..100], &whole[..whole.len() / 2]] {
            std::fs::write(&file, content).unwrap();
            let refused = Ledger::open(&file).err().unwrap().to_string();
            assert!(
                refused.starts_with("is no ledger of quotakeeper ("),
                "{} bytes: {refused}",
                content.len()
            );
            assert!(refused.ends_with("choose another file or delete it"), "{refused}");
        }
    }

    #[test]
    fn a_second_limiter_is_told_that_the_ledger_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let _first = Ledger::open(&file).unwrap();
        let second = Ledger::open(&file).err().unwrap();
        assert!(second.to_string().contains("another limiter"), "{second}");
    }
}
