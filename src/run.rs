//! `quotakeeper run`: proxy and limiter in one process, around a command.
//!
//! | room | holds |
//! |---|---|
//! | `prepare` | what a run is given, read and checked |
//! | `supervise` | the command while it runs |
//! | `child`, `signals` | the command: started, signalled, waited for |
//! | `view`, `environment` | what it sees that others don't: files and variables |
//! | `hosts` | its own view of /etc/hosts |
//! | `trust` | how it is made to trust the proxy's CA |
//! | `names_within` | what the command would find under the providers' names |
//! | `direct` | connections that go around the proxy |
//! | `mounts` | files that it sees instead of the system's |
//! | `interception` | whether and where the providers' hosts are intercepted |
//! | `records` | which accounts earlier runs have used |
//! | `pilot` | what a few records call, measured, for `quotakeeper plan` |
//! | `plan` | what `--dry-run` shows |
//! | `run_ledger` | where a run records how much of them it uses |
//! | `scratch` | files that live as long as the run |
//! | `live` | what is known of the accounts now, for `quotakeeper limits` |
//! | `learned` | what is assumed and learned where no tier is declared |
//! | `suspend` | Ctrl-Z |
//! | `stated_use` | what a person says was used already |
//! | `terminal` | the terminal that the command, the progress line and messages share |
//! | `usage` | tokens and money by workload and model |
//! | `user` | the command as another user |
//! | `waits` | how long calls may wait, and what is told of long waits |
//! | `progress`, `report`, `summary` | the progress line, the final report, and its last lines |
//! | `refusals` | which limits calls were refused for |
//! | `words` | figures in words |

mod child;
mod direct;
mod environment;
mod hosts;
mod interception;
mod learned;
pub mod live;
mod mounts;
pub mod names_within;
mod pilot;
mod plan;
pub mod prepare;
mod progress;
pub mod records;
mod refusals;
mod report;
pub mod run_ledger;
mod scratch;
mod signals;
pub mod stated_use;
mod summary;
mod supervise;
mod suspend;
mod terminal;
mod trust;
mod usage;
pub mod user;
mod view;
pub mod waits;
pub mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quotakeeper_limiter::task::{Connection, EarlierRuns, Limiter};
use quotakeeper_proxy::{BodyBounds, Link, LinkPeer, Proxy, Settings};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;
use quotakeeper_wire::status::AccountReport;
use tokio::sync::watch;

use crate::cli::RunArguments;
use crate::core_dumps;
use crate::output::{BAD_INPUT, print, say, start_logging};
use direct::DirectConnections;
use interception::Interception;
use pilot::Pilot;
use prepare::{Prepared, prepare};
use records::Records;
use report::{Report, Seen};
use run_ledger::{LedgerFiles, RunLedger};
use supervise::Ended;
use view::View;

/// What request bodies may take of the folder of temporary files, in bytes.
const BODIES_ON_DISK: u64 = 4 * 1024 * 1024 * 1024;
/// The default log filter. Pauses are left out: the progress line shows them.
const LOG: &str = "warn,quotakeeper_proxy::proxy=error,quotakeeper_proxy::proxy::silence=warn";
/// A person who watches a command wants to know soon that no call has come.
const SILENCE: Duration = Duration::from_secs(30);
/// What makes a client of the command trust the proxy.
const TRUST_REMEDY: &str = "let it read the file of CAs that SSL_CERT_FILE names for the command, or the system's; a \
     trust store of Java that a script names has to be named in JAVA_TOOL_OPTIONS of `run` too \
     (-Djavax.net.ssl.trustStore=…), so that the CA is added to it; a client whose CAs are compiled in (reqwest with \
     webpki-roots, for example) has to be built with the system's, or be given a base URL that leads to the proxy";
/// How long calls of processes that the command left behind may still take.
const GRACE: Duration = Duration::from_millis(200);

/// Runs the command. The exit code is the command's; 2 for wrong input, before anything is started; 1 if
/// Quotakeeper itself fails.
pub fn main(arguments: RunArguments) -> ExitCode {
    raise_open_files();
    core_dumps::off();
    let user = arguments.user.clone().or_else(user::behind_sudo);
    let arguments = RunArguments { user, ..arguments };
    let prepared = match start_logging(LOG).and_then(|()| prepare(&arguments)) {
        Ok(prepared) => prepared,
        Err(error) => {
            say(&format!("{error:#}"));
            return ExitCode::from(BAD_INPUT);
        }
    };
    if arguments.dry_run {
        return print(&plan::of(&arguments, &prepared.accounts, prepared.interception.as_ref()));
    }
    if supervise::shares_terminal(&arguments) {
        suspend::block();
    }
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

/// What runs beside the command.
struct Started {
    limiter: Limiter,
    proxy: Proxy,
    records: Records,
    /// The ledger's files.
    ledger: LedgerFiles,
    direct: DirectConnections,
    /// Where the limiter's metrics go.
    metrics: Option<watch::Sender<String>>,
    /// The accounts before the first call.
    accounts: Vec<AccountReport>,
}

async fn run(arguments: &RunArguments, prepared: Prepared) -> Result<ExitCode, Failure> {
    let interception = prepared.interception.as_ref();
    let mut started = start(arguments, &prepared).await?;
    let view = View::new(&started.proxy, interception, &arguments.command)?;
    let pilot = arguments.pilot.as_ref().map(|_| Pilot::of(&started.proxy));
    let mut records = std::mem::take(&mut started.records);
    records.command_starts();
    let limits_of = |key: &AccountKey| {
        prepared
            .accounts
            .iter()
            .find(|account| account.key == *key)
            .map(|account| account.engine.limits.as_slice())
    };
    let unknown = started
        .accounts
        .iter()
        .filter_map(|account| summary::unknown_past(account, limits_of(&account.key).unwrap_or_default()));
    let questions = learned::questions(&learned::undeclared(&prepared.accounts), &started.accounts);
    let notes = std::mem::take(&mut records.notes).into_iter().chain(unknown).chain(questions);
    let notes: Vec<String> = notes.filter(|_| !arguments.quiet).collect();
    let limiter = started.limiter.clone();
    let ended = tokio::select! {
        ended = supervise::run_command(arguments, &mut started, &view, &notes) => ended?,
        never = records.keep_current(&limiter) => match never {},
    };
    finish(arguments, started, ended, pilot).await
}

/// Starts limiter and proxy.
async fn start(arguments: &RunArguments, prepared: &Prepared) -> Result<Started, Failure> {
    let mut accounts = prepared.accounts.clone();
    let folder = records::state_folder(arguments.state.as_deref());
    let mut notes = Vec::new();
    let ledger = open_ledger(arguments, folder.as_deref(), &accounts, &mut notes)?;
    let files = ledger.as_ref().map(|ledger| ledger.files.clone()).unwrap_or_default();
    let mut records = Records::open(folder.as_deref(), &files, &mut accounts);
    records.notes.append(&mut notes);
    let (metrics, more_metrics) = watch::channel(String::new());
    let settings = Settings {
        extra_cas: prepared.extra_cas.clone(),
        more_metrics: Some(more_metrics),
        ..settings(arguments, accounts.clone(), prepared.interception.as_ref())
    };
    let direct = DirectConnections::new(&accounts, &arguments.resolve);
    let limiter = start_limiter(accounts, ledger, std::mem::take(&mut records.earlier))?;
    let accounts = limiter.health().await.context("the limiter stopped at its start")?.report.accounts;
    let (link, peer) = Link::pair();
    tokio::spawn(carry(limiter.clone(), peer));
    let proxy = Proxy::start(settings, link).await.map_err(|error| bad_input(anyhow!("{error}")))?;
    Ok(Started { limiter, proxy, records, ledger: files, direct, metrics: Some(metrics), accounts })
}

/// Reports what came of the calls, and ends limiter and proxy.
async fn finish(
    arguments: &RunArguments,
    started: Started,
    ended: Ended,
    pilot: Option<Pilot>,
) -> Result<ExitCode, Failure> {
    let Started { limiter, proxy, ledger, .. } = started;
    let Ended { status, ran, mut shown } = ended;
    let exit_code = child::exit_code(status);
    let health = limiter.health().await.context("the limiter stopped before the command did")?;
    let accounts = &health.report.accounts;
    shown.refusals.look(&proxy.stats(), accounts);
    shown.usage.look(accounts);
    let spent = shown.usage.lines();
    let seen = Seen {
        refused_by_limit: shown.refusals.counts,
        direct_connections: shown.direct.counts,
        usage: shown.usage,
    };
    let report = Report::new(exit_code, ran, &proxy, accounts, seen);
    let lines = summary::lines(&report, proxy.bypass_remedy(), accounts);
    let learned = shown.learned.news(accounts);
    proxy.shutdown(GRACE).await;
    learned.iter().chain(&lines).chain(&spent).filter(|_| !arguments.quiet).for_each(|line| say(line));
    // The command's exit code counts, even if the ledger or the report can't be written.
    if let Err(error) = limiter.close().await
        && !ledger.is_empty()
    {
        let files = run_ledger::names(&ledger).join(", ");
        say(&format!("the ledger {files} {error:#}; the next run with this ledger begins carefully"));
    }
    if let Some(Err(error)) = arguments.report.as_ref().map(|file| report.write(file)) {
        say(&format!("{error:#}"));
    }
    if let (Some(pilot), Some(file), Some(records)) = (pilot, &arguments.pilot, arguments.records) {
        match pilot.write(file, records) {
            Ok(worth) => worth.iter().filter(|_| !arguments.quiet).for_each(|line| say(line)),
            Err(error) => say(&format!("{error:#}")),
        }
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
        Some(RunLedger { files, ledger }) => {
            builder.private_ledger(ledger).and_then(|builder| builder.earlier_runs(earlier).start()).map_err(
                |error| bad_input(anyhow!("the ledger {} {error}", run_ledger::names(&files).join(", "))),
            )
        }
        None => {
            builder.earlier_runs(earlier).start().map_err(|error| Failure::from(anyhow::Error::from(error)))
        }
    }
}

/// The run's ledger; none: there is no state folder, as the records say, or the notes say why.
fn open_ledger(
    arguments: &RunArguments,
    folder: Option<&Path>,
    accounts: &[CompiledAccount],
    notes: &mut Vec<String>,
) -> Result<Option<RunLedger>, Failure> {
    let files = run_ledger::files(arguments.ledger.as_deref(), folder, accounts);
    match &arguments.ledger {
        Some(file) => RunLedger::named(file, files).map(Some),
        None => Ok(RunLedger::in_state_folder(files, notes)),
    }
}

fn bad_input(error: anyhow::Error) -> Failure {
    Failure { error, code: BAD_INPUT }
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
