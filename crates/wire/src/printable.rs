//! Words of strangers, made fit for terminals and logs.

use std::borrow::Cow;

/// The text with question marks in place of what does not print, or changes the direction of what follows.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(hides) { Cow::Owned(text.replace(hides, "?")) } else { Cow::Borrowed(text) }
}

/// Controls, and marks that reorder text (Unicode Standard Annex 9).
fn hides(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_text_around_is_a_question_mark() {
        assert_eq!(printable("a\u{1b}[2Jb\rc\u{202E}d\u{9b}e"), "a?[2Jb?c?d?e");
        assert!(matches!(printable("Zu viele Anfragen – 請稍候 🙂"), Cow::Borrowed(_)));
    }
}
