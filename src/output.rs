//! Where words go: results to standard output, messages and logs to standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The exit code for input that is wrong: nothing was started.
pub const BAD_INPUT: u8 = 2;

/// Prints a result. A reader that has gone away, as `head` does, is no failure.
pub fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write the result: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says something to the person at the terminal.
pub fn say(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "quotakeeper: {text}");
}

/// Logs as `QUOTAKEEPER_LOG` says (the syntax of tracing's `EnvFilter`); otherwise as `default`.
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

/// How a service's log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs of a process in a cluster, as `QUOTAKEEPER_LOG` says, otherwise as `default`.
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
