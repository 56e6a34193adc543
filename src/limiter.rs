//! `quotakeeper limiter`: the process around `quotakeeper-limiter`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use quotakeeper_limiter::process::{self, Options};
use tokio::signal::unix::{SignalKind, signal};

use crate::output::{LogFormat, say, start_service_logging};

/// The default log filter.
const LOG: &str = "info,kube=warn,hyper=warn,tower=warn";

/// The arguments of `quotakeeper limiter`.
#[derive(Debug, Args)]
pub struct LimiterArguments {
    /// Its namespace, which is the operator's too.
    #[arg(long, env = "POD_NAMESPACE", default_value = "quotakeeper", value_name = "NAME")]
    namespace: String,

    /// The name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "quotakeeper-limiter", value_name = "NAME")]
    identity: String,

    /// Address for proxies and the operator, over TLS.
    #[arg(long, env = "QUOTAKEEPER_LISTEN", default_value = "0.0.0.0:8443", value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "QUOTAKEEPER_METRICS", default_value = "0.0.0.0:9090", value_name = "ADDR:PORT")]
    metrics: SocketAddr,

    /// The ledger: what calls were charged, written ahead so that a killed limiter continues where it was.
    #[arg(
        long,
        env = "QUOTAKEEPER_LEDGER",
        default_value = "/var/lib/quotakeeper/ledger.redb",
        value_name = "FILE"
    )]
    ledger: PathBuf,

    /// Format of log lines.
    #[arg(long, env = "QUOTAKEEPER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Runs the limiter until SIGTERM or SIGINT.
pub fn main(arguments: LimiterArguments) -> ExitCode {
    start_service_logging(LOG, arguments.log_format);
    let options = Options {
        namespace: arguments.namespace,
        listen: arguments.listen,
        metrics: arguments.metrics,
        ledger: arguments.ledger,
        holder: arguments.identity,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome =
        runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(run(options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    // Before anything starts, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be watched")?;
    let signalled = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    process::run(options, signalled).await
}
