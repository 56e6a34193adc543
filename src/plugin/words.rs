//! Figures and times for people.

use quotakeeper_api::words::amount_of;
use quotakeeper_engine::HeldBy;
use quotakeeper_engine::config::{NANODOLLARS, Unit};
use quotakeeper_wire::headroom::LimitHeadroom;

use crate::tables::figure;

/// `1 call`, `12 calls`, `1,200 calls`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", figure(count), if count == 1 { "" } else { "s" })
}

/// Seconds in words, as exact as an estimate is.
pub(super) fn about(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.05 => "no time".to_owned(),
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        _ if seconds < 120.0 => format!("{} s", seconds.round()),
        _ if seconds < 7200.0 => format!("{} min", (seconds / 60.0).round()),
        _ if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{} days", (seconds / 86_400.0).round()),
    }
}

/// An amount of a limit, of dollars as money.
pub(super) fn amount(unit: Unit, amount: f64) -> String {
    match unit {
        Unit::Dollars => amount_of(unit, (amount * NANODOLLARS as f64) as u64),
        _ => figure(amount as u64),
    }
}

/// A limit with its model, where models are counted apart.
pub(super) fn limit(name: &str, model: Option<&str>) -> String {
    model.map_or_else(|| name.to_owned(), |model| format!("{name} of {model}"))
}

/// How a limit stands: `requests: 97 of 100 used, all free in 8 s`.
pub(super) fn standing(of: &LimitHeadroom) -> String {
    let free = if of.resets_in_seconds > 0.0 {
        format!(", all free in {}", about(of.resets_in_seconds))
    } else {
        String::new()
    };
    let (used, all) = (amount(of.unit, of.used), amount(of.unit, of.amount));
    format!("{}: {used} of {all} used{free}", limit(&of.name, of.model.as_deref()))
}

/// What a call waits for, as a part of a sentence.
pub(super) fn held_by(held_by: Option<&HeldBy>) -> String {
    match held_by {
        None => "nothing but its turn".to_owned(),
        Some(HeldBy::Limit { name, model }) => {
            format!("the limit {}, which has no room", limit(name, model.as_deref()))
        }
        Some(HeldBy::Pause { reason }) => format!("the end of a pause ({reason})"),
        Some(HeldBy::LearnedConcurrency) => {
            "a call under way to end: the provider takes no more at the same time".to_owned()
        }
        Some(HeldBy::WorkloadConcurrency) => {
            "a call of its workload to end: it has as many under way as sharing.maxConcurrentPerWorkload lets it"
                .to_owned()
        }
        Some(HeldBy::Unknown) => "something that this version does not know".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_as_exact_as_they_are_known() {
        let said = [0.01, 3.42, 59.6, 400.0, 9000.0, 400_000.0].map(about);
        assert_eq!(said, ["no time", "3.4 s", "60 s", "7 min", "2.5 h", "5 days"]);
    }
}
