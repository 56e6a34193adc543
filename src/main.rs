//! `quotakeeper`: keeps workflows inside the quotas of the external APIs that they call.
//!
//! | room | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`check`] | `quotakeeper check`: whether an installation works |
//! | [`run`] | `quotakeeper run`: proxy and limiter in one process around a command |
//! | [`providers`] | `quotakeeper providers`: the built-in profiles |
//! | [`limits`] | `quotakeeper limits`: the limits of quota files |
//! | [`plugin`] | `kubectl apiquota`: quotas of a cluster, and why a pod waits |
//! | [`plan`] | `quotakeeper plan`: whether a campaign fits its quotas |
//! | [`tables`] | tables and other forms of results |
//! | [`operator`] | `quotakeeper operator`: reconciles quotas, serves the admission webhook |
//! | [`open_gate`] | `quotakeeper open-gate`: sends all calls without limits, before an uninstall |
//! | [`limiter`] | `quotakeeper limiter`: grants calls, for all pods |
//! | [`output`] | results, messages and logs |

mod check;
mod cli;
mod core_dumps;
mod limiter;
mod limits;
mod open_gate;
mod operator;
mod output;
mod plan;
mod plugin;
mod providers;
mod run;
mod tables;

use std::process::ExitCode;

fn main() -> ExitCode {
    if plugin::is_called() {
        return plugin::main();
    }
    match cli::parse().command {
        cli::Command::Run(arguments) => run::main(*arguments),
        cli::Command::Operator(arguments) => operator::main(*arguments),
        cli::Command::OpenGate(arguments) => open_gate::main(arguments),
        cli::Command::Limiter(arguments) => limiter::main(*arguments),
        cli::Command::Check(arguments) => check::main(&arguments),
        cli::Command::Crds => crds(),
        cli::Command::Providers(arguments) => providers::main(&arguments),
        cli::Command::Limits(arguments) => limits::main(&arguments),
        cli::Command::Plan(arguments) => plan::main(&arguments),
        cli::Command::Resolve(arguments) => run::names_within::main(&arguments),
        cli::Command::AsUser(arguments) => run::user::main(&arguments),
    }
}

fn crds() -> ExitCode {
    match quotakeeper_api::crds::yaml() {
        Ok(files) => {
            let documents: Vec<String> = files.into_iter().map(|(_, text)| text).collect();
            output::print(&documents.join("---\n"))
        }
        Err(error) => {
            output::say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
