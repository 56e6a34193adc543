//! How a limiter goes on with the ledger of the one before it.

use quotakeeper_limiter_core::Recovered;
use quotakeeper_wire::message::Epoch;
use redb::{ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};

use super::{ACCOUNTS, Ledger, LedgerError, META, storage};

/// The keys of what is said of the ledger as a whole: the newest limiter, …
const EPOCH: &str = "epoch";
/// … and the one that began it.
const SINCE: &str = "since";

/// Which limiter began the ledger, and in which boot of the machine.
#[derive(Serialize, Deserialize)]
struct Since {
    boot: String,
    epoch: u64,
}

impl Ledger {
    /// The number of the limiter that last used the ledger.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn last_epoch(&mut self) -> Result<Option<u64>, LedgerError> {
        let meta = storage(storage(self.database()?.begin_read())?.open_table(META))?;
        let stored = storage(meta.get(EPOCH))?;
        Ok(stored.and_then(|stored| postcard::from_bytes(stored.value()).ok()))
    }

    /// Begins the limiter `epoch`, durably, and returns what the ledger knows of the time before.
    /// Without `believed`, and after a reboot, that is nothing, and the ledger begins anew.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn resume(&mut self, epoch: Epoch, believed: bool) -> Result<Recovered, LedgerError> {
        let boot = self.boot.clone();
        let write = storage(self.database()?.begin_write())?;
        let since = {
            let mut meta = storage(write.open_table(META))?;
            let stored: Option<Since> =
                storage(meta.get(SINCE))?.and_then(|stored| postcard::from_bytes(stored.value()).ok());
            let since = stored.filter(|since| believed && since.boot == boot);
            storage(meta.insert(EPOCH, postcard::to_stdvec(&epoch.0)?.as_slice()))?;
            if since.is_none() {
                let since = postcard::to_stdvec(&Since { boot, epoch: epoch.0 })?;
                storage(meta.insert(SINCE, since.as_slice()))?;
                let mut accounts = storage(write.open_table(ACCOUNTS))?;
                storage(accounts.retain(|_, _| false))?;
            }
            since
        };
        storage(write.commit())?;
        let Some(since) = since else { return Ok(Recovered { since: Some(epoch), ..Recovered::default() }) };
        let mut recovered = Recovered { since: Some(Epoch(since.epoch)), ..Recovered::default() };
        for name in self.names()? {
            match self.read(&name)? {
                Some(record) => drop(recovered.records.insert(name, record)),
                None => drop(recovered.unreadable.insert(name)),
            }
        }
        Ok(recovered)
    }

    fn names(&mut self) -> Result<Vec<String>, LedgerError> {
        let accounts = storage(storage(self.database()?.begin_read())?.open_table(ACCOUNTS))?;
        let mut names = Vec::new();
        for entry in storage(accounts.iter())? {
            names.push(storage(entry)?.0.value().to_owned());
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::path::Path;

    use quotakeeper_engine::Snapshot;
    use quotakeeper_engine::event::Reserve;
    use quotakeeper_engine::time::Time;
    use quotakeeper_limiter_core::{DueRecord, Record};

    use super::*;

    fn record() -> Record {
        let reserve = Reserve { as_of: Time(1), horizon: Time(9), ..Reserve::default() };
        Record { snapshot: Snapshot::default(), reserve, pods: Default::default() }
    }

    fn due() -> DueRecord {
        DueRecord { account: "openai/a".to_owned(), record: record() }
    }

    fn open(folder: &Path, boot: &str) -> Ledger {
        Ledger::of_boot(&folder.join("ledger.redb"), boot.to_owned()).unwrap()
    }

    #[test]
    fn the_limiter_that_began_the_ledger_is_remembered_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path(), "monday");
        assert_eq!(first.last_epoch().unwrap(), None);
        let recovered = first.resume(Epoch(100), false).unwrap();
        assert_eq!((recovered.records.len(), recovered.since), (0, Some(Epoch(100))));
        first.write(&[due()]).unwrap();
        drop(first);

        for epoch in [101, 102] {
            let mut next = open(folder.path(), "monday");
            assert_eq!(next.last_epoch().unwrap(), Some(epoch - 1));
            let recovered = next.resume(Epoch(epoch), true).unwrap();
            assert_eq!(recovered.records.get("openai/a"), Some(&record()));
            assert_eq!(recovered.since, Some(Epoch(100)));
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "monday");
        ledger.resume(Epoch(100), false).unwrap();
        ledger.write(&[due()]).unwrap();
        let write = ledger.database().unwrap().begin_write().unwrap();
        write.open_table(ACCOUNTS).unwrap().insert("openai/b", [0, 0, 0, 9, 1].as_slice()).unwrap();
        write.commit().unwrap();
        let recovered = ledger.resume(Epoch(101), true).unwrap();
        assert_eq!(recovered.records.keys().collect::<Vec<_>>(), ["openai/a"]);
        assert_eq!(recovered.unreadable.iter().collect::<Vec<_>>(), ["openai/b"]);
    }

    #[test]
    fn after_a_reboot_or_another_limiter_the_ledger_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path(), "monday");
        first.resume(Epoch(100), false).unwrap();
        first.write(&[due()]).unwrap();
        drop(first);

        let mut rebooted = open(folder.path(), "tuesday");
        let recovered = rebooted.resume(Epoch(101), true).unwrap();
        assert_eq!((recovered.records.len(), recovered.since), (0, Some(Epoch(101))));
        rebooted.write(&[due()]).unwrap();
        let overtaken = rebooted.resume(Epoch(110), false).unwrap();
        assert_eq!((overtaken.records.len(), overtaken.since), (0, Some(Epoch(110))));
        // What was forgotten stays so.
        assert_eq!(rebooted.resume(Epoch(111), true).unwrap().records.len(), 0);
    }
}
