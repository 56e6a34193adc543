//! Where the command's output has left the cursor: at a line's start, within a line, or anywhere.

/// What is known of the cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    state: State,
    /// Something stands on the line.
    within: bool,
    /// The command moves the cursor by itself.
    moved: bool,
}

/// How far an escape sequence has come (ECMA-48, 5.4 and 8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// Parameters of a control sequence.
    Control,
    /// A string up to BEL or ESC \, such as a title or a link.
    String,
    /// ESC within a string.
    StringEscape,
}

impl Cursor {
    /// Nothing stands on the cursor's line, and the command leaves the cursor where its lines end.
    pub fn at_line_start(self) -> bool {
        self.is_plain() && !self.within && self.state == State::Text
    }

    /// The command writes lines and no more: colours and progress on its own line included.
    pub fn is_plain(self) -> bool {
        !self.moved
    }

    /// Follows output of the command.
    pub fn follow(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.step(*byte));
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Text, 0x1b) => State::Escape,
            (State::Text, b'\n') => {
                self.within = false;
                State::Text
            }
            // A carriage return leaves what stands on the line; BEL shows nothing.
            (State::Text, b'\r' | 0x07) => State::Text,
            (State::Text, _) => {
                self.within = true;
                State::Text
            }
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'_' | b'^' | b'X') => State::String,
            // Of charsets; what follows is one letter that counts as text.
            (State::Escape, b'(' | b')') => State::Text,
            (State::Escape, _) => {
                self.moved = true;
                State::Text
            }
            (State::Control, 0x40..=0x7e) => {
                // Colours, and erasing within the line.
                self.moved |= !matches!(byte, b'm' | b'K');
                State::Text
            }
            (State::Control, _) => State::Control,
            (State::String, 0x07) => State::Text,
            (State::String, 0x1b) => State::StringEscape,
            (State::String, _) | (State::StringEscape, 0x1b) => State::String,
            (State::StringEscape, _) => State::Text,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_titles_are_plain_and_cursor_movements_are_not() {
        for (output, at_start, plain) in [
            ("", true, true),
            ("done\n", true, true),
            ("done\r\n", true, true),
            ("50 %\r", false, true),
            ("\x1b[32mok\x1b[0m\n", true, true),
            ("\x1b]0;title\x07", true, true),
            ("\x1b]8;;https://a\x1b\\link\x1b]8;;\x1b\\\n", true, true),
            ("\x1b[3", false, true),
            ("\x1b[3A", false, false),
            ("\x1b[?1049h", false, false),
            ("\x1b7", false, false),
        ] {
            let mut cursor = Cursor::default();
            cursor.follow(output.as_bytes());
            assert_eq!((cursor.at_line_start(), cursor.is_plain()), (at_start, plain), "{output:?}");
        }
    }
}
