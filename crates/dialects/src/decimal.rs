//! Decimals as people write amounts of money: exact, never through a float.

/// How many places a decimal may have.
const PLACES: usize = 6;

/// A decimal such as `412.50` in millionths: digits without sign or leading zeros, and at most six places. `None`:
/// it has another form, or is larger than anything that fits.
pub fn millionths(text: &str) -> Option<u64> {
    let (whole, places) = match text.split_once('.') {
        Some((whole, places)) if (1..=PLACES).contains(&places.len()) => (whole, places),
        Some(_) => return None,
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = whole == "0" || !whole.is_empty() && !whole.starts_with('0');
    if !plain || !digits(whole) || !digits(places) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{places:0<PLACES$}").parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_read_to_the_last_place() {
        let table = [
            ("0", 0),
            ("1", 1_000_000),
            ("412.50", 412_500_000),
            ("0.075", 75_000),
            ("0.000001", 1),
            ("10000000", 10_000_000_000_000),
        ];
        for (text, expected) in table {
            assert_eq!(millionths(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_decimal() {
        let wrong = [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "01",
            "00",
            "1e3",
            "1,5",
            "1.2345678",
            "1 ",
            "１",
            "0x1",
            "1.5.2",
        ];
        for text in wrong {
            assert_eq!(millionths(text), None, "{text}");
        }
        assert_eq!(millionths("18446744073709551615"), None, "too large, and no wrap");
    }
}
