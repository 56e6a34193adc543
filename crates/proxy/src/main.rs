//! `quotakeeper-proxy`: the proxy beside an application, in a pod.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::prctl::set_dumpable;
use quotakeeper_proxy::sidecar;
use tracing_subscriber::EnvFilter;

const ABOUT: &str = "\
Holds a pod's calls to API providers until their quota grants them. It is injected beside the
application by quotakeeper's webhook and told everything by one variable of its environment:

  QUOTAKEEPER_BOOTSTRAP   JSON: where the limiter is, which quotas the pod draws on, how it is called
  QUOTAKEEPER_LOG         what to log, `info` without a line for each call where it isn't set;
                          `info,quotakeeper::access=info` adds it, with the endpoint's pattern for a path,
                          and `info,quotakeeper::access=debug` with the path, which may hold credentials

It listens on 127.0.0.1:15801 for base URLs, on 127.0.0.1:443 and :80 in the providers' place where
quotas are caught by hosts, and on port 15820 for /healthz, /readyz and /metrics.

Examples:
  # What it serves in a running pod
  kubectl get --raw /api/v1/namespaces/NAMESPACE/pods/POD:15820/proxy/metrics

  # Without a cluster
  quotakeeper run --help";

#[derive(Parser)]
#[command(name = "quotakeeper-proxy", version, about = "The proxy beside an application", after_help = ABOUT)]
struct Arguments {}

/// How long work that can't be interrupted, such as the decoding of a body, may hold up the end of the process.
const LAST_WORK: Duration = Duration::from_millis(50);

/// Logged where nothing else is asked for.
const DEFAULT_LOG: &str = "info,quotakeeper::access=off";

fn main() -> ExitCode {
    Arguments::parse();
    // Credentials and the CA's key are in its memory: other processes of its user can't read it, and no core dump has it.
    let _fails_only_without_proc = set_dumpable(false);
    let given = std::env::var("QUOTAKEEPER_LOG").ok().filter(|text| !text.is_empty());
    let given = given.map(EnvFilter::try_new).transpose();
    let wrong = given.as_ref().err().map(ToString::to_string);
    let filter = given.ok().flatten().unwrap_or_else(|| EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    if let Some(wrong) = wrong {
        tracing::error!("QUOTAKEEPER_LOG holds no log filter, {DEFAULT_LOG} is used: {wrong}");
    }
    let ended = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(sidecar::run());
        runtime.shutdown_timeout(LAST_WORK);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn no_line_for_each_call_is_logged_unless_asked_for() {
        let subscriber = tracing_subscriber::registry().with(EnvFilter::new(DEFAULT_LOG));
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(target: "quotakeeper::access", tracing::Level::ERROR));
            assert!(tracing::enabled!(target: "quotakeeper_proxy", tracing::Level::INFO));
        });
    }
}
