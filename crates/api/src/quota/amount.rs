//! Amounts as people write them: `10000`, `10k`, `2M`.
//!
//! Not Kubernetes' Quantity: there `2m` is two thousandths and `2Ki` is 2048, both surprises in a
//! quota. They are refused with a sentence.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use quotakeeper_dialects::decimal;
use quotakeeper_engine::config::NANODOLLARS;

use super::{Unit, rules};

/// The largest amount: 999,999,999M, and far below what an engine could overflow on.
pub const MAX_AMOUNT: u64 = 1_000_000_000_000_000;
/// The largest amount of dollars.
pub const MAX_DOLLARS: u64 = 10_000_000;
/// Nanodollars in the last of the six places that dollars may have.
const NANODOLLARS_IN_MILLIONTH: u64 = NANODOLLARS / 1_000_000;

/// An amount of a limit's unit, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// A whole number.
    Number(i64),
    /// Digits, or digits with `k` (thousands) or `M` (millions); of dollars a decimal, too.
    Text(String),
}

impl Amount {
    /// The amount as an engine counts the unit: of dollars in nanodollars.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn of(&self, unit: Unit) -> Result<u64, Cow<'static, str>> {
        if unit != Unit::Dollars {
            return self.units();
        }
        let millionths = match self {
            Self::Text(text) if text.contains('.') => decimal::millionths(text).ok_or(rules::DOLLARS_FORM)?,
            _ => self.units()?.saturating_mul(1_000_000),
        };
        match millionths {
            0 => Err(rules::DOLLARS_FORM.into()),
            _ if millionths > MAX_DOLLARS * 1_000_000 => Err(rules::DOLLARS_RANGE.into()),
            _ => Ok(millionths * NANODOLLARS_IN_MILLIONTH),
        }
    }

    /// The amount in units, 1 to [`MAX_AMOUNT`].
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn units(&self) -> Result<u64, Cow<'static, str>> {
        match self {
            Self::Number(number) => u64::try_from(*number)
                .ok()
                .filter(|amount| (1..=MAX_AMOUNT).contains(amount))
                .ok_or(Cow::Borrowed(rules::AMOUNT_RANGE)),
            Self::Text(text) => parse(text),
        }
    }
}

fn parse(text: &str) -> Result<u64, Cow<'static, str>> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "m" if is_count(digits) => {
            return Err(format!("m means a thousandth; write {digits}M").into());
        }
        suffix if suffix.len() == 2 && suffix.ends_with('i') => {
            return Err(rules::AMOUNT_BINARY.into());
        }
        _ => return Err(rules::AMOUNT_FORM.into()),
    };
    if !is_count(digits) {
        return Err(rules::AMOUNT_FORM.into());
    }
    let count: u64 = digits.parse().map_err(|_| rules::AMOUNT_FORM)?;
    Ok(count * factor)
}

/// One to nine digits, the first of them not 0: with `M` that is below [`MAX_AMOUNT`].
fn is_count(digits: &str) -> bool {
    (1..=9).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|digit| digit.is_ascii_digit())
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // The pattern is wider than what is meant, so that the rules, whose messages say what to
    // write, speak about the likely mistakes.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 16,
            "pattern": "^([1-9][0-9]{0,8}[A-Za-z]?i?|(0|[1-9][0-9]{0,7})[.][0-9]{1,6})$",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(text: &str) -> Result<u64, String> {
        Amount::Text(text.to_owned()).units().map_err(Into::into)
    }

    #[test]
    fn thousands_and_millions() {
        assert_eq!(Amount::Number(500).units(), Ok(500));
        assert_eq!(text("500"), Ok(500));
        assert_eq!(text("10k"), Ok(10_000));
        assert_eq!(text("2M"), Ok(2_000_000));
        assert_eq!(text("999999999M"), Ok(999_999_999_000_000));
    }

    #[test]
    fn a_quantity_of_kubernetes_is_refused_with_what_was_meant() {
        assert_eq!(text("2m").unwrap_err(), "m means a thousandth; write 2M");
        assert_eq!(text("15m").unwrap_err(), "m means a thousandth; write 15M");
        assert_eq!(text("10Ki").unwrap_err(), rules::AMOUNT_BINARY);
    }

    #[test]
    fn dollars_have_six_places_and_never_overflow() {
        let dollars = |text: &str| Amount::Text(text.to_owned()).of(Unit::Dollars);
        assert_eq!(dollars("412.50"), Ok(412_500_000_000));
        assert_eq!(dollars("0.000001"), Ok(1000));
        assert_eq!(dollars("2k"), Ok(2000 * NANODOLLARS));
        assert_eq!(dollars("10M"), Ok(MAX_DOLLARS * NANODOLLARS));
        assert_eq!(Amount::Number(500).of(Unit::Dollars), Ok(500 * NANODOLLARS));
        for wrong in ["0.00", "1.2345678", "12.5k", ".50", "1.", "-1.5"] {
            assert_eq!(dollars(wrong).unwrap_err(), rules::DOLLARS_FORM, "{wrong}");
        }
        for large in ["10000000.01", "11M"] {
            assert_eq!(dollars(large).unwrap_err(), rules::DOLLARS_RANGE, "{large}");
        }
        assert_eq!(Amount::Number(10_000_001).of(Unit::Dollars).unwrap_err(), rules::DOLLARS_RANGE);
        assert_eq!(Amount::Text("1.5".to_owned()).of(Unit::TotalTokens).unwrap_err(), rules::AMOUNT_FORM);
    }

    #[test]
    fn nothing_else_is_an_amount() {
        for wrong in [
            "",
            "0",
            "-1",
            "+1",
            "01",
            "1.5M",
            "1 M",
            "1_000",
            "1,000",
            "k",
            "1K",
            "1G",
            "1kk",
            "1e3",
            "9999999999",
            "１",
        ] {
            assert_eq!(text(wrong).unwrap_err(), rules::AMOUNT_FORM, "{wrong}");
        }
        for wrong in [0, -1, i64::MAX, i64::MIN] {
            let refused = Amount::Number(wrong).units();
            assert_eq!(refused.unwrap_err(), rules::AMOUNT_RANGE, "{wrong}");
        }
    }
}
