//! On what was measured.

use std::fs;

use anyhow::ensure;

/// Refuses a build whose figures would mean nothing.
///
/// # Errors
/// In a build without optimisation.
pub fn refuse_debug() -> anyhow::Result<()> {
    ensure!(!cfg!(debug_assertions), "this is a debug build, its figures mean nothing; use `make bench`");
    Ok(())
}

/// One line: cores, processor, kernel, and how busy the machine is with other work.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {}, Linux {}, load {}", model(&cpuinfo), kernel.trim(), load())
}

/// The average number of runnable threads over the last minute; with nothing else running, 0.
pub fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The processor as the kernel names it.
fn model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or("processor not named").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_as_the_kernel_names_it() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(model(cpuinfo), "AMD EPYC");
        assert_eq!(model("processor : 0\n"), "processor not named");
    }
}
