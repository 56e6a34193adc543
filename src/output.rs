//! Output: results to standard output, messages and logs to standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use quotakeeper_wire::printable::printable;
use tracing_subscriber::EnvFilter;

/// The exit code for wrong input, before anything is started.
pub const BAD_INPUT: u8 = 2;
/// The variable with the log filter, in the syntax of tracing's `EnvFilter`.
const FILTER: &str = "QUOTAKEEPER_LOG";

/// Where messages go while a command shares the terminal.
type Messages = Box<dyn Fn(&str) + Send>;
static MESSAGES: Mutex<Option<Messages>> = Mutex::new(None);

/// Sends messages and logs through `messages`, a text of one or more lines at a time; none: to standard error again.
pub fn send_messages(messages: Option<Messages>) {
    *MESSAGES.lock().unwrap_or_else(PoisonError::into_inner) = messages;
}

/// Prints a result. A closed pipe, as after `head`, is no failure.
pub fn print(text: &str) -> ExitCode {
    match written(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write the result: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints a part of a result. Returns whether there is still somebody who reads it.
pub fn printed(text: &str) -> bool {
    written(text).is_ok()
}

fn written(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints a message of one or more lines to standard error. It may hold words of a provider.
pub fn say(text: &str) {
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    // A closed standard error is no failure.
    let _ = Lines.write_all(format!("quotakeeper: {}\n", lines.join("\n")).as_bytes());
}

/// Standard error, or whatever stands before it. Whole lines are written at once.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &*MESSAGES.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(messages) => messages(String::from_utf8_lossy(bytes).trim_end_matches('\n')),
            None => io::stderr().lock().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether text for people may have colours: on a terminal, unless `NO_COLOR` is set (no-color.org).
fn has_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The filter of `QUOTAKEEPER_LOG`, else `default`.
///
/// # Errors
/// A sentence, if the variable holds no filter.
fn filter(default: &str) -> anyhow::Result<EnvFilter> {
    match std::env::var(FILTER) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            anyhow::anyhow!(
                "{FILTER}={text:?} is no log filter ({error}); write a level such as info, or TARGET=LEVEL, separated \
                 by commas"
            )
        }),
        _ => Ok(EnvFilter::new(default)),
    }
}

/// Starts logging with the filter in `QUOTAKEEPER_LOG`, else `default`. `quotakeeper::access=info` is a line for each
/// call.
///
/// # Errors
/// A sentence, if the variable holds no filter.
pub fn start_logging(default: &str) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(default)?)
        .with_writer(|| Lines)
        .with_ansi(has_colours())
        .finish();
    // Fails only if logging was started before.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// The format of a service's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging of a process in a cluster, with the filter in `QUOTAKEEPER_LOG`, else `default`. A variable that
/// holds no filter is logged: a pod that does not start would be worse.
pub fn start_service_logging(default: &str, format: LogFormat) {
    let (filter, wrong) = match filter(default) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Fails only if logging was started before.
    let _ = match format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(subscriber.with_ansi(has_colours()).finish())
        }
        LogFormat::Json => tracing::subscriber::set_global_default(subscriber.json().finish()),
    };
    if let Some(error) = wrong {
        tracing::error!("{error}");
    }
}
