//! A ledger's file that can't be read, or not without a panic: it is set aside, and the ledger begins anew. What was
//! granted counts as lost then.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::redb::RedbStore;
use super::store::StoreError;
use super::{Ledger, LedgerError, open};

/// A ledger, and what was in its place.
pub struct Opened {
    /// The ledger.
    pub ledger: Ledger<RedbStore>,
    /// The file that was set aside, if it was damaged.
    pub set_aside: Option<SetAside>,
}

/// A damaged file.
pub struct SetAside {
    /// Where it is now.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: Box<dyn Error + Send + Sync>,
}

/// Opens the ledger in a file, or sets the file aside and begins a new one.
///
/// # Errors
/// The file can't be opened now, or not be set aside.
pub fn open_or_set_aside(file: &Path) -> Result<Opened, LedgerError> {
    match readable(file) {
        Ok(ledger) => Ok(Opened { ledger, set_aside: None }),
        Err(LedgerError::Store(StoreError::Damaged(why))) => {
            let aside = file.with_extension("damaged");
            std::fs::rename(file, &aside).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
            Ok(Opened { ledger: open(file)?, set_aside: Some(SetAside { file: aside, why }) })
        }
        Err(error) => Err(error),
    }
}

/// The ledger, all of which has been read once.
fn readable(file: &Path) -> Result<Ledger<RedbStore>, LedgerError> {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let mut ledger = open(file)?;
        ledger.last_epoch()?;
        ledger.read_all()?;
        Ok(ledger)
    }));
    read.unwrap_or_else(|_| Err(StoreError::Damaged("reading it panics".into()).into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use quotakeeper_wire::message::Epoch;

    use super::*;

    /// Damage anywhere in the file: the limiter starts, with what it can read or with a ledger that begins anew.
    #[test]
    fn damage_anywhere_never_keeps_the_limiter_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        open(&file).unwrap().resume(Epoch(7), false, None).unwrap();
        let whole = std::fs::read(&file).unwrap();
        let mut set_aside = 0;
        for part in 0..64 {
            let mut damaged = whole.clone();
            let (from, length) = (whole.len() * part / 64, whole.len() / 64);
            damaged[from..from + length].fill(0xA5);
            std::fs::write(&file, &damaged).unwrap();
            let mut opened = open_or_set_aside(&file).unwrap();
            set_aside += usize::from(opened.set_aside.is_some());
            let last = opened.ledger.last_epoch().unwrap();
            assert!(matches!(last, None | Some(7)), "{last:?}");
            opened.ledger.resume(Epoch(8), last.is_some(), None).unwrap();
        }
        assert!(set_aside > 0, "none of the damage was noticed");
        assert!(folder.path().join("ledger.damaged").exists());
    }
}
