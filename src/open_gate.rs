//! `quotakeeper open-gate`: lets all calls pass, before an uninstall.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use quotakeeper_operator::client;
use quotakeeper_operator::limiter_view::Source;
use quotakeeper_operator::open_gate;
use quotakeeper_wire::bootstrap::TOKEN_FILE;

use crate::operator::limiter_source;
use crate::output::{BAD_INPUT, LogFormat, say, start_service_logging};

const LOG: &str = "warn";

const ABOUT: &str = "\
The gate closes when the limiter's pods end, and after 15 minutes while they are still there. Deleting the
ConfigMap quotakeeper-gate closes it at once. For an incident, set `enforcement.mode: Disabled` on the quotas
instead.

Exit code: 0 when the gate is open, also when --timeout was over before all proxies knew; 1 if it can't be opened;
2 if an option is wrong, or --yes is not given.";

/// How long a request to the API server is tried.
const PATIENCE: Duration = Duration::from_secs(10);

const CONFIRM: &str = "\
nothing is opened: an open gate lets the calls of all workloads pass without limits. `helm uninstall` opens it \
by itself; before you remove Quotakeeper by other means, confirm with --yes";

/// The arguments of `quotakeeper open-gate`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub struct OpenGateArguments {
    /// Confirms it.
    #[arg(long)]
    yes: bool,

    /// The namespace of operator and limiter.
    #[arg(long, env = "POD_NAMESPACE", default_value = "quotakeeper", value_name = "NAME")]
    namespace: String,

    /// Wait until all connected proxies have received the change.
    #[arg(long)]
    wait: bool,

    /// With --wait: for at most this many seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,

    /// Address of the limiter. Default: `https://quotakeeper-limiter.NAMESPACE.svc:8443`.
    #[arg(long, env = "QUOTAKEEPER_LIMITER", value_name = "https://HOST:PORT")]
    limiter: Option<String>,

    /// The file with the token for the limiter.
    #[arg(long, env = "QUOTAKEEPER_TOKEN_FILE", default_value = TOKEN_FILE, value_name = "FILE")]
    token_file: PathBuf,

    /// Format of log lines.
    #[arg(long, env = "QUOTAKEEPER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Opens the gate.
pub fn main(arguments: OpenGateArguments) -> ExitCode {
    start_service_logging(LOG, arguments.log_format);
    if !arguments.yes {
        say(CONFIRM);
        return ExitCode::from(BAD_INPUT);
    }
    let source =
        match limiter_source(&arguments.namespace, arguments.limiter.as_deref(), &arguments.token_file) {
            Ok(source) => source,
            Err(error) => {
                say(&format!("{error:#}"));
                return ExitCode::from(BAD_INPUT);
            }
        };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let opened = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(open(&arguments, &source)));
    match opened {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn open(arguments: &OpenGateArguments, source: &Source) -> anyhow::Result<()> {
    let client = client().await.context("the cluster can't be reached")?;
    let namespace = &arguments.namespace;
    let until = open_gate::open(&client, namespace, PATIENCE).await.context("the gate can't be opened")?;
    let open = format!("the gate is open until {until}");
    if !arguments.wait {
        say(&open);
        return Ok(());
    }
    let patience = Duration::from_secs(arguments.timeout);
    match open_gate::told(&client, namespace, source, patience).await {
        Ok(opened) => say(&opened.sentence(until, patience)),
        Err(error) => say(&format!("{open}; whether the proxies know is not known: {error}")),
    }
    Ok(())
}
