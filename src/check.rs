//! `quotakeeper check`: whether an installation works.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use quotakeeper_operator::check;

use crate::output::{print, say};

/// The arguments of `quotakeeper check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The namespace of the installation.
    #[arg(long, env = "POD_NAMESPACE", default_value = "quotakeeper", value_name = "NAME")]
    namespace: String,

    /// A quota in that namespace that must be in force.
    #[arg(long, value_name = "NAME")]
    quota: Option<String>,

    /// Make a quota of this name in that namespace, see it come into force, and delete it.
    #[arg(long, value_name = "NAME", conflicts_with = "quota")]
    try_quota: Option<String>,

    /// How long to wait until everything works, in seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    timeout: u64,
}

/// Checks an installation. The exit code is 1 if something is missing.
pub fn main(arguments: &CheckArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let missing =
        runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(look(arguments)));
    match missing {
        Ok(missing) if missing.is_empty() => {
            let quota = arguments.quota.as_ref().or(arguments.try_quota.as_ref());
            let quota = quota.map(|name| format!(", the quota {name} is in force"));
            print(&format!("operator and limiter answer{}\n", quota.unwrap_or_default()))
        }
        Ok(missing) => {
            missing.iter().for_each(|sentence| say(sentence));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn look(arguments: &CheckArguments) -> anyhow::Result<Vec<String>> {
    let client = quotakeeper_operator::client().await.context("the cluster can't be reached")?;
    let CheckArguments { namespace, quota, try_quota, timeout } = arguments;
    let patience = Duration::from_secs(*timeout);
    Ok(match try_quota {
        Some(name) => check::missing_with_own_quota(&client, namespace, name, patience).await,
        None => check::missing(&client, namespace, quota.as_deref(), patience).await,
    })
}
