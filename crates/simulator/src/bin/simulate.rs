//! Runs simulated worlds: many of them, or one again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use quotakeeper_simulator::campaign::campaign;
use quotakeeper_simulator::mutants::{MUTANTS, noticed, run_broken};
use quotakeeper_simulator::stories::{self, Story};

/// Runs the engine and both sessions in simulated worlds.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds over all stories, and print those that fail
    Soak {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Stop after so many minutes
        #[arg(long)]
        minutes: Option<u64>,
        /// Only this story
        #[arg(long)]
        story: Option<String>,
    },
    /// Run one world again, and say what it came to
    Replay {
        /// The story's name
        story: String,
        /// Its seed
        seed: u64,
        /// With this fault, by its name in `simulate mutants`
        #[arg(long)]
        fault: Option<String>,
    },
    /// Measure how much of a quota is used, beside what could be
    Use,
    /// Measure how limits of tokens fare in each of their stories
    Tokens {
        /// Worlds of each
        #[arg(long, default_value_t = 10)]
        seeds: u64,
    },
    /// Draw the plots of the documentation anew
    Plots {
        /// The folder that they are in
        #[arg(default_value = "docs/plots")]
        folder: PathBuf,
    },
    /// Break the rule on purpose, clause by clause, and show which stories notice
    Mutants {
        /// Seeds that are tried in each story
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// Only faults whose name contains this
        #[arg(long)]
        fault: Option<String>,
        /// Only this story
        #[arg(long)]
        story: Option<String>,
    },
    /// List the stories
    List,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Soak { seeds, from, minutes, story } => soak(from..from + seeds, minutes, story),
        Command::Replay { story, seed, fault } => replay(&story, seed, fault.as_deref()),
        Command::Use => {
            print!("{}", quotakeeper_simulator::utilisation::table());
            ExitCode::SUCCESS
        }
        Command::Tokens { seeds } => {
            print!("{}", quotakeeper_simulator::token_table::table(seeds));
            ExitCode::SUCCESS
        }
        Command::Plots { folder } => match quotakeeper_simulator::plots::draw(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the plots can't be drawn into {}: {error}", folder.display());
                ExitCode::FAILURE
            }
        },
        Command::Mutants { seeds, fault, story } => mutants(seeds, fault, story),
        Command::List => {
            for Story { name, about, .. } in stories::all() {
                println!("{name:24} {about}");
            }
            ExitCode::SUCCESS
        }
    }
}

fn find(name: &str) -> Option<Story> {
    let story = stories::named(name);
    if story.is_none() {
        eprintln!("no story is named {name}; `simulate list` names them all");
    }
    story
}

/// The stories of this name, or all.
fn chosen(story: Option<String>) -> Option<Vec<Story>> {
    match story {
        None => Some(stories::all()),
        Some(name) => find(&name).map(|story| vec![story]),
    }
}

fn mutants(seeds: u64, named: Option<String>, story: Option<String>) -> ExitCode {
    let Some(stories) = chosen(story) else { return ExitCode::from(2) };
    let wanted = |name: &str| named.as_ref().is_none_or(|part| name.contains(part.as_str()));
    for (fault, _) in MUTANTS {
        for story in stories.iter().filter(|_| wanted(&format!("{fault:?}"))) {
            if let Some((seed, faults)) = noticed(fault, story.name, 0..seeds) {
                println!("{fault:?} in {} with seed {seed}: {}", story.name, faults.join("; "));
            }
        }
    }
    ExitCode::SUCCESS
}

fn soak(seeds: std::ops::Range<u64>, minutes: Option<u64>, story: Option<String>) -> ExitCode {
    let Some(stories) = chosen(story) else { return ExitCode::from(2) };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let begun = Instant::now();
    let (mut failed, mut ran, mut calls, mut said) = (0u64, 0u64, 0u64, Instant::now());
    let total = campaign(&stories, seeds, cores, limit, |outcome| {
        ran += 1;
        calls += outcome.report.counted;
        if let Some(complaint) = outcome.complaint() {
            failed += 1;
            println!("{complaint}");
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            eprintln!("{ran} worlds, {calls} calls, {failed} failed, {:.0} s", begun.elapsed().as_secs_f64());
        }
    });
    println!(
        "{total} worlds, {calls} calls counted by the provider, {failed} failed, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(name: &str, seed: u64, fault: Option<&str>) -> ExitCode {
    let known = |wanted: &str| MUTANTS.iter().find(|(fault, _)| format!("{fault:?}").contains(wanted));
    let broken = fault.and_then(known).map(|(fault, _)| *fault);
    if let (Some(wanted), None) = (fault, broken) {
        eprintln!("no fault is named {wanted}; `simulate mutants` tries them all");
        return ExitCode::from(2);
    }
    let Some(outcome) = find(name).and_then(|story| run_broken(broken, story.name, seed)) else {
        return ExitCode::from(2);
    };
    println!("{name} with seed {seed}:\n{}", outcome.report);
    for (consumer, completed) in &outcome.report.by_consumer {
        println!("  {consumer}: {completed}");
    }
    for fault in outcome.report.faults() {
        println!("  WRONG: {fault}");
    }
    if outcome.report.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
