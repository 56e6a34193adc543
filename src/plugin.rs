//! `kubectl apiquota`: what quotas do in a cluster, and why a pod waits. kubectl finds it as a program of the name
//! `kubectl-apiquota`: this one, under that name.
//!
//! | room | holds |
//! |---|---|
//! | `cluster` | the connection to the cluster, and its errors as sentences |
//! | `pods` | the pods of a workload, and whether they have a proxy |
//! | `sidecar` | what a proxy in a pod says of its quotas |
//! | `status` | `status`: the quotas of a namespace |
//! | `explain` | `explain`: why a pod or a workload waits |
//! | `top` | `top`: who uses and waits, by workload |
//! | `plan` | `plan`: whether a campaign fits the cluster's quotas |
//! | `check` | `check`: whether the installation works, and which pods go around it |
//! | `by_hand` | `pause`, `resume`: a person holds a quota's calls, or has them go on |
//! | `words` | figures and times for people |

mod by_hand;
mod check;
mod cluster;
mod explain;
mod plan;
mod pods;
mod sidecar;
mod status;
mod top;
mod words;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::output::{BAD_INPUT, print, say};
use crate::plan::PlanOptions;
use crate::tables::Format;
use cluster::{Cluster, ClusterArguments};

/// The program's name, as kubectl looks for it.
const PROGRAM: &str = "kubectl-apiquota";

/// The exit code of what was looked at and is not well.
const NOT_WELL: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  kubectl apiquota status -n gtm
  kubectl apiquota explain job/enrich -n gtm
  kubectl apiquota explain enrich-7x2kq -n gtm -o json
  kubectl apiquota top
  kubectl apiquota check --wait 120
  kubectl apiquota plan -f campaign.yaml -n gtm
  kubectl apiquota pause openai --for 30m -n gtm

Exit code: 0; 1 if the cluster does not answer as it should; 2 for a wrong option or file; 3 if
what was looked at is not well (check), or a campaign does not fit (plan).";

/// API quotas of this cluster: what is used and left, who waits, and why.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    bin_name = "kubectl apiquota",
    version,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
struct Plugin {
    #[command(flatten)]
    cluster: ClusterArguments,

    #[command(subcommand)]
    command: Command,
}

/// How a result is printed.
#[derive(Debug, Args)]
struct OutputArguments {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORM")]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show quotas with all of their limits, what waits, and what is wrong.
    Status {
        /// A quota; none: all of the namespace.
        name: Option<String>,
        #[command(flatten)]
        form: OutputArguments,
    },
    /// Say why a pod or a workload waits: what it may draw, its place, and about how long it still waits.
    Explain {
        /// POD, pod/POD, job/JOB, cronjob/…, deployment/…, statefulset/…, daemonset/….
        #[arg(value_name = "POD|KIND/NAME")]
        object: String,
        #[command(flatten)]
        form: OutputArguments,
    },
    /// Show who uses and waits now, by quota and workload. It reads the limiter's metrics.
    Top {
        /// Look again and again, every so many seconds.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
        watch: Option<u64>,
        #[command(flatten)]
        form: OutputArguments,
    },
    /// Check that the installation works, and which pods go around it.
    Check {
        #[command(flatten)]
        arguments: check::CheckArguments,
        #[command(flatten)]
        form: OutputArguments,
    },
    /// Say whether a campaign fits the cluster's quotas as they are used now, when it is done, and what it costs.
    Plan(PlanOptions),
    /// Hold all calls of a quota for a while: they wait, and go on by themselves.
    Pause {
        /// The quota.
        name: String,
        /// For how long, such as 30m, 2h or 1d.
        #[arg(long = "for", value_name = "TIME", value_parser = crate::plan::length)]
        length: Duration,
    },
    /// Have a quota's calls go on, whether a person or the provider has paused them.
    Resume {
        /// The quota.
        name: String,
    },
    /// Print a script that completes commands and options.
    Completion {
        /// Of which shell.
        shell: Shell,
    },
}

/// Whether this process was called as the plugin.
pub fn is_called() -> bool {
    let called = std::env::args_os().next();
    let name = called.as_ref().map(Path::new).and_then(Path::file_stem);
    // kubectl looks for names of several words with an underscore for a hyphen.
    name.is_some_and(|name| name == PROGRAM)
}

/// Runs it.
pub fn main() -> ExitCode {
    let Plugin { cluster, command } = Plugin::parse();
    if let Command::Completion { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Plugin::command(), PROGRAM, &mut script);
        return print(&String::from_utf8_lossy(&script));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match run(&cluster, command).await {
            Ok(code) => code,
            Err(error) => {
                say(&sentence(&error));
                ExitCode::from(if error.is::<cluster::BadInput>() { BAD_INPUT } else { 1 })
            }
        }
    })
}

async fn run(arguments: &ClusterArguments, command: Command) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(arguments).await?;
    match command {
        Command::Status { name, form } => status::run(&cluster, name.as_deref(), form.output).await,
        Command::Explain { object, form } => explain::run(&cluster, &object, form.output).await,
        Command::Top { watch, form } => top::run(&cluster, watch, form.output).await,
        Command::Check { arguments, form } => check::run(&cluster, &arguments, form.output).await,
        Command::Pause { name, length } => by_hand::pause(&cluster, &name, length).await,
        Command::Resume { name } => by_hand::resume(&cluster, &name).await,
        Command::Plan(options) => plan::run(&cluster, &options).await,
        Command::Completion { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// An error with its causes, as far as they are not in it already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
