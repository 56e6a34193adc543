//! The thread that writes to the real terminal: the command's output, the progress line and messages.

use std::io::{self, PipeReader, Read, Stderr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpgrp, tcgetpgrp};

use super::modes::Modes;
use super::screen::Screen;
use super::{COLUMNS, Orders, Terminal};

/// How often it is looked at how the command has set its terminal, beside each part of its output.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Output of processes that the command has left behind is shown if no more than this lies between its parts, …
const QUIET: Duration = Duration::from_millis(100);
/// … for so long at most, …
const LONGEST: Duration = Duration::from_secs(1);
/// … or so much of it, in bytes. The kernel keeps far less of what the command itself has written.
const MOST: usize = 256 * 1024;

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Output,
    /// Nothing, or nothing in time.
    Nothing,
    /// Nobody has the pseudo-terminal open any more.
    Closed,
}

/// Writes to the real terminal.
pub(super) struct Relay {
    terminal: Terminal,
    screen: Screen<Stderr>,
    woken: PipeReader,
    modes: Modes,
    closed: bool,
    buffer: Vec<u8>,
}

impl Relay {
    pub(super) fn new(terminal: Terminal, stderr: Stderr, woken: PipeReader, modes: Modes) -> Relay {
        let screen = Screen::new(stderr, COLUMNS);
        Relay { terminal, screen, woken, modes, closed: false, buffer: vec![0; 16 * 1024] }
    }

    /// Relays until the command has ended.
    pub(super) fn run(mut self) {
        // The terminal may be another program's for a while; that is no reason to be stopped.
        let _ = SigSet::from(Signal::SIGTTOU).thread_block();
        loop {
            self.wait();
            self.modes.follow(&self.terminal.0.master);
            if !self.closed && self.ready(Duration::ZERO) == Ready::Output {
                self.relay();
            }
            let orders = std::mem::take(&mut *self.terminal.orders());
            let finish = orders.finish;
            self.obey(orders);
            if finish {
                return self.finish();
            }
        }
    }

    /// Waits for output or orders.
    fn wait(&mut self) {
        let master = self.terminal.0.master.as_fd();
        let mut both =
            [PollFd::new(self.woken.as_fd(), PollFlags::POLLIN), PollFd::new(master, PollFlags::POLLIN)];
        let watched = if self.closed { &mut both[..1] } else { &mut both[..] };
        let timeout = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::NONE);
        // A signal, or nothing in time, is like nothing to do.
        let _ = poll(watched, timeout);
        let ordered = both[0].any().unwrap_or_default();
        if ordered {
            let _ = self.woken.read(&mut [0; 16]);
        }
    }

    fn ready(&mut self, within: Duration) -> Ready {
        let mut master = [PollFd::new(self.terminal.0.master.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut master, timeout);
        let events = master[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            Ready::Output
        } else if events.is_empty() {
            Ready::Nothing
        } else {
            self.closed = true;
            Ready::Closed
        }
    }

    /// Shows a part of the command's output that is there. Returns how much.
    fn relay(&mut self) -> usize {
        match (&self.terminal.0.master).read(&mut self.buffer) {
            Ok(length) => {
                // A closed terminal is no failure, here and below.
                let _ = self.screen.relay(&self.buffer[..length]);
                self.closed = length == 0;
                length
            }
            Err(error) => {
                // EIO: nobody has it open any more.
                self.closed = error.kind() != io::ErrorKind::Interrupted;
                0
            }
        }
    }

    fn obey(&mut self, orders: Orders) {
        let now = Instant::now();
        if let Some(size) = orders.size {
            self.screen.resize(if size.ws_col > 0 { size.ws_col } else { COLUMNS });
        }
        for text in orders.messages {
            let _ = self.screen.message(&text, now);
        }
        if self.modes.is_taken() {
            let _ = self.screen.give_way();
        } else if let Some(line) = orders.line.filter(|_| in_foreground()) {
            let _ = self.screen.draw(&line, now);
        }
        if let Some(done) = orders.rest {
            while self.ready(Duration::ZERO) == Ready::Output && self.relay() > 0 {}
            let _ = self.screen.clear();
            let _ = done.send(());
        }
    }

    fn finish(mut self) {
        let (ended, mut shown) = (Instant::now(), 0);
        while !self.closed && shown < MOST {
            let left = LONGEST.saturating_sub(ended.elapsed());
            if self.ready(QUIET.min(left)) != Ready::Output {
                break;
            }
            shown += self.relay();
        }
        self.modes.follow(&self.terminal.0.master);
        let _ = self.screen.finish();
    }
}

/// Whether this run is in the terminal's foreground: a shell draws its prompt there while it is not.
fn in_foreground() -> bool {
    // None of this process's own: whoever gave it may be written to.
    tcgetpgrp(io::stderr()).map_or(true, |group| group == getpgrp())
}
