//! Amounts as people read them, the same in `kubectl get`, in conditions and in a terminal.

use quotakeeper_engine::config::{NANODOLLARS, Unit};

/// An amount as it is declared: `360k`, `2M`, `1750`, of dollars `$412.50`.
pub fn amount_of(unit: Unit, amount: u64) -> String {
    match (unit, amount) {
        (Unit::Dollars, _) => dollars(amount),
        (_, 0) => "0".to_owned(),
        (_, millions) if millions % 1_000_000 == 0 => format!("{}M", millions / 1_000_000),
        (_, thousands) if thousands % 1000 == 0 => format!("{}k", thousands / 1000),
        (_, other) => other.to_string(),
    }
}

/// How much of an amount is used: `1.2M of 2.0M`, `$412 of $500`, `1750 of 10k`.
pub fn used_of(unit: Unit, used: u64, amount: u64) -> String {
    match unit {
        Unit::Dollars if amount >= 10 * NANODOLLARS => {
            format!("${} of {}", used / NANODOLLARS, dollars(amount))
        }
        Unit::Dollars => format!("{} of {}", dollars(used), dollars(amount)),
        Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens if amount >= 1000 => {
            format!("{} of {}", tokens_of(used), tokens_of(amount))
        }
        _ => format!("{} of {}", amount_of(unit, used), amount_of(unit, amount)),
    }
}

/// Tokens with one decimal, rounded down: `950`, `450.0k`, `1.2M`.
pub fn tokens_of(amount: u64) -> String {
    match amount {
        0..1000 => amount.to_string(),
        1000..1_000_000 => format!("{}.{}k", amount / 1000, amount % 1000 / 100),
        _ => format!("{}.{}M", amount / 1_000_000, amount % 1_000_000 / 100_000),
    }
}

/// Nanodollars as dollars and cents, rounded down; less than a cent with all its places.
fn dollars(amount: u64) -> String {
    let (whole, part) = (amount / NANODOLLARS, amount % NANODOLLARS);
    let cents = part / (NANODOLLARS / 100);
    match (whole, part, cents) {
        (_, 0, _) => format!("${whole}"),
        (0, _, 0) => format!("$0.{:06}", part / 1000),
        _ => format!("${whole}.{cents:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        let requests = [0, 999, 1500, 10_000, 2_000_000].map(|amount| amount_of(Unit::Requests, amount));
        assert_eq!(requests, ["0", "999", "1500", "10k", "2M"]);
        let cents = |cents: u64| amount_of(Unit::Dollars, cents * NANODOLLARS / 100);
        assert_eq!([0, 7, 41_250, 50_000].map(cents), ["$0", "$0.07", "$412.50", "$500"]);
        assert_eq!(amount_of(Unit::Dollars, 150_000), "$0.000150");
        assert_eq!(amount_of(Unit::Dollars, u64::MAX), "$18446744073.70");
    }

    #[test]
    fn use_reads_as_a_part_of_the_whole() {
        assert_eq!(used_of(Unit::TotalTokens, 1_234_567, 2_000_000), "1.2M of 2.0M");
        assert_eq!(used_of(Unit::InputTokens, 999, 450_000), "999 of 450.0k");
        assert_eq!(used_of(Unit::OutputTokens, 5, 800), "5 of 800");
        assert_eq!(used_of(Unit::Dollars, 412 * NANODOLLARS + 99, 500 * NANODOLLARS), "$412 of $500");
        assert_eq!(used_of(Unit::Dollars, NANODOLLARS / 2, 5 * NANODOLLARS), "$0.50 of $5");
        assert_eq!(used_of(Unit::Requests, 1750, 10_000), "1750 of 10k");
    }
}
