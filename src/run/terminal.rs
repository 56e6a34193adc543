//! The terminal of a run: the command writes into a pseudo-terminal, and what it writes is shown on the real one, byte
//! for byte, beside the progress line. So the two never mix, and the command still sees a terminal of the real width.
//!
//! | module | holds |
//! |---|---|
//! | `screen` | who writes to the real terminal when |
//! | `cursor` | where the command's output has left the cursor |

mod cursor;
mod screen;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Stderr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use self::screen::Screen;

/// The width that is assumed where the terminal tells none.
const COLUMNS: u16 = 80;
/// Output that a command has left behind is shown if no more than this lies between its parts …
const QUIET: Duration = Duration::from_millis(100);
/// … looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A run's terminal; its clones are the same one.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    screen: Mutex<Screen<Stderr>>,
    master: File,
    relayed: AtomicU64,
    relay: Mutex<Option<JoinHandle<()>>>,
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
}

impl Terminal {
    /// The terminal at standard error, and what the command writes to instead of it; none: there is no terminal, or no
    /// pseudo-terminal can be had.
    pub fn open() -> Option<(Terminal, Outputs)> {
        let stderr = io::stderr();
        stderr.is_terminal().then_some(())?;
        let pty = openpty(None, None).ok()?;
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        }
        let mut plain = tcgetattr(&pty.slave).ok()?;
        // The real terminal does whatever is done with output.
        plain.make_raw();
        tcsetattr(&pty.slave, OptionalActions::Now, &plain).ok()?;
        let both = is_same(io::stdout().as_fd(), stderr.as_fd());
        let shared = Shared {
            screen: Mutex::new(Screen::new(stderr, COLUMNS)),
            master: pty.master.into(),
            relayed: AtomicU64::new(0),
            relay: Mutex::new(None),
        };
        let terminal = Terminal(Arc::new(shared));
        terminal.fit();
        let relay = terminal.clone();
        let thread = std::thread::Builder::new().name("terminal".to_owned());
        let thread = thread.spawn(move || relay.relay()).ok()?;
        *terminal.0.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Some((terminal, Outputs { slave: pty.slave, both }))
    }

    /// Passes the real terminal's size on.
    pub fn fit(&self) {
        let size = tcgetwinsize(io::stderr().as_fd()).ok();
        if let Some(size) = size {
            // Fails only if the pseudo-terminal is gone, with the command.
            let _ = tcsetwinsize(&self.0.master, size);
        }
        let columns = size.map(|size| size.ws_col).filter(|columns| *columns > 0);
        self.screen().resize(columns.unwrap_or(COLUMNS));
    }

    /// Draws the progress line.
    pub fn draw(&self, variants: &[String]) {
        // A closed terminal is no failure, here and below.
        let _ = self.screen().draw(variants, Instant::now());
    }

    /// Shows a message.
    pub fn message(&self, text: &str) {
        let _ = self.screen().message(text, Instant::now());
    }

    /// The command has ended: shows the rest of its output, then nothing more of it.
    pub fn finish(&self) {
        let relay = self.0.relay.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut seen = (self.0.relayed.load(Ordering::Relaxed), Instant::now());
        // Processes that it has left behind may keep the pseudo-terminal open.
        while relay.as_ref().is_some_and(|thread| !thread.is_finished()) && seen.1.elapsed() < QUIET {
            std::thread::sleep(LOOK_EVERY);
            let relayed = self.0.relayed.load(Ordering::Relaxed);
            if relayed != seen.0 {
                seen = (relayed, Instant::now());
            }
        }
        let _ = self.screen().finish();
    }

    fn relay(&self) {
        let mut buffer = [0; 16 * 1024];
        let mut master = &self.0.master;
        loop {
            match master.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    let _ = self.screen().relay(&buffer[..length]);
                    self.0.relayed.fetch_add(length as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: nobody has it open any more.
                Err(_) => return,
            }
        }
    }

    fn screen(&self) -> MutexGuard<'_, Screen<Stderr>> {
        self.0.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let device = |fd| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino, stat.st_rdev));
    one.is_terminal() && device(one).is_some() && device(one) == device(other)
}
