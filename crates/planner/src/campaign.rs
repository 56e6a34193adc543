//! A campaign as plain values.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::Scope;
use quotakeeper_engine::tokens::TokenUsage;

/// A million: shares of calls are counted in millionths.
pub(crate) const WHOLE: u64 = 1_000_000;

/// Records, and what is done with each.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Its name.
    pub name: String,
    /// How many records there are, at least 1.
    pub records: u64,
    /// How many are worked on at the same time; none: as many as the quotas can use.
    pub workers: Option<u64>,
    /// When it begins.
    pub start: Timestamp,
    /// When it is to be done; none: whenever.
    pub deadline: Option<Timestamp>,
    /// What is done with a record, one step after the other; at least one.
    pub steps: Vec<Step>,
    /// What else draws on the accounts.
    pub others: Vec<Load>,
    /// How the accounts are at a time before it begins, in their order; empty: nothing is known, as if they were unused.
    pub present: Vec<Present>,
}

/// How an account is.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// When it is so; none: nothing is known.
    pub at: Option<Timestamp>,
    /// What is used of its limits, by name; of one that counts models apart, of each.
    pub used: BTreeMap<String, u64>,
    /// Its pauses, and how long they last at least.
    pub pauses: Vec<(Scope, Duration)>,
}

/// Calls of one kind.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose account they draw on, by its place among those of the plan.
    pub account: usize,
    /// What they want.
    pub demand: Demand,
    /// What they use.
    pub usage: TokenUsage,
    /// From the request to the last byte of the answer.
    pub answer: Duration,
    /// How far usage and answer may be off, in percent.
    pub spread: u64,
}

/// What each record that comes so far calls.
#[derive(Clone, Debug)]
pub struct Step {
    /// The calls.
    pub call: Call,
    /// How many for each record, in millionths.
    pub calls: u64,
    /// How many of a hundred records go on from here.
    pub go_on: u64,
}

/// Calls of others.
#[derive(Clone, Debug)]
pub struct Load {
    /// The calls.
    pub call: Call,
    /// How many in a minute, at least 1.
    pub per_minute: u64,
}

impl Campaign {
    /// How long there is from the beginning to the deadline.
    pub fn time(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.duration_since(self.start).try_into().unwrap_or_default())
    }

    /// How many calls each step makes.
    pub fn calls(&self) -> Vec<u64> {
        let mut records = self.records;
        let steps = self.steps.iter();
        steps
            .map(|step| {
                let calls = times(records, step.calls, WHOLE);
                records = times(records, step.go_on, 100);
                calls
            })
            .collect()
    }
}

/// `count * part / whole`, rounded down; the largest number where that is larger.
pub(crate) fn times(count: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(count) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One step of one call on the first account.
    pub(crate) fn single(records: u64, answer: Duration) -> Campaign {
        let call =
            Call { account: 0, demand: Demand::default(), usage: TokenUsage::default(), answer, spread: 0 };
        Campaign {
            name: "tried".to_owned(),
            records,
            workers: None,
            start: Timestamp::UNIX_EPOCH,
            deadline: None,
            steps: vec![Step { call, calls: WHOLE, go_on: 100 }],
            others: Vec::new(),
            present: Vec::new(),
        }
    }

    #[test]
    fn each_step_gets_the_records_that_go_on() {
        let mut campaign = single(1_000, Duration::ZERO);
        let step = campaign.steps[0].clone();
        campaign.steps = vec![
            Step { calls: 2 * WHOLE, go_on: 60, ..step.clone() },
            Step { calls: WHOLE / 2, go_on: 10, ..step.clone() },
            Step { calls: 1_300_000, ..step },
        ];
        assert_eq!(campaign.calls(), [2_000, 300, 78]);
    }
}
