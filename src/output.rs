//! Output: results to standard output, messages and logs to standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The exit code for wrong input, before anything is started.
pub const BAD_INPUT: u8 = 2;

/// Prints a result. A closed pipe, as after `head`, is no failure.
pub fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write the result: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints a message to standard error.
pub fn say(text: &str) {
    // A closed standard error is no failure.
    let _ = writeln!(io::stderr().lock(), "quotakeeper: {text}");
}

/// Starts logging with the filter in `QUOTAKEEPER_LOG` (the syntax of tracing's `EnvFilter`), else `default`.
/// `quotakeeper::access=info` is a line for each call.
pub fn start_logging(default: &str) {
    let filter = EnvFilter::try_from_env("QUOTAKEEPER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .finish();
    // Fails only if logging was started before.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The format of a service's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging of a process in a cluster, with the filter in `QUOTAKEEPER_LOG`, else `default`.
pub fn start_service_logging(default: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("QUOTAKEEPER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Fails only if logging was started before.
    let _ = match format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(subscriber.with_ansi(io::stderr().is_terminal()).finish())
        }
        LogFormat::Json => tracing::subscriber::set_global_default(subscriber.json().finish()),
    };
}
