//! One terminal that the command's output, the progress line and messages share, without ever mixing on a line.
//!
//! All of the command's output passes through here, so it is known where it stands. The progress line is drawn only
//! while the command has ended its last line, and is taken away before more of its output is shown. A command that
//! moves the cursor by itself owns the screen: nothing is drawn any more.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::cursor::Cursor;

/// Takes away the drawn line and what a narrowed terminal has wrapped of it.
const CLEAR: &[u8] = b"\r\x1b[J";
/// A message waits so long for the command to end its line.
const HELD: Duration = Duration::from_secs(5);

/// A terminal, as far as this program writes to it.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    columns: u16,
    cursor: Cursor,
    drawn: bool,
    /// Messages that wait for the command to end its line, and since when.
    held: Vec<String>,
    since: Option<Instant>,
}

impl<W: Write> Screen<W> {
    /// A screen of so many columns, whose cursor stands at a line's start.
    pub fn new(out: W, columns: u16) -> Screen<W> {
        Screen { out, columns, cursor: Cursor::default(), drawn: false, held: Vec::new(), since: None }
    }

    /// The terminal has another width now.
    pub fn resize(&mut self, columns: u16) {
        self.columns = columns;
    }

    /// Shows output of the command, byte for byte.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn relay(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.clear()?;
        self.out.write_all(bytes)?;
        self.cursor.follow(bytes);
        self.out.flush()
    }

    /// Draws the progress line: the longest of `variants`, from long to short, that fits.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, variants: &[String], now: Instant) -> io::Result<()> {
        self.show_held(now)?;
        if !self.cursor.at_line_start() {
            return Ok(());
        }
        let line = fitting(variants, usize::from(self.columns).saturating_sub(1));
        self.clear()?;
        // The cursor goes back, so that whatever comes next overwrites the line.
        self.out.write_all(format!("{line}\r").as_bytes())?;
        self.drawn = true;
        self.out.flush()
    }

    /// Shows a message on lines of its own, once the command has ended its line.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn message(&mut self, text: &str, now: Instant) -> io::Result<()> {
        self.held.push(text.to_owned());
        self.since.get_or_insert(now);
        self.show_held(now)
    }

    /// Takes the progress line away.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            self.out.write_all(CLEAR)?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// A program reads keys, and what it shows of them may come by another way: leaves it the line from where the
    /// cursor is.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn give_way(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            self.out.write_all(b"\x1b[K")?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// The command has ended: takes the progress line away and shows what waits.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn finish(&mut self) -> io::Result<()> {
        self.clear()?;
        if !self.held.is_empty() {
            self.begin_line()?;
        }
        self.write_held()
    }

    fn show_held(&mut self, now: Instant) -> io::Result<()> {
        let Some(since) = self.since else { return Ok(()) };
        if self.cursor.at_line_start() {
            self.clear()?;
            self.write_held()
        } else if self.cursor.is_plain() && now.saturating_duration_since(since) >= HELD {
            self.begin_line()?;
            self.write_held()
        } else {
            Ok(())
        }
    }

    fn begin_line(&mut self) -> io::Result<()> {
        if self.cursor.at_line_start() { Ok(()) } else { self.relay(b"\r\n") }
    }

    fn write_held(&mut self) -> io::Result<()> {
        self.since = None;
        for text in std::mem::take(&mut self.held) {
            self.out.write_all(text.replace('\n', "\r\n").as_bytes())?;
            self.out.write_all(b"\r\n")?;
        }
        self.out.flush()
    }
}

/// The first of the variants that fits into so many columns, else the last one, cut.
fn fitting(variants: &[String], columns: usize) -> String {
    let clean =
        |text: &String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let mut cut = String::new();
    for variant in variants.iter().map(clean) {
        if width(&variant) <= columns {
            return variant;
        }
        cut = variant;
    }
    while width(&cut) > columns {
        cut.pop();
    }
    cut
}

/// The most columns that a text takes: what is not ASCII may be wide.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(screen: &Screen<Vec<u8>>) -> String {
        String::from_utf8(screen.out.clone()).unwrap()
    }

    #[test]
    fn the_line_is_drawn_between_the_commands_lines_only() {
        let mut screen = Screen::new(Vec::new(), 40);
        let now = Instant::now();
        let line = ["3 waiting".to_owned()];
        screen.relay(b"Name: ").unwrap();
        screen.draw(&line, now).unwrap();
        assert_eq!(shown(&screen), "Name: ");
        screen.relay(b"Ada\n").unwrap();
        screen.draw(&line, now).unwrap();
        screen.relay(b"done").unwrap();
        assert_eq!(shown(&screen), "Name: Ada\n3 waiting\r\r\x1b[Jdone");
    }

    #[test]
    fn a_message_waits_for_the_end_of_a_line_but_not_for_ever() {
        let mut screen = Screen::new(Vec::new(), 40);
        let now = Instant::now();
        screen.relay(b"half").unwrap();
        screen.message("paused", now).unwrap();
        assert_eq!(shown(&screen), "half");
        screen.draw(&[], now + HELD).unwrap();
        assert_eq!(shown(&screen), "half\r\npaused\r\n\r");
        screen.relay(b"again").unwrap();
        screen.message("resumed", now).unwrap();
        screen.finish().unwrap();
        assert!(shown(&screen).ends_with("again\r\nresumed\r\n"), "{:?}", shown(&screen));
    }

    #[test]
    fn a_command_that_moves_the_cursor_owns_the_screen() {
        let mut screen = Screen::new(Vec::new(), 40);
        screen.relay(b"\x1b[2J\x1b[HMenu\r\n").unwrap();
        screen.draw(&["3 waiting".to_owned()], Instant::now()).unwrap();
        assert!(!shown(&screen).contains("waiting"));
    }

    #[test]
    fn the_line_fits_every_width() {
        let variants: Vec<String> =
            ["crm  99/100 used  3 waiting", "crm  3 waiting", "é3 waiting\u{7}\u{1f600}"]
                .map(str::to_owned)
                .to_vec();
        for columns in 1..90 {
            let line = fitting(&variants, columns);
            assert!(width(&line) <= columns && !line.contains('\u{7}'), "{columns}: {line}");
        }
        assert_eq!(fitting(&variants, 14), "crm  3 waiting");
    }
}
