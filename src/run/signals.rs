//! The signals that ask this process to do something, and who sent them.
//!
//! A signal from a process (`kill`, a supervisor, CI) reaches this process only and has to be forwarded. A signal from
//! the terminal (Ctrl-C, Ctrl-\) reaches the whole foreground group, so the command has it already: forwarded, it
//! would arrive twice, and many programs treat a second Ctrl-C as "at once".

use std::io;

use nix::sys::signal::Signal;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::mpsc;

/// The signals that are forwarded.
const CAUGHT: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    pub signal: Signal,
    /// Whether the kernel sent it, as it does to a terminal's foreground group.
    pub by_kernel: bool,
}

/// Signals, caught from the moment that this is made until it is dropped.
pub struct Signals {
    caught: mpsc::UnboundedReceiver<Caught>,
    handle: Handle,
}

impl Signals {
    /// Catches them. To be called before the command is started: a signal that came in between would end this process
    /// and leave the command to itself.
    ///
    /// # Errors
    /// When signals can't be watched.
    pub fn catch() -> io::Result<Signals> {
        let ignored = ignored();
        let wanted =
            CAUGHT.into_iter().map(|signal| signal as i32).filter(|number| !ignored.contains(number));
        let mut signals = SignalsInfo::<WithOrigin>::new(wanted)?;
        let handle = signals.handle();
        let (sender, caught) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                // Nobody listens any more when the command has ended.
                if read(&origin).is_some_and(|caught| sender.send(caught).is_err()) {
                    return;
                }
            }
        })?;
        Ok(Signals { caught, handle })
    }

    /// The next one; none when no more can come.
    pub async fn next(&mut self) -> Option<Caught> {
        self.caught.recv().await
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn read(origin: &Origin) -> Option<Caught> {
    let signal = Signal::try_from(origin.signal).ok()?;
    Some(Caught { signal, by_kernel: origin.cause == Cause::Kernel })
}

/// What whoever started this process wants to be ignored, as `nohup` does: the command ignores it too, as long as
/// nobody here catches it.
fn ignored() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    (1..=64).filter(|number| mask >> (number - 1) & 1 == 1).collect()
}
