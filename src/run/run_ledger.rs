//! The ledger of a run: the file that a person names, else a file for each account in the state folder, so that the next
//! run continues.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use quotakeeper_limiter::ledger::redb::RedbStore;
use quotakeeper_limiter::ledger::store::RecordStore;
use quotakeeper_limiter::ledger::{self, Ledger, per_account};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;

use super::records::file_name;
use super::{Failure, bad_input};

/// In which file the use of each account is recorded.
pub type LedgerFiles = BTreeMap<AccountKey, PathBuf>;

/// The file that a person has named, for all accounts; else one for each in the state folder; without a folder none.
pub fn files(named: Option<&Path>, folder: Option<&Path>, accounts: &[CompiledAccount]) -> LedgerFiles {
    let file = |account: &CompiledAccount| {
        let file = match named {
            Some(file) => file.to_owned(),
            None => folder?.join(file_name(&account.key, "ledger")),
        };
        Some((account.key.clone(), std::path::absolute(&file).unwrap_or(file)))
    };
    accounts.iter().filter_map(file).collect()
}

/// A ledger that this run alone has open.
pub struct RunLedger {
    /// Where it is.
    pub files: LedgerFiles,
    /// What it holds.
    pub ledger: Ledger<Box<dyn RecordStore>>,
}

impl RunLedger {
    /// Opens the ledger that a person has named.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn named(file: &Path, files: LedgerFiles) -> Result<RunLedger, Failure> {
        let ledger =
            ledger::open(file).map_err(|error| bad_input(anyhow!("--ledger {} {error}", file.display())))?;
        Ok(RunLedger { files, ledger: ledger.boxed() })
    }

    /// Opens those in the state folder. `notes`: of which accounts the next run will not know what this one uses.
    pub fn in_state_folder(files: LedgerFiles, notes: &mut Vec<String>) -> Option<RunLedger> {
        let (mut stores, mut opened) = (BTreeMap::new(), LedgerFiles::new());
        let mut note = |file: &Path, error: anyhow::Error| {
            notes.push(format!(
                "the next run will not know what this one uses: the ledger {}: {error:#}; give another with --ledger \
                 FILE",
                file.display()
            ));
        };
        for (account, file) in files {
            match open(&file) {
                Ok(store) => {
                    stores.insert(account.clone(), store);
                    opened.insert(account, file);
                }
                Err(error) => note(&file, error),
            }
        }
        let first = opened.values().next()?.clone();
        match per_account::of_accounts(stores) {
            Ok(ledger) => Some(RunLedger { files: opened, ledger: ledger.boxed() }),
            Err(error) => {
                note(&first, error.into());
                None
            }
        }
    }
}

fn open(file: &Path) -> anyhow::Result<RedbStore> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(RedbStore::open(file)?)
}

/// The files, for people.
pub fn names(files: &LedgerFiles) -> Vec<String> {
    let mut names: Vec<String> = files.values().map(|file| file.display().to_string()).collect();
    names.dedup();
    names
}
