//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quotakeeper_proxy::resolve::Override;

use crate::check::CheckArguments;
use crate::limiter::LimiterArguments;
use crate::open_gate::OpenGateArguments;
use crate::operator::OperatorArguments;

/// Keeps workflows inside the quotas of the external APIs that they call.
#[derive(Debug, Parser)]
#[command(name = "quotakeeper", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command whose calls stay inside a quota: no cluster, no change of code.
    Run(Box<RunArguments>),
    /// Reconcile quotas and serve the admission webhook, in a cluster.
    Operator(Box<OperatorArguments>),
    /// Let all calls pass, before an uninstall.
    OpenGate(OpenGateArguments),
    /// Grant calls their turns, in a cluster.
    Limiter(Box<LimiterArguments>),
    /// Say whether an installation works: its programs answer, and a quota is in force.
    Check(CheckArguments),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`.
    Crds,
}

const EXAMPLES: &str = "\
Examples:
  # Calls to OpenAI wait their turn; `enrich.py` is unchanged.
  quotakeeper run -f openai.yaml -- python enrich.py

  # Two accounts, a report for a script to read.
  quotakeeper run -f openai.yaml -f hubspot.yaml --report report.json -- ./campaign.sh

  # A line for each call: what it waited for and how long.
  QUOTAKEEPER_LOG=quotakeeper::access=info quotakeeper run -f openai.yaml -- node enrich.mjs

The smallest quota:
  apiVersion: quotakeeper.dev/v1alpha1
  kind: ApiQuota
  metadata: {name: openai}
  spec:
    provider: {name: openai, tier: tier-1}

Exit code: the command's own (128 + n if signal n ended it); 2 if a file or an option is wrong, and
nothing was started; 126 or 127 if the command could not be started; 1 if Quotakeeper itself failed.";

/// What `quotakeeper run` is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArguments {
    /// A file with ApiQuotas (and your own ApiProviders); repeatable, `-` reads standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Where the proxy listens for base-URL clients; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,

    /// Whether clients that know no base-URL variable are caught by a private /etc/hosts and a CA
    /// of this run alone.
    #[arg(long, value_enum, default_value_t = HostsMode::Auto)]
    pub hosts: HostsMode,

    /// Connect to ADDR instead of what DNS says for HOST, like curl's option; repeatable.
    #[arg(long, value_name = "HOST:PORT:ADDR[:PORT]")]
    pub resolve: Vec<Override>,

    /// Trust the CA certificates of this PEM file at the provider's end too; repeatable.
    #[arg(long, value_name = "FILE")]
    pub upstream_ca: Vec<PathBuf>,

    /// How to show what is used, what waits and until when.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,

    /// Write the final report as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Remember here what was used, so that the next run with this file goes on where this one ended,
    /// even if it was killed. One run at a time can use it. Without it each run begins carefully:
    /// one call asks the provider how things stand.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// Serve /metrics, /healthz and /readyz here.
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Whether hosts are intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostsMode {
    /// Where a provider has no base-URL variable; refuses to start where that can't be had.
    Auto,
    /// For all providers.
    On,
    /// Never: clients without a base-URL variable are not limited.
    Off,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// One line that changes on a terminal, else as `plain`.
    Auto,
    /// A line whenever something begins or ends, and every ten seconds while calls wait.
    Plain,
    /// Nothing but the final report.
    Off,
}
