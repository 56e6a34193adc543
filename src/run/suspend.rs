//! Ctrl-Z: the run stops with its command, after it has shown what the command has written.
//!
//! The signal is blocked in all threads but one, which waits for it and then lets it do what it does.

use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::Pid;

use super::terminal::Terminal;

/// A command that puts its screen in order first stops by itself soon after.
const STOPS: Duration = Duration::from_millis(500);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Blocks the signal in this thread and those that it starts. To be called before there are others.
pub fn block() {
    // It fails for unknown signals only.
    let _ = stop().thread_block();
}

/// Does something with the signal as the command is to have it: not blocked.
pub fn unblocked<T>(start: impl FnOnce() -> T) -> T {
    let was = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGTSTP));
    let _ = stop().thread_unblock();
    let started = start();
    if was {
        block();
    }
    started
}

/// Waits for the signal on a thread of its own, until the process ends.
pub fn follow(terminal: Option<Terminal>, command: Pid) {
    // Without it, Ctrl-Z does nothing to the run.
    let _ = std::thread::Builder::new().name("suspend".to_owned()).spawn(move || {
        while stop().wait().is_ok() {
            let until = Instant::now() + STOPS;
            while terminal.is_some() && !has_stopped(command) && Instant::now() < until {
                std::thread::sleep(LOOK_EVERY);
            }
            terminal.iter().for_each(Terminal::rest);
            // The kernel decides: nothing stops where nobody could let it go on.
            let _ = raise(Signal::SIGTSTP);
            unblocked(|| ());
            terminal.iter().for_each(Terminal::fit);
        }
    });
}

fn stop() -> SigSet {
    SigSet::from(Signal::SIGTSTP)
}

/// The state behind the name in /proc/PID/stat (proc(5)).
fn has_stopped(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
