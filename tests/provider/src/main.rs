//! The counting provider as a program: reads its arguments, starts, says where it listens, stops on a signal.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Parser};
use counting_provider::{CONTROL_HELP, Options, Provider, RuleBook, start};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// A provider for tests that counts for itself: plays OpenAI, Anthropic, HubSpot and a demo API.
#[derive(Debug, Parser)]
#[command(version, after_long_help = control_help(), group = ArgGroup::new("door").required(true).multiple(true))]
struct Arguments {
    /// Listen here with TLS, HTTP/1.1 and HTTP/2 by ALPN; port 0 takes a free one
    #[arg(long, value_name = "ADDR", group = "door")]
    https: Option<SocketAddr>,
    /// Listen here in cleartext, HTTP/1.1 and HTTP/2 with prior knowledge
    #[arg(long, value_name = "ADDR", group = "door")]
    http: Option<SocketAddr>,
    /// Listen here for the control port
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// Write the addresses to this file, as JSON, once everything listens
    #[arg(long, value_name = "FILE")]
    ready: Option<PathBuf>,
    /// Write the certificate of the authority made for this run to this file, as PEM
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Rules that differ from the built-in ones, YAML or JSON
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

fn control_help() -> String {
    CONTROL_HELP.lines().filter(|line| !line.starts_with("```")).map(|line| format!("{line}\n")).collect()
}

/// A mistake in the arguments, or a machine that says no.
type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("counting-provider: {failure}");
            std::process::ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let rules = match &arguments.rules {
        Some(path) => read_rules(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => RuleBook::default(),
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let options = Options { https: arguments.https, http: arguments.http, control: arguments.control, rules };
    let provider = start(options).await?;
    if let Some(path) = &arguments.ca_out {
        write_whole(path, provider.ca_pem())?;
    }
    let ready = ready(&provider, arguments.ca_out.as_deref()).to_string();
    println!("{ready}");
    if let Some(path) = &arguments.ready {
        write_whole(path, &ready)?;
    }
    tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
    provider.stop().await;
    Ok(())
}

fn read_rules(path: &Path) -> Result<RuleBook, Failure> {
    Ok(RuleBook::parse(&std::fs::read_to_string(path)?)?)
}

fn ready(provider: &Provider, ca: Option<&Path>) -> serde_json::Value {
    json!({"https": provider.https(), "http": provider.http(), "control": provider.control(), "ca": ca})
}

// Whoever waits for the file sees all of it or none.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension("part");
    let write = || {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&beside, path)
    };
    Ok(write().map_err(|error: std::io::Error| format!("can't write {}: {error}", path.display()))?)
}
