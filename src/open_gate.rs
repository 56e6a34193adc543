//! `quotakeeper open-gate`: lets all calls pass, before an uninstall.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use quotakeeper_operator::open_gate::{self, Opened};
use quotakeeper_wire::bootstrap::TOKEN_FILE;

use crate::operator::limiter_source;
use crate::output::{BAD_INPUT, LogFormat, say, start_service_logging};

const LOG: &str = "warn";

const ABOUT: &str = "\
The gate closes when the limiter's pods end. For an incident, set `enforcement.mode: Disabled` on the
quotas instead.

Exit code: 0 when the gate is open, also when --timeout was over before all proxies were told, because an
uninstall must not hang on it; 1 when it can't be opened; 2 if an option is wrong.";

/// What `quotakeeper open-gate` is told.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub struct OpenGateArguments {
    /// The namespace of operator and limiter.
    #[arg(long, env = "POD_NAMESPACE", default_value = "quotakeeper", value_name = "NAME")]
    namespace: String,

    /// Wait until all connected proxies have been told.
    #[arg(long)]
    wait: bool,

    /// … for at most this many seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,

    /// Where the limiter is. Default: `https://quotakeeper-limiter.NAMESPACE.svc:8443`.
    #[arg(long, env = "QUOTAKEEPER_LIMITER", value_name = "https://HOST:PORT")]
    limiter: Option<String>,

    /// The file with the operator's token.
    #[arg(long, env = "QUOTAKEEPER_TOKEN_FILE", default_value = TOKEN_FILE, value_name = "FILE")]
    token_file: PathBuf,

    /// How log lines look.
    #[arg(long, env = "QUOTAKEEPER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Opens the gate.
pub fn main(arguments: OpenGateArguments) -> ExitCode {
    start_service_logging(LOG, arguments.log_format);
    let source =
        match limiter_source(&arguments.namespace, arguments.limiter.as_deref(), &arguments.token_file) {
            Ok(source) => source,
            Err(error) => {
                say(&format!("{error:#}"));
                return ExitCode::from(BAD_INPUT);
            }
        };
    let opening = async {
        let client = quotakeeper_operator::client().await.context("there is no way to the cluster")?;
        open_gate::open(&client, &arguments.namespace).await.context("the gate can't be opened")?;
        if !arguments.wait {
            say("the gate is open");
            return Ok(());
        }
        let patience = Duration::from_secs(arguments.timeout);
        match open_gate::told(&client, &arguments.namespace, &source, patience).await {
            Ok(Opened::Told { proxies }) => say(&format!("the gate is open, and {proxies} proxies know")),
            Ok(Opened::OutOfTime { told, connected }) => say(&format!(
                "the gate is open, and {told} of {connected} proxies know after {} s; pods of the others wait \
                 until they are restarted without a proxy",
                arguments.timeout
            )),
            Err(error) => say(&format!("the gate is open; whether the proxies know can't be told: {error}")),
        }
        anyhow::Ok(())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(opening)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
