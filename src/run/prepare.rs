//! What a run is given: read and checked before anything is started.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use quotakeeper_api::load::{self, Source};
use quotakeeper_wire::account::CompiledAccount;

use super::interception::Interception;
use super::{stated_use, user, waits};
use crate::cli::RunArguments;
use crate::output::say;

/// How a certificate begins in PEM (RFC 7468).
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The input, read and checked.
pub struct Prepared {
    /// The quotas' accounts, in the order of the files.
    pub accounts: Vec<CompiledAccount>,
    /// PEM texts of CAs that are trusted at providers.
    pub extra_cas: Vec<String>,
    /// Whether and where hosts are intercepted.
    pub interception: Option<Interception>,
}

/// Reads and checks what a run is given. Nothing is started.
///
/// # Errors
/// A sentence with the file or option and the remedy.
pub fn prepare(arguments: &RunArguments) -> anyhow::Result<Prepared> {
    let documents = load::documents(&sources(&arguments.files)?)?;
    let mut accounts = documents.accounts()?;
    waits::without_maximum(documents.quotas.iter().map(|(_, quota)| quota), &mut accounts);
    let extra_cas = extra_cas(&arguments.upstream_ca)?;
    for account in &accounts {
        let problems = account.engine.problems();
        ensure!(problems.is_empty(), "quota {}: {}", account.quota, problems.join("; "));
    }
    let written = [("--report", &arguments.report), ("--pilot", &arguments.pilot)];
    for (option, file) in written.into_iter().filter(|_| !arguments.dry_run) {
        let Some(file) = file else { continue };
        // Checked before the run, which may take hours.
        let writable = fs::OpenOptions::new().append(true).create(true).open(file);
        writable.with_context(|| format!("{option} {} can't be written", file.display()))?;
    }
    if let Some(user) = &arguments.user {
        user::find(user)?;
    }
    stated_use::apply(&arguments.used, &mut accounts, Timestamp::now())?;
    let interception = Interception::choose(arguments.hosts, &accounts)?;
    for account in &accounts {
        if !account.not_enforced.is_empty() && !arguments.quiet {
            let limits = account.not_enforced.join(", ");
            say(&format!("quota {}: not enforced by this version: {limits}", account.quota));
        }
        for warning in account.warnings.iter().filter(|_| !arguments.quiet) {
            say(&format!("quota {}: {warning}", account.quota));
        }
    }
    Ok(Prepared { accounts, extra_cas, interception })
}

/// The texts of the files with CAs.
fn extra_cas(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut extra_cas = Vec::new();
    for file in files {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("--upstream-ca {name} can't be read"))?;
        ensure!(
            text.contains(CERTIFICATE),
            "--upstream-ca {name} holds no certificate; give certificates in PEM"
        );
        extra_cas.push(text);
    }
    Ok(extra_cas)
}

/// The quota files' texts; `-` is standard input.
///
/// # Errors
/// A file that can't be read or is larger than any quota.
pub fn sources(files: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            sources.push(load::source("standard input", std::io::stdin().lock())?);
        } else {
            sources.extend(load::read(std::slice::from_ref(file))?);
        }
    }
    Ok(sources)
}
