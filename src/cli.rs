//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use quotakeeper_api::quota::Amount;
use quotakeeper_proxy::resolve::Override;

use crate::check::CheckArguments;
use crate::limiter::LimiterArguments;
use crate::limits::LimitsArguments;
use crate::open_gate::OpenGateArguments;
use crate::operator::OperatorArguments;
use crate::output::{BAD_INPUT, say};
use crate::plan::PlanArguments;
use crate::providers::ProvidersArguments;
use crate::run::names_within::ResolveArguments;
use crate::run::stated_use::UsedArgument;
use crate::run::user::AsUserArguments;

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
    /// Run a command and keep its API calls inside a quota, without a cluster or code changes.
    Run(Box<RunArguments>),
    /// List the built-in providers with their tiers, or show one with all figures.
    Providers(ProvidersArguments),
    /// Show the limits of quotas: in force, assumed, learned, and used as far as a run has recorded it.
    Limits(LimitsArguments),
    /// Say whether a campaign fits its quotas, when it is done, and what it costs, before anything is sent.
    Plan(PlanArguments),
    /// Run the operator: reconcile quotas, serve the admission webhook.
    Operator(Box<OperatorArguments>),
    /// Send all calls without limits, before an uninstall.
    OpenGate(OpenGateArguments),
    /// Run the limiter: grant calls in a cluster.
    Limiter(Box<LimiterArguments>),
    /// Check that an installation works: its programs answer, and a quota is in force.
    Check(CheckArguments),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`.
    Crds,
    /// Print what the system's resolver says of hosts.
    #[command(hide = true)]
    Resolve(ResolveArguments),
    /// Become a user, then a command.
    #[command(hide = true)]
    AsUser(AsUserArguments),
}

/// The command line of this process; a wrong one ends it, with a sentence and exit code 2.
pub fn parse() -> Cli {
    match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let words: Vec<String> = std::env::args().collect();
            if let Some(sentence) =
                missing_option(&error, &words).or_else(|| missing_separator(&error, &words))
            {
                say(&sentence);
                std::process::exit(i32::from(BAD_INPUT));
            }
            error.exit()
        }
    }
}

/// What to say if a quota file was given without `-f` before it; none: something else is wrong.
fn missing_option(error: &clap::Error, words: &[String]) -> Option<String> {
    let unknown = error.kind() == ErrorKind::UnknownArgument;
    let takes_files =
        words.get(1).is_some_and(|command| ["run", "limits", "plan"].contains(&command.as_str()));
    let Some(ContextValue::String(file)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_quota = [".yaml", ".yml", ".json"].iter().any(|extension| file.ends_with(extension));
    let at = words.iter().position(|word| word == file).filter(|_| unknown && takes_files && is_quota)?;
    let (before, rest) = words.split_at(at);
    Some(format!(
        "`-f` is missing before the quota file; write: quotakeeper {} -f {}",
        before[1..].join(" "),
        rest.join(" ")
    ))
}

/// An address with a port.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give ADDR:PORT, such as 127.0.0.1:8080 or [::1]:0".to_owned())
}

/// A number of records: whole, or with `k` or `M`.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn records(text: &str) -> Result<u64, String> {
    let amount = text.parse().map_or_else(|_| Amount::Text(text.to_owned()), Amount::Number);
    amount.units().map_err(|message| message.into_owned())
}

/// What to say if `run` was given a command without `--` before it; none: something else is wrong.
fn missing_separator(error: &clap::Error, words: &[String]) -> Option<String> {
    let unknown = error.kind() == ErrorKind::UnknownArgument;
    if !unknown || words.get(1).map(String::as_str) != Some("run") || words.iter().any(|word| word == "--") {
        return None;
    }
    let Some(ContextValue::String(first)) = error.get(ContextKind::InvalidArg) else { return None };
    let at = words.iter().position(|word| word == first).filter(|_| !first.starts_with('-'))?;
    let (before, command) = words.split_at(at);
    Some(format!(
        "`--` is missing before the command; write: quotakeeper {} -- {}",
        before[1..].join(" "),
        command.join(" ")
    ))
}

const EXAMPLES: &str = "\
Examples:
  # Calls to OpenAI wait for the quota; `enrich.py` is unchanged.
  quotakeeper run -f openai.yaml -- python enrich.py

  # Two accounts, and a report as JSON.
  quotakeeper run -f openai.yaml -f hubspot.yaml --report report.json -- ./campaign.sh

  # What ten records take and use, for a plan of fifty thousand.
  quotakeeper run -f openai.yaml --records 10 --pilot leads.yaml -- python enrich.py --limit 10
  quotakeeper plan -f openai.yaml -f leads.yaml --records 50000 --within 8h

  # A log line for each call: why it waited and how long.
  QUOTAKEEPER_LOG=quotakeeper::access=info quotakeeper run -f openai.yaml -- node enrich.mjs

The smallest quota:
  apiVersion: quotakeeper.dev/v1alpha1
  kind: ApiQuota
  metadata: {name: openai}
  spec:
    provider: {name: openai, tier: tier-1}

Exit code: that of the command (128 + n if signal n ended it); 2 for a wrong file or option, before
anything starts; 126 or 127 if the command can't be started; 1 if Quotakeeper itself fails.";

/// The arguments of `quotakeeper run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArguments {
    /// A file with ApiQuotas (and your own ApiProviders); repeatable, `-` reads standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Address for clients with a base-URL variable; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR:PORT", value_parser = socket_address)]
    pub listen: SocketAddr,

    /// Whether to intercept the providers' hosts, by a private /etc/hosts and a CA of this run.
    #[arg(long, value_enum, default_value_t = HostsMode::Auto)]
    pub hosts: HostsMode,

    /// Connect to ADDR for HOST instead of asking DNS, like curl's --resolve; repeatable.
    #[arg(long, value_name = "HOST:PORT:ADDR[:PORT]")]
    pub resolve: Vec<Override>,

    /// Also trust the CAs in this PEM file when connecting to providers; repeatable.
    #[arg(long, value_name = "FILE")]
    pub upstream_ca: Vec<PathBuf>,

    /// How to show progress: what is used, what waits, until when.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,

    /// Print nothing but errors and warnings: no progress, no notes, no last lines.
    #[arg(short, long)]
    pub quiet: bool,

    /// Run the command as this user, with the user's groups and HOME; for interception, which needs root. Default: the
    /// user who has called sudo.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Show what would be set, intercepted and enforced, and start nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Write the final report as JSON, in the form of docs/run-report.schema.json.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Write what the calls of a few records take and use as an ApiCampaign, which `quotakeeper plan` reads for many.
    #[arg(long, value_name = "FILE", requires = "records")]
    pub pilot: Option<PathBuf>,

    /// How many records the command works through; for --pilot.
    #[arg(long, value_name = "COUNT", requires = "pilot", value_parser = records)]
    pub records: Option<u64>,

    /// Record usage in this file, so that the next run with it continues where this one ended, even if
    /// it was killed. Only one run at a time can use it [default: a file in the state folder].
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// How much of a limit was used already, where no answer of the provider tells; repeatable. Needed for limits
    /// of an hour or more where the ledger of the runs before is lost.
    #[arg(long, value_name = "[QUOTA:]LIMIT=AMOUNT")]
    pub used: Vec<UsedArgument>,

    /// Folder in which each run records which accounts it uses, and how much of them [default: $XDG_STATE_HOME/quotakeeper, else
    /// ~/.local/state/quotakeeper].
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,

    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, value_name = "ADDR:PORT", value_parser = socket_address)]
    pub admin: Option<SocketAddr>,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Whether hosts are intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostsMode {
    /// For all providers where that can be had, which needs root; an error if it can't be had and a provider's clients
    /// know no base-URL variable.
    Auto,
    /// For all providers; an error if it can't be had.
    On,
    /// Never; clients without a base-URL variable are not limited.
    Off,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A line that is updated on a terminal, which the command's output passes through unchanged; without a terminal
    /// like `plain`.
    Auto,
    /// A line per change, and every ten seconds while calls wait.
    Plain,
    /// Nothing but the final report.
    Off,
}
