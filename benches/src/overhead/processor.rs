//! How long a process and its children have run on a processor.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// A tick of the kernel's accounts: USER_HZ is 100 on every architecture that Linux is built for here.
const TICK: Duration = Duration::from_millis(10);

/// In user space and in the kernel, all threads, and the children that live.
///
/// # Errors
/// When there is no such process.
pub fn time(process: u32) -> anyhow::Result<Duration> {
    let own = fs::read_to_string(format!("/proc/{process}/stat"));
    let own = own.with_context(|| format!("process {process} is gone"))?;
    let mut ticks = fields(&own).context("/proc/PID/stat does not read")?.ticks;
    for entry in fs::read_dir("/proc").context("/proc can't be read")?.flatten() {
        // Not a process, or one that has ended meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(child) = fields(&stat).filter(|child| child.parent == process) {
            ticks += child.ticks;
        }
    }
    Ok(TICK * ticks)
}

struct Fields {
    parent: u32,
    ticks: u32,
}

/// proc_pid_stat(5): fields 4 (ppid), 14 (utime) and 15 (stime). The second is the program's name,
/// which may hold spaces and brackets.
fn fields(stat: &str) -> Option<Fields> {
    let (_, rest) = stat.rsplit_once(')')?;
    let rest: Vec<&str> = rest.split_whitespace().collect();
    let number = |place: usize| rest.get(place)?.parse::<u32>().ok();
    Some(Fields { parent: number(1)?, ticks: number(11)? + number(12)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_shifts_no_field() {
        let stat = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0 100 0 0";
        let fields = fields(stat).unwrap();
        assert_eq!((fields.parent, fields.ticks), (7, 300));
    }

    #[test]
    fn this_process_has_a_time_and_a_gone_one_has_none() {
        assert!(time(std::process::id()).is_ok());
        assert!(time(u32::MAX).unwrap_err().to_string().contains("is gone"));
    }
}
