//! The store in a file, with redb.

use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::store::{Batch, Entries, RecordStore, StoreError};

const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// A store in a file.
pub struct RedbStore {
    file: PathBuf,
    /// None after a failed commit, or one that panicked: the database refuses everything from then on and has to be
    /// opened anew.
    database: Option<Database>,
}

/// redb has an error type for each step; what matters here is whether the file can ever be used.
fn checked<T, E: Into<redb::Error>>(result: Result<T, E>) -> Result<T, StoreError> {
    result.map_err(|error| {
        let error = error.into();
        if is_damage(&error) {
            StoreError::Damaged(Box::new(error))
        } else {
            StoreError::Unavailable(Box::new(error))
        }
    })
}

fn is_damage(error: &redb::Error) -> bool {
    use redb::Error::{Corrupted, Io, RepairAborted, TableTypeMismatch, UpgradeRequired};
    match error {
        Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        Corrupted(_) | RepairAborted | TableTypeMismatch { .. } | UpgradeRequired(_) => true,
        _ => false,
    }
}

impl RedbStore {
    /// Opens or creates the store in a file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(file: &Path) -> Result<RedbStore, StoreError> {
        let mut store = RedbStore { file: file.to_owned(), database: None };
        let tables = checked(store.database()?.begin_write())?;
        checked(tables.open_table(ACCOUNTS))?;
        checked(tables.open_table(META))?;
        checked(tables.commit())?;
        Ok(store)
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => checked(Database::create(&self.file))?,
        };
        Ok(self.database.insert(database))
    }
}

fn write(database: &Database, batch: &Batch) -> Result<(), StoreError> {
    let write = checked(database.begin_write())?;
    {
        let mut accounts = checked(write.open_table(ACCOUNTS))?;
        if batch.clear {
            checked(accounts.retain(|_, _| false))?;
        }
        for (account, record) in &batch.records {
            checked(accounts.insert(account.as_str(), record.as_slice()))?;
        }
        let mut meta = checked(write.open_table(META))?;
        for (key, value) in &batch.meta {
            checked(meta.insert(key.as_str(), value.as_slice()))?;
        }
    }
    checked(write.commit())
}

impl RecordStore for RedbStore {
    fn load(&mut self) -> Result<Entries, StoreError> {
        let accounts = checked(checked(self.database()?.begin_read())?.open_table(ACCOUNTS))?;
        let mut entries = Entries::new();
        for entry in checked(accounts.iter())? {
            let (account, record) = checked(entry)?;
            entries.insert(account.value().to_owned(), record.value().to_owned());
        }
        Ok(entries)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.database()?;
        let Some(database) = self.database.take() else { return Ok(()) };
        write(&database, batch)?;
        self.database = Some(database);
        Ok(())
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let meta = checked(checked(self.database()?.begin_read())?.open_table(META))?;
        Ok(checked(meta.get(key))?.map(|value| value.value().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    #[test]
    fn a_file_that_is_damaged_or_no_ledger_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let records = [("openai/a".to_owned(), vec![7; 1000])].into();
        RedbStore::open(&file).unwrap().commit(&Batch { records, ..Batch::default() }).unwrap();
        let whole = std::fs::read(&file).unwrap();
        let text = b"spec: {provider: {name: openai}}\n".repeat(1000);
        for content in [b"not a ledger\n".as_slice(), &text, &whole[..100], &whole[..whole.len() / 2]] {
            std::fs::write(&file, content).unwrap();
            let refused = RedbStore::open(&file).err().unwrap().to_string();
            assert!(
                refused.starts_with("is no ledger of quotakeeper ("),
                "{} bytes: {refused}",
                content.len()
            );
            assert!(refused.ends_with("choose another file or delete it"), "{refused}");
        }
    }

    #[test]
    fn a_file_in_use_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let _first = RedbStore::open(&file).unwrap();
        let second = RedbStore::open(&file).err().unwrap();
        assert!(second.to_string().contains("another limiter"), "{second}");
    }
}
