//! What runs have recorded of the use of accounts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use quotakeeper_api::load;
use quotakeeper_limiter::ledger::per_account;
use quotakeeper_limiter::ledger::redb::RedbStore;
use quotakeeper_limiter::task::{Builder, Limiter};
use quotakeeper_wire::account::CompiledAccount;

use super::Known;
use crate::run::records::{earlier, state_folder};
use crate::run::run_ledger::{self, LedgerFiles};
use crate::run::{live, prepare};

/// Where runs have recorded what they used.
#[derive(Debug, Args)]
pub struct RecordArguments {
    /// The ledger of the runs before [default: those in the state folder].
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,

    /// The state folder of the runs [default: $XDG_STATE_HOME/quotakeeper, else ~/.local/state/quotakeeper].
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// The accounts of the quota files, and what is known of them.
///
/// # Errors
/// A sentence: a file can't be read.
pub fn look(files: &[PathBuf], recorded: &RecordArguments) -> anyhow::Result<(Vec<CompiledAccount>, Known)> {
    let mut accounts = load::documents(&prepare::sources(files)?)?.accounts()?;
    let known = of(&mut accounts, recorded)?;
    Ok((accounts, known))
}

/// What is known of accounts: from a run that uses them now, else as a run that began now would see them.
///
/// # Errors
/// A sentence: a file can't be read.
pub fn of(accounts: &mut [CompiledAccount], recorded: &RecordArguments) -> anyhow::Result<Known> {
    if let Some(file) = &recorded.ledger {
        ensure!(file.exists(), "--ledger {}: there is no such file", file.display());
    }
    let folder = state_folder(recorded.state.as_deref());
    let mut known = Known::new();
    for account in &*accounts {
        let live = folder.as_ref().map(|folder| live::read(folder, &account.key)).transpose()?.flatten();
        known.extend(live.map(|report| (account.quota.clone(), report)));
    }
    let (_, mut resting): (Vec<_>, Vec<_>) =
        accounts.iter().cloned().partition(|account| known.contains_key(&account.quota));
    known.append(&mut of_ledgers(recorded, folder.as_deref(), &mut resting)?);
    for account in accounts {
        let seen = resting.iter().find(|seen| seen.quota == account.quota);
        account.in_force_since = seen.and_then(|seen| seen.in_force_since);
    }
    Ok(known)
}

/// What the ledgers have of accounts that no run uses now.
fn of_ledgers(
    arguments: &RecordArguments,
    folder: Option<&Path>,
    accounts: &mut [CompiledAccount],
) -> anyhow::Result<Known> {
    if accounts.is_empty() {
        return Ok(Known::new());
    }
    let mut files = run_ledger::files(arguments.ledger.as_deref(), folder, accounts);
    files.retain(|_, file| file.exists());
    let runs = earlier(folder, &files, accounts);
    let copies = tempfile::tempdir().context("no temporary folder can be made")?;
    let builder = copied(Limiter::builder(accounts.to_vec()), arguments, &files, copies.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let health = runtime.block_on(async {
        let limiter = builder.earlier_runs(runs).start()?;
        let health = limiter.health().await;
        // Of a copy: whether it can be written does not matter.
        let _ = limiter.close().await;
        anyhow::Ok(health?)
    })?;
    Ok(health.report.accounts.into_iter().map(|report| (report.quota.clone(), report)).collect())
}

/// Continues from copies of the ledgers.
fn copied(
    builder: Builder,
    arguments: &RecordArguments,
    files: &LedgerFiles,
    folder: &Path,
) -> anyhow::Result<Builder> {
    if let (Some(file), false) = (&arguments.ledger, files.is_empty()) {
        let ledger = quotakeeper_limiter::ledger::open(&copy(file, &folder.join("ledger"))?);
        let ledger = ledger.map_err(|error| anyhow::anyhow!("the ledger {} {error}", file.display()))?;
        return Ok(builder.private_ledger(ledger)?);
    }
    let mut stores = BTreeMap::new();
    for (number, (account, file)) in files.iter().enumerate() {
        let store = RedbStore::open(&copy(file, &folder.join(number.to_string()))?);
        let store = store.map_err(|error| anyhow::anyhow!("the ledger {} {error}", file.display()))?;
        stores.insert(account.clone(), store);
    }
    if stores.is_empty() {
        Ok(builder)
    } else {
        Ok(builder.private_ledger(per_account::of_accounts(stores)?)?)
    }
}

/// A copy that can be opened and written.
fn copy(ledger: &Path, copy: &Path) -> anyhow::Result<PathBuf> {
    let name = ledger.display();
    let file = File::open(ledger).with_context(|| format!("the ledger {name} can't be read"))?;
    ensure!(
        file.try_lock().is_ok(),
        "a run uses the ledger {name} now: its progress line and its --admin address show what is used"
    );
    fs::copy(ledger, copy).with_context(|| format!("the ledger {name} can't be copied"))?;
    Ok(copy.to_owned())
}
