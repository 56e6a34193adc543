//! Which accounts earlier runs have drawn on: one file per account in the state folder.
//!
//! A run without the ledger of the runs before it can't know what they used. The file says since when the account is
//! used here, and which ledger the last run wrote; its time of change says when that run ended. The run that uses the
//! account holds a lock on the file, which the kernel releases with the process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use quotakeeper_limiter::LostGrants;
use quotakeeper_limiter::clock::now;
use quotakeeper_limiter::task::{EarlierRuns, Limiter};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;
use quotakeeper_wire::status::AccountReport;
use serde::{Deserialize, Serialize};

use super::live;
use super::run_ledger::LedgerFiles;

/// How often a run updates the times of its files.
const UPDATED_EVERY: Duration = Duration::from_secs(1);
/// How long after the last update a run may have granted that was killed.
const UPDATES_LATE: Duration = Duration::from_secs(5);

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Record {
    account: AccountKey,
    /// Since when the account is used here (RFC 3339).
    since: String,
    /// The ledger of the run that used it last.
    ledger: Option<PathBuf>,
}

/// The records of a run's accounts.
#[derive(Debug, Default)]
pub struct Records {
    /// Locked until the run ends.
    files: Vec<File>,
    /// Those of accounts that no run has used yet.
    new: Vec<PathBuf>,
    /// Where it is told what this run knows of its accounts.
    live: BTreeMap<AccountKey, PathBuf>,
    /// What earlier runs may have granted.
    pub earlier: BTreeMap<AccountKey, EarlierRuns>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// The state folder: the one that was given, else `$XDG_STATE_HOME/quotakeeper`, else `~/.local/state/quotakeeper`.
pub fn state_folder(given: Option<&Path>) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    given.map(Path::to_owned).or_else(|| {
        let state = variable("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/state")));
        Some(state?.join("quotakeeper"))
    })
}

impl Records {
    /// Reads and writes the records of the accounts, and puts into each account since when it is in force. Without a
    /// usable folder that stays unknown.
    pub fn open(folder: Option<&Path>, ledgers: &LedgerFiles, accounts: &mut [CompiledAccount]) -> Records {
        let mut records = Records::default();
        for account in accounts {
            let ledger = ledgers.get(&account.key).map(PathBuf::as_path);
            let opened = match folder {
                Some(folder) => records.open_one(folder, ledger, account),
                None => Err(anyhow!("neither HOME nor XDG_STATE_HOME is set")),
            };
            if let Err(error) = opened {
                records.notes.push(format!(
                    "quota {}: it can't be recorded that its account is used here, so its use so far is unknown: \
                     {error:#}; give a writable folder with --state",
                    account.quota
                ));
            }
        }
        records
    }

    fn open_one(
        &mut self,
        folder: &Path,
        ledger: Option<&Path>,
        account: &mut CompiledAccount,
    ) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(file_name(&account.key, "json"));
        let context = || path.display().to_string();
        let mut file = OpenOptions::new();
        let mut file =
            file.read(true).write(true).create(true).truncate(false).open(&path).with_context(context)?;
        let alone = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        };
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(context)?;
        let wall = Timestamp::now();
        let known: Option<Record> = serde_json::from_str(&text).ok();
        let since = known.as_ref().and_then(|record| record.since.parse().ok());
        if !alone {
            self.notes.push(format!(
                "quota {}: another run uses the account {} at the same time; together they may exceed it: give \
                 each a part with spec.account.sharePercent",
                account.quota, account.key
            ));
        }
        if !text.is_empty() || !alone {
            let changed = file.metadata().and_then(|data| data.modified()).with_context(context)?;
            let ended = if alone { ended(changed, wall) } else { wall };
            let in_ledger = alone && is_in(ledger, known.as_ref());
            self.earlier.insert(account.key.clone(), earlier_runs(ended, wall, in_ledger));
            account.in_force_since = since;
        } else {
            account.in_force_since = Some(wall);
        }
        if alone {
            let record = Record {
                account: account.key.clone(),
                since: since.unwrap_or(wall).to_string(),
                ledger: ledger.map(Path::to_owned),
            };
            write(&mut file, &record).with_context(context)?;
            file.set_modified(SystemTime::now()).with_context(context)?;
            if text.is_empty() {
                self.new.push(path.clone());
            }
            self.files.push(file);
            self.live.insert(account.key.clone(), live::file(folder, &account.key));
        }
        Ok(())
    }

    /// From now on the accounts may be used.
    pub fn command_starts(&mut self) {
        self.new.clear();
    }

    /// Updates the times of the files, and tells what the limiter knows, for as long as the run lasts.
    pub async fn keep_current(&self, limiter: &Limiter) -> Infallible {
        loop {
            if let Ok(health) = limiter.health().await {
                self.tell(&health.report.accounts);
            }
            tokio::time::sleep(UPDATED_EVERY).await;
            self.touch();
        }
    }

    fn tell(&self, accounts: &[AccountReport]) {
        for account in accounts {
            if let Some(file) = self.live.get(&account.key) {
                // Who looks finds an older one, or is told that there is none.
                let _ = live::write(file, account);
            }
        }
    }

    fn touch(&self) {
        for file in &self.files {
            // It succeeded when the record was opened.
            let _ = file.set_modified(SystemTime::now());
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // A record that stays makes the next run ask what was used.
        for path in self.new.iter().chain(self.live.values()) {
            let _ = fs::remove_file(path);
        }
        self.touch();
    }
}

/// What earlier runs may have granted, as of their records; nothing is written. Puts into each account since when it is
/// in force.
pub fn earlier(
    folder: Option<&Path>,
    ledgers: &LedgerFiles,
    accounts: &mut [CompiledAccount],
) -> BTreeMap<AccountKey, EarlierRuns> {
    let wall = Timestamp::now();
    let mut all = BTreeMap::new();
    for account in accounts {
        let path = folder.map(|folder| folder.join(file_name(&account.key, "json")));
        let changed = path.as_ref().and_then(|path| fs::metadata(path).ok()?.modified().ok());
        let Some((path, changed)) = path.zip(changed) else {
            account.in_force_since = Some(wall);
            continue;
        };
        let known: Option<Record> =
            fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok());
        account.in_force_since = known.as_ref().and_then(|record| record.since.parse().ok());
        let in_ledger = is_in(ledgers.get(&account.key).map(PathBuf::as_path), known.as_ref());
        let runs = earlier_runs(ended(changed, wall), wall, in_ledger);
        all.insert(account.key.clone(), runs);
    }
    all
}

fn is_in(ledger: Option<&Path>, record: Option<&Record>) -> bool {
    ledger.is_some() && record.is_some_and(|record| record.ledger.as_deref() == ledger)
}

fn earlier_runs(ended: Timestamp, wall: Timestamp, in_ledger: bool) -> EarlierRuns {
    let ago = Duration::try_from(wall.duration_since(ended)).unwrap_or_default();
    EarlierRuns { lost: LostGrants { until: now() - ago, until_wall: ended }, in_ledger }
}

/// When a run ended that updated its file then for the last time.
fn ended(changed: SystemTime, wall: Timestamp) -> Timestamp {
    let changed = Timestamp::try_from(changed).unwrap_or(wall);
    changed.saturating_add(UPDATES_LATE).unwrap_or(wall).min(wall)
}

fn write(file: &mut File, record: &Record) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(record)? + "\n";
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

/// The account's key, with `%` and two hexadecimal digits for what does not belong into a file's name.
pub fn file_name(key: &str, extension: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    key.bytes().map(escaped).collect::<String>() + "." + extension
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_have_file_names_of_their_own() {
        assert_eq!(file_name("openai/gtm/openai", "json"), "openai%2Fgtm%2Fopenai.json");
        assert_ne!(file_name("a/b_c", "json"), file_name("a_b/c", "json"));
        assert_eq!(file_name("x/../y", "ledger"), "x%2F..%2Fy.ledger");
    }

    #[test]
    fn a_killed_run_may_have_granted_a_moment_after_its_last_update() {
        let wall = Timestamp::from_second(1_800_000_000).unwrap();
        let changed =
            |seconds: i64| SystemTime::from(Timestamp::from_second(1_800_000_000 + seconds).unwrap());
        assert_eq!(ended(changed(-100), wall), Timestamp::from_second(1_799_999_905).unwrap());
        assert_eq!(ended(changed(-2), wall), wall);
        assert_eq!(ended(changed(600), wall), wall, "the clock was set back");
    }
}
