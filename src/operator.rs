//! `quotakeeper operator`: the process around `quotakeeper-operator`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use quotakeeper_operator::limiter_view::Source;
use quotakeeper_operator::{ProxyResources, Settings};
use quotakeeper_wire::bootstrap::TOKEN_FILE;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::core_dumps;
use crate::output::{BAD_INPUT, LogFormat, say, start_service_logging};

/// The default log filter.
const LOG: &str = "info,kube=warn,hyper=warn,tower=warn";
/// The first line of a certificate in PEM (RFC 7468).
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The arguments of `quotakeeper operator`.
#[derive(Debug, Args)]
pub struct OperatorArguments {
    /// Its namespace, which is the limiter's too.
    #[arg(long, env = "POD_NAMESPACE", default_value = "quotakeeper", value_name = "NAME")]
    namespace: String,

    /// The name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "quotakeeper-operator", value_name = "NAME")]
    identity: String,

    /// Address of the admission webhook, over TLS.
    #[arg(
        long,
        env = "QUOTAKEEPER_WEBHOOK_LISTEN",
        default_value = "0.0.0.0:9443",
        value_name = "ADDR:PORT"
    )]
    webhook_listen: SocketAddr,

    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "QUOTAKEEPER_METRICS", default_value = "0.0.0.0:9090", value_name = "ADDR:PORT")]
    metrics: SocketAddr,

    /// Address of the limiter. Default: `https://quotakeeper-limiter.NAMESPACE.svc:8443`.
    #[arg(long, env = "QUOTAKEEPER_LIMITER", value_name = "https://HOST:PORT")]
    limiter: Option<String>,

    /// The file with the operator's token for the limiter.
    #[arg(long, env = "QUOTAKEEPER_TOKEN_FILE", default_value = TOKEN_FILE, value_name = "FILE")]
    token_file: PathBuf,

    /// The image of the proxy that is injected.
    #[arg(long, env = "QUOTAKEEPER_PROXY_IMAGE", value_name = "IMAGE")]
    proxy_image: String,

    /// The imagePullPolicy of that image. Default: Kubernetes' own.
    #[arg(long, env = "QUOTAKEEPER_PROXY_IMAGE_PULL_POLICY", value_name = "POLICY")]
    proxy_image_pull_policy: Option<String>,

    /// A Secret, in the pods' namespaces, for pulling that image; repeatable.
    #[arg(long, env = "QUOTAKEEPER_PROXY_IMAGE_PULL_SECRETS", value_delimiter = ',', value_name = "NAME")]
    proxy_image_pull_secret: Vec<String>,

    /// Its CPU request. Default: 20m.
    #[arg(long, env = "QUOTAKEEPER_PROXY_CPU", value_name = "QUANTITY")]
    proxy_cpu: Option<String>,

    /// Its CPU limit. Default: none, or where the pod's namespace demands one --proxy-guaranteed-cpu.
    #[arg(long, env = "QUOTAKEEPER_PROXY_CPU_LIMIT", value_name = "QUANTITY")]
    proxy_cpu_limit: Option<String>,

    /// Its memory request. Default: 64Mi.
    #[arg(long, env = "QUOTAKEEPER_PROXY_MEMORY", value_name = "QUANTITY")]
    proxy_memory: Option<String>,

    /// Its memory limit. Default: 384Mi.
    #[arg(long, env = "QUOTAKEEPER_PROXY_MEMORY_LIMIT", value_name = "QUANTITY")]
    proxy_memory_limit: Option<String>,

    /// Its CPU request and limit in pods of the class Guaranteed. Default: 200m.
    #[arg(long, env = "QUOTAKEEPER_PROXY_GUARANTEED_CPU", value_name = "QUANTITY")]
    proxy_guaranteed_cpu: Option<String>,

    /// Its log filter, such as `info`. Default: its own.
    #[arg(long, env = "QUOTAKEEPER_PROXY_LOG", value_name = "FILTER")]
    proxy_log: Option<String>,

    /// CA certificates in PEM that injected proxies trust beside the system's.
    #[arg(long, env = "QUOTAKEEPER_EXTRA_CAS", value_name = "FILE")]
    extra_cas: Option<PathBuf>,

    /// Format of log lines.
    #[arg(long, env = "QUOTAKEEPER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Runs the operator until SIGTERM or SIGINT. The exit code is 2 if an option is wrong.
pub fn main(arguments: OperatorArguments) -> ExitCode {
    core_dumps::off();
    start_service_logging(LOG, arguments.log_format);
    let settings = match settings(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            say(&format!("{error:#}"));
            return ExitCode::from(BAD_INPUT);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome =
        runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(run(settings)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let stopped = stop.clone();
    tokio::spawn(async move {
        let [terminate, interrupt] = &mut signals;
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stopped.cancel();
    });
    let client = quotakeeper_operator::client().await.context("there is no way to the cluster")?;
    Ok(quotakeeper_operator::run(client, settings, stop).await?)
}

/// The limiter's address: as given, or that of its Service.
fn limiter_address(namespace: &str, given: Option<&str>) -> anyhow::Result<String> {
    let limiter =
        given.map_or_else(|| format!("https://quotakeeper-limiter.{namespace}.svc:8443"), str::to_owned);
    let host = limiter.strip_prefix("https://").unwrap_or_default();
    ensure!(
        host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
        "--limiter {limiter} names no address; write https://HOST:PORT"
    );
    Ok(limiter)
}

/// The limiter whose reports are read.
pub fn limiter_source(namespace: &str, given: Option<&str>, token_file: &Path) -> anyhow::Result<Source> {
    let limiter = limiter_address(namespace, given)?;
    Ok(Source { limiter, namespace: namespace.to_owned(), token_file: token_file.to_owned() })
}

fn settings(arguments: OperatorArguments) -> anyhow::Result<Settings> {
    let namespace = arguments.namespace;
    let limiter = limiter_address(&namespace, arguments.limiter.as_deref())?;
    let mut extra_cas_pem = String::new();
    if let Some(file) = arguments.extra_cas {
        let name = file.display();
        extra_cas_pem =
            std::fs::read_to_string(&file).with_context(|| format!("--extra-cas {name} can't be read"))?;
        ensure!(
            extra_cas_pem.trim().is_empty() || extra_cas_pem.contains(CERTIFICATE),
            "--extra-cas {name} holds no certificate; give certificates in PEM"
        );
    }
    let default = ProxyResources::default();
    let proxy_resources = ProxyResources {
        cpu: arguments.proxy_cpu.unwrap_or(default.cpu),
        cpu_limit: arguments.proxy_cpu_limit,
        memory: arguments.proxy_memory.unwrap_or(default.memory),
        memory_limit: arguments.proxy_memory_limit.unwrap_or(default.memory_limit),
        guaranteed_cpu: arguments.proxy_guaranteed_cpu.unwrap_or(default.guaranteed_cpu),
    };
    if let Err(problem) = proxy_resources.check() {
        bail!("--proxy-cpu, --proxy-memory and the like: {problem}");
    }
    Ok(Settings {
        namespace,
        identity: arguments.identity,
        webhook_listen: arguments.webhook_listen,
        metrics_listen: arguments.metrics,
        limiter,
        token_file: arguments.token_file,
        proxy_image: arguments.proxy_image,
        proxy_image_pull_policy: arguments.proxy_image_pull_policy,
        proxy_image_pull_secrets: arguments.proxy_image_pull_secret,
        proxy_resources,
        proxy_log: arguments.proxy_log,
        extra_cas_pem,
    })
}
