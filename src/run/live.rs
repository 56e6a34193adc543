//! What a run knows of its accounts at this moment: a file for each in the state folder, for `quotakeeper limits` beside
//! it. The ledger is of no use for that: one process at a time opens it, and it is charged ahead.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use quotakeeper_wire::name::AccountKey;
use quotakeeper_wire::status::AccountReport;

use super::records::file_name;

/// A run that has just begun has written nothing yet.
const BEGINS: Duration = Duration::from_secs(5);
/// How often it is looked at then.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where an account's report is.
pub fn file(folder: &Path, key: &AccountKey) -> PathBuf {
    folder.join(file_name(key, "live.json"))
}

/// Writes an account's report, whole.
///
/// # Errors
/// The folder can't be written.
pub fn write(file: &Path, report: &AccountReport) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(report)?)?;
    Ok(fs::rename(&new, file)?)
}

/// The report of the run that uses the account now; none: no run does.
///
/// # Errors
/// A run uses it and has not told.
pub fn read(folder: &Path, key: &AccountKey) -> anyhow::Result<Option<AccountReport>> {
    let began = Instant::now();
    while is_used(&folder.join(file_name(key, "json"))) {
        let told = fs::read(file(folder, key)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if told.is_some() {
            return Ok(told);
        }
        if began.elapsed() > BEGINS {
            bail!(
                "a run uses the account {key} now and does not tell what it uses; look at its progress line"
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

/// Whether a run holds the lock on an account's record.
fn is_used(record: &Path) -> bool {
    let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(record).is_ok_and(locked)
}
