//! `quotakeeper limiter`: the process around `quotakeeper-limiter`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use quotakeeper_limiter::process::{self, Options};
use quotakeeper_limiter::{Offline, Terms};
use tokio::signal::unix::{SignalKind, signal};

use crate::core_dumps;
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

    /// Where peers reach --listen: the pod's address, or address and port. The Lease tells it, so that they find the active
    /// limiter at once.
    #[arg(long, env = "QUOTAKEEPER_ADDRESS", value_name = "ADDR[:PORT]", value_parser = address)]
    address: Option<Advertised>,

    /// There may be other limiters: one is active, and another takes over when the Lease was not renewed for so many
    /// seconds. Default: this is the only one.
    #[arg(long, env = "QUOTAKEEPER_LEASE_SECONDS", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(2..=60))]
    lease_seconds: Option<u32>,

    /// The part of each limit that the active limiter goes on granting while it can't renew its Lease because the API server
    /// is away, in percent. One that takes over without a handover leaves it out. Default: calls wait.
    #[arg(long, env = "QUOTAKEEPER_OFFLINE_PERCENT", value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50))]
    offline_percent: u32,

    /// For how long after the last renewal it goes on granting that part.
    #[arg(long, env = "QUOTAKEEPER_OFFLINE_SECONDS", value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    offline_seconds: u32,

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

/// An address, perhaps with a port.
#[derive(Clone, Copy, Debug)]
struct Advertised {
    ip: IpAddr,
    port: Option<u16>,
}

impl Advertised {
    fn with_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

fn address(text: &str) -> Result<Advertised, String> {
    if let Ok(ip) = text.parse() {
        return Ok(Advertised { ip, port: None });
    }
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is no address; write 10.0.0.7 or 10.0.0.7:8443"))?;
    Ok(Advertised { ip: address.ip(), port: Some(address.port()) })
}

/// Runs the limiter until SIGTERM or SIGINT.
pub fn main(arguments: LimiterArguments) -> ExitCode {
    core_dumps::off();
    start_service_logging(LOG, arguments.log_format);
    let (percent, length) =
        (arguments.offline_percent, Duration::from_secs(arguments.offline_seconds.into()));
    let options = Options {
        offline: (percent > 0).then_some(Offline { percent, length }),
        namespace: arguments.namespace,
        listen: arguments.listen,
        metrics: arguments.metrics,
        ledger: arguments.ledger,
        holder: arguments.identity,
        address: arguments.address.map(|address| address.with_port(arguments.listen.port())),
        terms: arguments.lease_seconds.map(|seconds| Terms { length: Duration::from_secs(seconds.into()) }),
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
