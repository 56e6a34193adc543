//! `quotakeeper run`: proxy and limiter in one process, around a command.
//!
//! | room | holds |
//! |---|---|
//! | `child`, `signals` | the command: started, signalled, waited for |
//! | `environment` | variables for its environment |
//! | `hosts` | its own view of /etc/hosts |
//! | `trust` | how it is made to trust the proxy's CA |
//! | `mounts` | files that it sees instead of the system's |
//! | `interception` | whether and where the providers' hosts are intercepted |
//! | `records` | which accounts earlier runs have used |
//! | `run_ledger` | where a run records how much of them it uses |
//! | `scratch` | files that live as long as the run |
//! | `stated_use` | what a person says was used already |
//! | `progress`, `report` | the progress line and the final report |

mod child;
mod environment;
mod hosts;
mod interception;
mod mounts;
mod progress;
mod records;
mod report;
mod run_ledger;
mod scratch;
mod signals;
pub mod stated_use;
mod trust;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quotakeeper_api::load::{self, Source};
use quotakeeper_proxy::{BodyBounds, Link, LinkPeer, Proxy, Settings};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;

use crate::cli::RunArguments;
use crate::output::{BAD_INPUT, say, start_logging};
use interception::Interception;
use progress::Line;
use quotakeeper_limiter::task::{Connection, EarlierRuns, Limiter};
use records::Records;
use report::Report;
use run_ledger::RunLedger;
use signals::Signals;
use trust::TrustedFiles;

/// The interval of the progress line.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// What request bodies may take of the folder of temporary files, in bytes.
const BODIES_ON_DISK: u64 = 4 * 1024 * 1024 * 1024;
/// The default log filter. Pauses are left out: the progress line shows them.
const LOG: &str = "warn,quotakeeper_proxy::proxy=error,quotakeeper_proxy::proxy::silence=warn";
/// A person who watches a command wants to know soon that no call has come.
const SILENCE: Duration = Duration::from_secs(30);
/// How a certificate begins in PEM (RFC 7468).
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
/// What makes a client of the command trust the proxy.
const TRUST_REMEDY: &str = "let it read the file of CAs that SSL_CERT_FILE names for the command, or the system's; a \
     client whose CAs are compiled in (reqwest with webpki-roots, for example) has to be built with the system's, or \
     be given a base URL that leads to the proxy";
/// How long calls of processes that the command left behind may still take.
const GRACE: Duration = Duration::from_millis(200);

/// Runs the command. The exit code is the command's; 2 for wrong input, before anything is started; 1 if
/// Quotakeeper itself fails.
pub fn main(arguments: RunArguments) -> ExitCode {
    raise_open_files();
    start_logging(LOG);
    let prepared = match prepare(&arguments) {
        Ok(prepared) => prepared,
        Err(error) => {
            say(&format!("{error:#}"));
            return ExitCode::from(BAD_INPUT);
        }
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(&arguments, prepared)));
    outcome.unwrap_or_else(|failure| {
        say(&format!("{:#}", failure.error));
        ExitCode::from(failure.code)
    })
}

/// Two descriptors for each call of all processes of the command: as many as this process may have.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        say(&format!("the limit of open files stays as it is: {error}"));
    }
}

/// The input, read and checked.
struct Prepared {
    accounts: Vec<CompiledAccount>,
    extra_cas: Vec<String>,
    interception: Option<Interception>,
}

/// A failure and its exit code.
struct Failure {
    error: anyhow::Error,
    code: u8,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { error, code: 1 }
    }
}

fn prepare(arguments: &RunArguments) -> anyhow::Result<Prepared> {
    let mut accounts = load::documents(&sources(&arguments.files)?)?.accounts()?;
    let mut extra_cas = Vec::new();
    for file in &arguments.upstream_ca {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("--upstream-ca {name} can't be read"))?;
        ensure!(
            text.contains(CERTIFICATE),
            "--upstream-ca {name} holds no certificate; give certificates in PEM"
        );
        extra_cas.push(text);
    }
    for account in &accounts {
        let problems = account.engine.problems();
        ensure!(problems.is_empty(), "quota {}: {}", account.quota, problems.join("; "));
    }
    if let Some(file) = &arguments.report {
        // Checked before the run, which may take hours.
        let writable = fs::OpenOptions::new().append(true).create(true).open(file);
        writable.with_context(|| format!("--report {} can't be written", file.display()))?;
    }
    stated_use::apply(&arguments.used, &mut accounts, Timestamp::now())?;
    let interception = Interception::choose(arguments.hosts, &accounts)?;
    for account in &accounts {
        if !account.not_enforced.is_empty() {
            let limits = account.not_enforced.join(", ");
            say(&format!("quota {}: not enforced by this version: {limits}", account.quota));
        }
    }
    Ok(Prepared { accounts, extra_cas, interception })
}

/// The quota files' texts; `-` is standard input.
fn sources(files: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
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

async fn run(arguments: &RunArguments, prepared: Prepared) -> Result<ExitCode, Failure> {
    let Prepared { mut accounts, extra_cas, interception } = prepared;
    let folder = records::state_folder(arguments.state.as_deref());
    let (ledger, problem) = open_ledger(arguments, folder.as_deref(), &accounts)?;
    let ledger_file = ledger.as_ref().map(|ledger| ledger.file.clone());
    let mut records = Records::open(folder.as_deref(), ledger_file.as_deref(), &mut accounts);
    records.notes.extend(problem);
    let settings = Settings { extra_cas, ..settings(arguments, accounts.clone(), interception.as_ref()) };
    let limiter = start_limiter(accounts, ledger, std::mem::take(&mut records.earlier))?;
    let started = limiter.health().await.context("the limiter stopped at its start")?;
    let (link, peer) = Link::pair();
    tokio::spawn(carry(limiter.clone(), peer));
    let proxy = Proxy::start(settings, link).await.map_err(|error| bad_input(anyhow!("{error}")))?;

    let trusted = interception.as_ref().map(|_| TrustedFiles::new(&proxy, &arguments.command)).transpose()?;
    let mut trusted = trusted.unwrap_or_default();
    let replacements = interception.as_ref().map(Interception::replacements).transpose()?;
    let mut replacements = replacements.unwrap_or_default();
    replacements.append(&mut trusted.replacements);
    let environment = child_environment(&proxy, interception.as_ref(), trusted.variables);
    records.command_starts();
    let began = Instant::now();
    let signals = Signals::catch().context("signals can't be watched")?;
    let child = child::start(&arguments.command, &environment, &replacements)
        .map_err(|error| Failure { code: error.exit_code(), error: anyhow!("{error}") })?;
    records.notes.iter().for_each(|note| say(note));
    started.report.accounts.iter().filter_map(report::unknown_past).for_each(|sentence| say(&sentence));

    let mut line = Line::new(arguments.progress);
    let status = tokio::select! {
        status = watch(child, signals, &limiter, &mut line) => status?,
        never = records.keep_current() => match never {},
    };
    line.clear();
    let exit_code = child::exit_code(status);
    let health = limiter.health().await.context("the limiter stopped before the command did")?;
    let report = Report::new(exit_code, began.elapsed(), &proxy, &health.report.accounts);
    proxy.shutdown(GRACE).await;
    say(&report.sentence());
    // The command's exit code counts, even if the ledger or the report can't be written.
    if let (Err(error), Some(file)) = (limiter.close().await, &ledger_file) {
        let file = file.display();
        say(&format!("the ledger {file} {error:#}; the next run with this ledger begins carefully"));
    }
    if let Some(Err(error)) = arguments.report.as_ref().map(|file| report.write(file)) {
        say(&format!("{error:#}"));
    }
    Ok(ExitCode::from(exit_code))
}

fn settings(
    arguments: &RunArguments,
    accounts: Vec<CompiledAccount>,
    interception: Option<&Interception>,
) -> Settings {
    Settings {
        base_url: arguments.listen,
        hosts: interception.map(Interception::listeners),
        admin: arguments.admin,
        resolve: arguments.resolve.clone(),
        own_ca_files: interception.map(|_| trust::own_files()).unwrap_or_default(),
        trust_remedy: TRUST_REMEDY.to_owned(),
        silence: SILENCE,
        bodies: BodyBounds {
            disk: BODIES_ON_DISK,
            folder: Some(std::env::temp_dir()),
            ..BodyBounds::default()
        },
        ..Settings::new(accounts, consumer(&arguments.command))
    }
}

fn start_limiter(
    accounts: Vec<CompiledAccount>,
    ledger: Option<RunLedger>,
    earlier: BTreeMap<AccountKey, EarlierRuns>,
) -> Result<Limiter, Failure> {
    let builder = Limiter::builder(accounts);
    match ledger {
        Some(RunLedger { file, ledger }) => builder
            .private_ledger(ledger)
            .and_then(|builder| builder.earlier_runs(earlier).start())
            .map_err(|error| bad_input(anyhow!("the ledger {} {error}", file.display()))),
        None => {
            builder.earlier_runs(earlier).start().map_err(|error| Failure::from(anyhow::Error::from(error)))
        }
    }
}

/// The run's ledger, or why it has none.
fn open_ledger(
    arguments: &RunArguments,
    folder: Option<&Path>,
    accounts: &[CompiledAccount],
) -> Result<(Option<RunLedger>, Option<String>), Failure> {
    if let Some(file) = &arguments.ledger {
        return Ok((Some(RunLedger::named(file)?), None));
    }
    // Without a folder, the records say what follows.
    let Some(folder) = folder else { return Ok((None, None)) };
    match RunLedger::in_state_folder(folder, accounts) {
        Ok(ledger) => Ok((ledger, None)),
        Err(error) => Ok((None, Some(format!("{error:#}; give another with --ledger FILE")))),
    }
}

fn bad_input(error: anyhow::Error) -> Failure {
    Failure { error, code: BAD_INPUT }
}

/// Shows progress until the command ends.
async fn watch(
    child: std::process::Child,
    signals: Signals,
    limiter: &Limiter,
    line: &mut Line,
) -> anyhow::Result<ExitStatus> {
    let mut ended = std::pin::pin!(child::wait(child, signals));
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = &mut ended => return status,
            _ = tick.tick() => line.show(&limiter.health().await?.report.accounts),
        }
    }
}

/// The variables that the command gets on top of this process's environment.
fn child_environment(
    proxy: &Proxy,
    interception: Option<&Interception>,
    trust: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let (mut variables, own) = environment::without_own(proxy.environment());
    for name in own {
        say(&format!("{name} is set already and stays as it is: calls that follow it are not limited"));
    }
    variables.extend(trust);
    let names = interception.map(Interception::names).unwrap_or_default();
    variables.extend(environment::past_other_proxies(proxy.base_url_addr().ip(), names));
    variables
}

/// The consumer: the program's name.
fn consumer(command: &[String]) -> String {
    let program = command.first().map(Path::new).and_then(Path::file_name);
    program.map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Exchanges messages between the proxy and the limiter, and reconnects when one of them ends the connection.
async fn carry(limiter: Limiter, peer: LinkPeer) {
    while let Ok(connection) = limiter.connect().await {
        if carry_one(connection, &peer).await.is_err() || peer.disconnect().await.is_err() {
            return;
        }
    }
}

/// One connection, until the limiter ends it.
///
/// # Errors
/// When the proxy or the limiter is gone for good.
async fn carry_one(mut connection: Connection, peer: &LinkPeer) -> anyhow::Result<()> {
    let mut proxy_says = peer.connect().await?;
    loop {
        tokio::select! {
            message = proxy_says.recv() => match message {
                Some(message) => connection.send(message).await?,
                None => return Ok(connection.close().await?),
            },
            message = connection.messages.recv() => match message {
                Some(message) => peer.say(message).await?,
                None => return Ok(()),
            },
        }
    }
}
