//! The terminal of a run: the command writes into a pseudo-terminal, and what it writes is shown on the real one, byte
//! for byte, beside the progress line. So the two never mix, and the command still sees a terminal of the real width.
//!
//! One thread writes to the real terminal. Whoever has something to show leaves it and goes on: a terminal that takes
//! nothing, as after Ctrl-S, stops the command's output and nothing else.
//!
//! | module | holds |
//! |---|---|
//! | `relay` | the thread that writes to the real terminal |
//! | `modes` | how the command has set its terminal |
//! | `screen` | what is written to the real terminal when |
//! | `cursor` | where the command's output has left the cursor |

mod cursor;
mod modes;
mod relay;
mod screen;

use std::fs::File;
use std::io::{self, IsTerminal, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{User, tcgetpgrp};
use rustix::fs::FileType;
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use self::modes::Modes;
use self::relay::Relay;

/// The width that is assumed where the terminal tells none.
const COLUMNS: u16 = 80;
/// A terminal that takes nothing does not keep a run from being suspended.
const RESTS: Duration = Duration::from_secs(1);

/// A run's terminal; its clones are the same one.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    master: File,
    orders: Mutex<Orders>,
    wake: PipeWriter,
    relay: Mutex<Option<JoinHandle<()>>>,
}

/// What the relay is to do.
#[derive(Debug, Default)]
struct Orders {
    /// The relay has been woken and has not looked yet.
    woken: bool,
    size: Option<Winsize>,
    messages: Vec<String>,
    /// The progress line, from long to short.
    line: Option<Vec<String>>,
    /// Show all that the command has written, and take the line away; then answer.
    rest: Option<SyncSender<()>>,
    /// The command has ended.
    finish: bool,
}

/// What the command gets for its own output.
#[derive(Debug)]
pub struct Outputs {
    slave: OwnedFd,
    /// Standard output is the same terminal as standard error.
    both: bool,
}

impl Outputs {
    /// For standard error.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn stderr(&self) -> io::Result<Stdio> {
        Ok(self.slave.try_clone()?.into())
    }

    /// For standard output; none: it stays as it is.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn stdout(&self) -> io::Result<Option<Stdio>> {
        self.both.then(|| Ok(self.slave.try_clone()?.into())).transpose()
    }

    /// Gives the pseudo-terminal to a user, who may open it by its name then (`/dev/stderr`).
    ///
    /// # Errors
    /// This process may not.
    pub fn give_to(&self, user: &User) -> io::Result<()> {
        std::os::unix::fs::fchown(&self.slave, Some(user.uid.as_raw()), None)
    }
}

/// Whether a terminal is at standard error that nobody else writes to. Who reads the command's standard output from a
/// pipe may, and would write across the progress line.
pub fn is_ours() -> bool {
    let piped = rustix::fs::fstat(io::stdout())
        .is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket));
    io::stderr().is_terminal() && !piped
}

impl Terminal {
    /// The terminal at standard error, and what the command writes to instead of it; none: it is not ours, or no
    /// pseudo-terminal can be had.
    pub fn open() -> Option<(Terminal, Outputs)> {
        is_ours().then_some(())?;
        let stderr = io::stderr();
        let pty = openpty(None, None).ok()?;
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        }
        let modes = Modes::copied(stderr.as_fd(), pty.slave.as_fd())?;
        let both = is_same(io::stdout().as_fd(), stderr.as_fd());
        let (woken, wake) = io::pipe().ok()?;
        let shared =
            Shared { master: pty.master.into(), orders: Mutex::default(), wake, relay: Mutex::new(None) };
        let terminal = Terminal(Arc::new(shared));
        terminal.fit();
        let relay = Relay::new(terminal.clone(), stderr, woken, modes);
        let thread = std::thread::Builder::new().name("terminal".to_owned());
        let thread = thread.spawn(move || relay.run()).ok()?;
        *terminal.0.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Some((terminal, Outputs { slave: pty.slave, both }))
    }

    /// Passes the real terminal's size on. The programs in its foreground have heard of a change already, but may have
    /// read the size before: they hear again.
    pub fn fit(&self) {
        let size = tcgetwinsize(io::stderr()).ok();
        let before = tcgetwinsize(&self.0.master).ok();
        if let Some(size) = size.filter(|size| Some(size) != before.as_ref()) {
            // Fails only if the pseudo-terminal is gone, with the command.
            let _ = tcsetwinsize(&self.0.master, size);
            if let Ok(foreground) = tcgetpgrp(io::stderr()) {
                let _ = killpg(foreground, Signal::SIGWINCH);
            }
        }
        self.order(|orders| orders.size = size);
    }

    /// Draws the progress line: the longest of `variants` that fits, from long to short.
    pub fn draw(&self, variants: Vec<String>) {
        self.order(|orders| orders.line = Some(variants));
    }

    /// Shows a message.
    pub fn message(&self, text: &str) {
        self.order(|orders| orders.messages.push(text.to_owned()));
    }

    /// Shows all that the command has written, and takes the line away.
    pub fn rest(&self) {
        let (sender, done) = sync_channel(1);
        self.order(|orders| orders.rest = Some(sender));
        // It goes on late, or has ended.
        let _ = done.recv_timeout(RESTS);
    }

    /// The command has ended: shows the rest of its output, then nothing more of it.
    pub fn finish(&self) {
        self.order(|orders| orders.finish = true);
        let relay = self.0.relay.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(relay) = relay {
            // A relay that has panicked shows nothing more.
            let _ = relay.join();
        }
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) {
        let mut orders = self.orders();
        give(&mut orders);
        if !std::mem::replace(&mut orders.woken, true) {
            // Fails only if the relay has ended.
            let _ = (&self.0.wake).write(&[0]);
        }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let device = |fd| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino, stat.st_rdev));
    one.is_terminal() && device(one).is_some() && device(one) == device(other)
}
