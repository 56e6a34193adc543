//! Prints the table: `bench [decision] [memory] [proxy] [streams] [--nginx PROGRAM]`, all parts if none is named.
//! `bench profile CONTESTANT TIMES` runs one contestant of the decision alone, for a profiler.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quotakeeper_benches::{decision, machine, memory, overhead, table};

fn main() -> anyhow::Result<()> {
    machine::refuse_debug()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [profile, name, times] = arguments.as_slice()
        && profile == "profile"
    {
        return decision::contestant(name)?.run(times.parse().context("TIMES is a number")?);
    }
    let wanted = Wanted::read(arguments)?;
    let own = std::env::current_exe().context("this program's own place")?;
    let binaries = own.parent().context("this program's folder")?;

    println!("{}", machine::describe());
    let mut rows = Vec::new();
    if wanted.part("decision") {
        rows.extend(decision::measure()?);
    }
    if wanted.part("memory") {
        rows.extend(memory::measure(binaries)?);
    }
    if wanted.nginx.is_none() && (wanted.part("proxy") || wanted.part("streams")) {
        println!("nginx is left out: none was given with --nginx");
    }
    if wanted.part("proxy") {
        rows.extend(overhead::measure(binaries, wanted.nginx.as_deref())?);
    }
    if wanted.part("streams") {
        rows.extend(overhead::streams::measure(binaries, wanted.nginx.as_deref())?);
    }
    println!("load at the end {}\n\n{}", machine::load(), table::render(&rows));
    Ok(())
}

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    parts: Vec<String>,
    nginx: Option<PathBuf>,
}

impl Wanted {
    fn read(arguments: Vec<String>) -> anyhow::Result<Wanted> {
        let mut wanted = Wanted::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "decision" | "memory" | "proxy" | "streams" => wanted.parts.push(argument),
                "--nginx" => {
                    let program = arguments.next().context("--nginx needs the program's path")?;
                    // Empty where the machine has none.
                    wanted.nginx = (!program.is_empty()).then(|| Path::new(&program).to_owned());
                }
                _ => bail!(
                    "{argument} is not known; name decision, memory, proxy or streams, or --nginx PROGRAM"
                ),
            }
        }
        Ok(wanted)
    }

    fn part(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| part == name)
    }
}
