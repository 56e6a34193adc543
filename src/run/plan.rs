//! What `run --dry-run` shows: what a run would enforce, set and intercept.

use std::fmt::Write;

use quotakeeper_dialects::patience::LONGEST;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::headroom;
use quotakeeper_wire::trust_variables::CA_VARIABLES;

use super::interception::Interception;
use super::records::state_folder;
use super::run_ledger;
use super::words::duration;
use crate::cli::RunArguments;
use crate::limits;

/// The plan of a run.
pub fn of(
    arguments: &RunArguments,
    accounts: &[CompiledAccount],
    interception: Option<&Interception>,
) -> String {
    let mut plan = String::new();
    // Writing into a string does not fail, here and below.
    let _ = writeln!(
        plan,
        "Nothing was started. This run would:\n\nKeep calls within\n{}",
        limits::declared(accounts)
    );
    for account in accounts {
        let _ = writeln!(plan, "{}", waits(account));
    }
    let proxy = match arguments.listen.port() {
        0 => format!("http://{}:PORT", arguments.listen.ip()),
        _ => format!("http://{}", arguments.listen),
    };
    let _ = writeln!(plan, "\nSet for the command");
    for (name, value) in accounts.iter().flat_map(|it| it.profile.environment(&proxy, it.provider())) {
        let own = std::env::var_os(&name).is_some_and(|value| !value.is_empty());
        let note =
            if own { "  (is set already and stays: calls that follow it are not limited)" } else { "" };
        let _ = writeln!(plan, "  {name}={value}{note}");
    }
    let _ = writeln!(plan, "  {}={proxy}{}", headroom::VARIABLE, headroom::PATH);
    match interception {
        Some(interception) => {
            let _ = writeln!(
                plan,
                "  {}: a file with the run's own CA added\n\nShow the command a private /etc/hosts\n  {}  {}",
                CA_VARIABLES.join(", "),
                interception.address(),
                interception.names().join(" ")
            );
        }
        None => {
            let _ = writeln!(
                plan,
                "\nIntercept no hosts: clients that ignore these variables would not be limited"
            );
        }
    }
    let folder = state_folder(arguments.state.as_deref());
    let files = run_ledger::files(arguments.ledger.as_deref(), folder.as_deref(), accounts);
    if !files.is_empty() {
        let _ = writeln!(plan, "\nRecord use in\n  {}", run_ledger::names(&files).join("\n  "));
    }
    let user = arguments.user.as_ref().map(|user| format!("as {user}: ")).unwrap_or_default();
    let _ = writeln!(plan, "\nRun\n  {user}{}", arguments.command.join(" "));
    plan
}

fn waits(account: &CompiledAccount) -> String {
    let longest = account.engine.queue.max_wait;
    match longest >= LONGEST {
        true => format!("{}: calls wait as long as their client does", account.quota),
        false => format!("{}: calls wait {} at most", account.quota, duration(longest)),
    }
}
