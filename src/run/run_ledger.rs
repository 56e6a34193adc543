//! The ledger of a run: the one that a person names, else one in the state folder, so that the next run continues.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use quotakeeper_limiter::ledger::redb::RedbStore;
use quotakeeper_limiter::ledger::{self, Ledger};
use quotakeeper_wire::account::CompiledAccount;

use super::records::file_name;
use super::{Failure, bad_input};

/// A ledger that this run alone has open.
pub struct RunLedger {
    pub file: PathBuf,
    pub ledger: Ledger<RedbStore>,
}

impl RunLedger {
    /// Opens the ledger that a person has named.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn named(file: &Path) -> Result<RunLedger, Failure> {
        let ledger =
            ledger::open(file).map_err(|error| bad_input(anyhow!("--ledger {} {error}", file.display())))?;
        Ok(RunLedger { file: file.to_owned(), ledger })
    }

    /// The file in the state folder, named after the first account.
    pub fn file_in(folder: &Path, accounts: &[CompiledAccount]) -> Option<PathBuf> {
        accounts.first().map(|first| folder.join(file_name(&first.key, "ledger")))
    }

    /// Opens the one in the state folder, named after the first account.
    ///
    /// # Errors
    /// What a person should know: this run's use will not be known to the next.
    pub fn in_state_folder(folder: &Path, accounts: &[CompiledAccount]) -> anyhow::Result<Option<RunLedger>> {
        let Some(file) = RunLedger::file_in(folder, accounts) else { return Ok(None) };
        let open = || {
            std::fs::create_dir_all(folder)?;
            anyhow::Ok(ledger::open(&file)?)
        };
        let ledger = open().with_context(|| {
            format!("the next run will not know what this one uses: the ledger {}", file.display())
        })?;
        Ok(Some(RunLedger { file, ledger }))
    }
}
