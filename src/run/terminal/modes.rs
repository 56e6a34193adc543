//! How the command has set its terminal. Programs that draw on the whole screen set the terminal at their standard
//! output to pass each key on (curses does), and read the keys from standard input, which is the real terminal: what
//! they set on the pseudo-terminal is set on the real one too.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// The characters and times that are passed on.
const CODES: [SpecialCodeIndex; 16] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VTIME,
    SpecialCodeIndex::VMIN,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

/// What has been passed on.
pub(super) struct Modes {
    /// The pseudo-terminal's modes.
    seen: Termios,
    /// The real terminal showed what is typed when the run began.
    echoed: bool,
}

impl Modes {
    /// Sets the pseudo-terminal as the real one, but for what is done with output: the real one does that. None: one of
    /// them can't be set.
    pub(super) fn copied(real: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Option<Modes> {
        let mut seen = tcgetattr(real).ok()?;
        let echoed = is_echoing(&seen);
        seen.output_modes.remove(OutputModes::OPOST);
        tcsetattr(slave, OptionalActions::Now, &seen).ok()?;
        Some(Modes { seen, echoed })
    }

    /// Passes on what has been set since the last time.
    pub(super) fn follow(&mut self, master: &File) {
        let Ok(mut now) = tcgetattr(master) else { return };
        let Ok(mut real) = tcgetattr(io::stderr()) else { return };
        if !pass_on(&self.seen, &now, &mut real) {
            return;
        }
        // A terminal that is gone is no failure.
        let _ = tcsetattr(io::stderr(), OptionalActions::Now, &real);
        if now.output_modes.contains(OutputModes::OPOST) {
            now.output_modes.remove(OutputModes::OPOST);
            let _ = tcsetattr(master, OptionalActions::Now, &now);
        }
        self.seen = now;
    }

    /// Whether a program reads keys or a password from the terminal: what it shows there may come by another way.
    pub(super) fn is_taken(&self) -> bool {
        self.echoed && tcgetattr(io::stderr()).is_ok_and(|modes| !is_echoing(&modes))
    }
}

fn is_echoing(modes: &Termios) -> bool {
    modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
}

/// Sets in `real` what differs between `before` and `now`. Returns whether anything does.
fn pass_on(before: &Termios, now: &Termios, real: &mut Termios) -> bool {
    let input = before.input_modes ^ now.input_modes;
    let output = before.output_modes ^ now.output_modes;
    let local = before.local_modes ^ now.local_modes;
    real.input_modes = (real.input_modes & !input) | (now.input_modes & input);
    real.output_modes = (real.output_modes & !output) | (now.output_modes & output);
    real.local_modes = (real.local_modes & !local) | (now.local_modes & local);
    let mut any = !(input.is_empty() && output.is_empty() && local.is_empty());
    for code in CODES {
        if before.special_codes[code] != now.special_codes[code] {
            real.special_codes[code] = now.special_codes[code];
            any = true;
        }
    }
    any
}
