//! The tiers of an account whose quota declares none: what of them may come into force, and what is known of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use quotakeeper_engine::config::{LimitAmount, LimitConfig, MOST_REQUESTS, NANODOLLARS, Unit};
use quotakeeper_engine::name::Consumer;
use serde::{Deserialize, Serialize};

/// This installation's part of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Percent of the account's limits.
    pub percent: u8,
    /// Percent of that which is left unused.
    pub reserve_percent: u8,
}

impl Share {
    /// What of a provider's amount is ours, rounded down.
    pub fn of(self, amount: u64) -> u64 {
        let (share, left) =
            (u128::from(self.percent), u128::from(100u8.saturating_sub(self.reserve_percent)));
        u64::try_from(u128::from(amount) * share * left / 10_000).unwrap_or(u64::MAX)
    }
}

/// One of the provider's tiers, compiled with the quota as if it were declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierLimits {
    /// Its name.
    pub name: String,
    /// Its limits as they would be enforced.
    pub limits: Vec<LimitConfig>,
    /// Limits of it that this version does not enforce, by name, with their unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<String>,
}

/// The tiers that an account may have whose quota declares none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndeclaredTier {
    /// The provider's tiers, the lowest first: that one is assumed until an answer tells.
    pub tiers: Vec<TierLimits>,
    /// This installation's part of what answers tell.
    pub share: Share,
    /// Limits that the quota declares itself: answers only lower them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub declared: BTreeSet<String>,
    /// Whether answers tell limits. If not, a person has to name the tier.
    pub told_by_answers: bool,
}

impl UndeclaredTier {
    /// What is enforced of an amount of the unit that the provider tells: at least 1, and no more than an engine can
    /// count.
    pub fn enforced(&self, unit: Unit, hard: u64) -> LimitAmount {
        let most = if unit == Unit::Requests { MOST_REQUESTS } else { u64::MAX };
        let amount = self.share.of(hard).clamp(1, most);
        LimitAmount { amount, declared: (amount != hard).then_some(hard) }
    }

    /// The tiers with their figures, for a person who has to choose one: `free (3 requests per 60 s), …`.
    pub fn choices(&self) -> String {
        let tiers = self.tiers.iter().map(|tier| match figures(&tier.limits) {
            none if none.is_empty() => tier.name.clone(),
            figures => format!("{} ({figures})", tier.name),
        });
        tiers.collect::<Vec<_>>().join(", ")
    }

    /// What is assumed while nothing is known, for a person: the lowest tier with its figures, and the other choices.
    pub fn question(&self) -> String {
        let lowest = self.tiers.first().map(|tier| tier.name.as_str()).unwrap_or_default();
        let until = match self.told_by_answers {
            true => "is assumed until an answer of the provider tells its limits",
            false => "is assumed, because no answer of the provider tells its limits",
        };
        format!(
            "no tier is declared: the lowest, {lowest}, {until}; declare the account's own as spec.provider.tier, one of: {}",
            self.choices()
        )
    }
}

/// Limits for people: `3 requests per 60 s, 200 daily-requests per day`.
fn figures(limits: &[LimitConfig]) -> String {
    let of = |limit: &LimitConfig| {
        let hard = limit.amount_of(None).hard();
        let period = limit.period.as_ref().map(|period| period.kind);
        let hard =
            if limit.unit == Unit::Dollars { format!("${}", hard / NANODOLLARS) } else { hard.to_string() };
        match (limit.unit, period, limit.window.as_secs()) {
            (Unit::ConcurrentRequests, ..) => format!("{hard} {} at a time", limit.name),
            (_, Some(kind), _) => format!("{hard} {} per {}", limit.name, format!("{kind:?}").to_lowercase()),
            (_, None, 86_400) => format!("{hard} {} per day", limit.name),
            (_, None, 1) => format!("{hard} {} per second", limit.name),
            (_, None, seconds) => format!("{hard} {} per {seconds} s", limit.name),
        }
    };
    limits.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// What the limits in force rest on where no tier is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TierBasis {
    /// Nothing: the lowest tier is assumed.
    #[default]
    Assumed,
    /// Answers tell the figures of this tier.
    Matched,
    /// Answers tell figures that no tier has: they are in force, and the lowest tier for what they don't tell.
    Told,
}

/// What is known of an account's limits where its quota declares no tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedTier {
    /// What the limits in force rest on.
    pub basis: TierBasis,
    /// The tier in force.
    pub tier: String,
    /// What answers tell: of a few limits, where there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<ToldLimit>,
    /// The limits in force.
    pub limits: Vec<LimitConfig>,
}

/// What answers tell of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldLimit {
    /// Its name.
    pub limit: String,
    /// The model, where models are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider's amount.
    pub amount: u64,
    /// The response header that tells it.
    pub header: String,
    /// How many workloads it was told; many are not counted.
    pub workloads: u32,
    /// The first of these that was told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Consumer>,
    /// Since when it is believed, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl std::fmt::Display for ToldLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.workloads == 1 { "" } else { "s" };
        write!(f, "{} of {} workload{plural}", self.figure(), self.workloads)
    }
}

impl ToldLimit {
    /// The header with the amount.
    pub fn figure(&self) -> String {
        format!("{} {}", self.header, self.amount)
    }
}

impl LearnedTier {
    /// What was learned, for people; none: nothing yet.
    pub fn sentence(&self) -> Option<String> {
        self.sentence_with(ToldLimit::to_string)
    }

    /// The same, with other words for what answers tell of a limit.
    pub fn sentence_with(&self, words: impl Fn(&ToldLimit) -> String) -> Option<String> {
        let mut told: Vec<String> = self.told.iter().map(words).collect();
        // Of models that are counted apart often the same.
        told.dedup();
        told.truncate(3);
        let told = told.join(", ");
        match self.basis {
            TierBasis::Assumed => None,
            TierBasis::Matched => Some(format!("tier learned: {}, from {told}", self.tier)),
            TierBasis::Told => Some(format!(
                "limits learned: {told}; no tier has these figures, and what is not told is as in the lowest, {}",
                self.tier
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_rounded_down_once_and_never_overflows() {
        let part = |amount, percent, reserve_percent| Share { percent, reserve_percent }.of(amount);
        assert_eq!(part(2_000_000, 20, 10), 360_000);
        assert_eq!(part(25, 50, 20), 10, "12.5 × 0.8: rounding twice would leave 9");
        assert_eq!(part(5, 18, 0), 0);
        assert_eq!(part(1_000_000_000_000_000, 100, 0), 1_000_000_000_000_000);
        assert_eq!(part(u64::MAX, 100, 0), u64::MAX);
    }

    #[test]
    fn what_was_learned_names_tier_header_and_witnesses() {
        let told = ToldLimit {
            limit: "requests".to_owned(),
            model: None,
            amount: 10_000,
            header: "x-ratelimit-limit-requests".to_owned(),
            workloads: 2,
            by: None,
            since: None,
        };
        let learned = LearnedTier {
            basis: TierBasis::Matched,
            tier: "tier-4".to_owned(),
            told: vec![told],
            limits: Vec::new(),
        };
        assert_eq!(
            learned.sentence().as_deref(),
            Some("tier learned: tier-4, from x-ratelimit-limit-requests 10000 of 2 workloads")
        );
    }
}
