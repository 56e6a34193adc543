//! `quotakeeper limits`: the limits of quota files, how much of them runs have used, and what of them was learned.
//!
//! Nothing is written: a ledger is read from a copy, and a run that uses an account now is asked for what it knows.
//!
//! | room | holds |
//! |---|---|
//! | `estimates` | what was learned of the tokens of calls |
//! | `known` | what runs have recorded |
//! | `show` | the limits as a table, and for programs |

mod estimates;
pub mod known;
mod show;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use quotakeeper_wire::name::QuotaName;
use quotakeeper_wire::status::AccountReport;

use crate::output::{BAD_INPUT, print, say};
use crate::tables::{Format, text_as};

pub use show::declared;

use known::RecordArguments;

/// How often `--watch` looks.
const WATCHED_EVERY: Duration = Duration::from_secs(1);
/// Empties a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// The arguments of `quotakeeper limits`.
#[derive(Debug, Args)]
pub struct LimitsArguments {
    /// A file with ApiQuotas (and your own ApiProviders); repeatable, `-` reads standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    recorded: RecordArguments,

    /// Keep looking, and show the limits anew whenever something has changed, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,

    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORM")]
    output: Format,
}

/// What is known of accounts: their reports, by quota.
pub type Known = BTreeMap<QuotaName, AccountReport>;

/// Prints the limits.
pub fn main(arguments: &LimitsArguments) -> ExitCode {
    let result = if arguments.watch { watch(arguments) } else { shown(arguments).map(|text| print(&text)) };
    result.unwrap_or_else(|error| {
        say(&format!("{error:#}"));
        ExitCode::from(BAD_INPUT)
    })
}

fn shown(arguments: &LimitsArguments) -> anyhow::Result<String> {
    let (accounts, known) = known::look(&arguments.files, &arguments.recorded)?;
    text_as(
        arguments.output,
        || accounts.iter().map(|account| show::value(account, known.get(&account.quota))).collect(),
        |wide| show::text(&accounts, &known, wide),
    )
}

/// Prints the limits whenever they have changed, until printing fails.
fn watch(arguments: &LimitsArguments) -> anyhow::Result<ExitCode> {
    let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
    let mut before = String::new();
    loop {
        let text = shown(arguments)?;
        if text != before && !crate::output::printed(&format!("{clear}{text}")) {
            return Ok(ExitCode::SUCCESS);
        }
        before = text;
        std::thread::sleep(WATCHED_EVERY);
    }
}
