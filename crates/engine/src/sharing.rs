//! How an account is shared: allocations, each a part of the quota for a set of pods, and bounds of single workloads.

use serde::{Deserialize, Serialize};

use crate::config::{LimitAmount, LimitConfig};
use crate::name::AllocationName;

/// A whole, in parts of which shares are given: a millionth is the least that can be told apart.
pub(crate) const WHOLE: u64 = 1_000_000;
/// The least share of any allocation, whatever the others are guaranteed: a thousandth.
const LEAST: u64 = WHOLE / 1000;

/// How an account is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sharing {
    /// Parts of the quota, each for a set of pods. Calls that are of none share one more of weight 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationConfig>,
    /// The most calls of one workload that may be under way at the same time; `None`: as many as the limits allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_per_workload: Option<u32>,
}

/// A part of a quota for a set of pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationConfig {
    /// Its name, unique in the account.
    pub name: AllocationName,
    /// Its part of what no allocation is guaranteed, beside the weights of the others. At least 1.
    pub weight: u32,
    /// What it gets at least while its calls wait, in percent of every limit. What it does not use is lent.
    #[serde(default)]
    pub guaranteed_percent: u32,
    /// What it gets at most, in percent of every limit, also while the others are idle.
    #[serde(default = "all")]
    pub max_percent: u32,
    /// Which calls go first.
    #[serde(default)]
    pub priority: Priority,
    /// Limits that hold for its calls alone, beside those of the account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitConfig>,
}

fn all() -> u32 {
    100
}

/// Which calls go first: those of a higher priority, but for a tenth of the turns, which each lower priority gets
/// while its calls wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Priority {
    /// Somebody waits for the answer.
    Interactive,
    /// Neither.
    #[default]
    Normal,
    /// Work that can wait.
    Batch,
}

impl Priority {
    /// All of them, the highest first.
    pub(crate) const ALL: [Priority; 3] = [Priority::Interactive, Priority::Normal, Priority::Batch];
}

/// A limit that holds for the calls of one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationLimit {
    /// The allocation.
    pub allocation: AllocationName,
    /// What it is.
    pub kind: AllocationLimitKind,
    /// Its configuration, under the name `ALLOCATION/LIMIT`, which no limit of the account has.
    pub config: LimitConfig,
}

/// What a limit of an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationLimitKind {
    /// The most of the account's limit at this place that the allocation may use.
    Maximum {
        /// The place in the account's configuration.
        of: usize,
    },
    /// One that the allocation itself declares.
    Own,
}

impl Sharing {
    /// The limits of all allocations: the maximum of each limit of the account, and their own.
    pub fn limits<'a>(&'a self, of_account: &'a [LimitConfig]) -> impl Iterator<Item = AllocationLimit> + 'a {
        self.allocations.iter().flat_map(move |allocation| allocation.limits_beside(of_account))
    }

    /// The share of each allocation while the calls of all wait, in parts of [`WHOLE`], and the share of the calls that
    /// are of none.
    pub(crate) fn shares(&self) -> (Vec<u64>, u64) {
        let guaranteed =
            |of_one: &AllocationConfig| u64::from(of_one.guaranteed_percent.min(100)) * (WHOLE / 100);
        let rest = WHOLE.saturating_sub(self.allocations.iter().map(guaranteed).sum());
        let weights: u64 = self.allocations.iter().map(|it| u64::from(it.weight.max(1))).sum::<u64>() + 1;
        let share = |guaranteed: u64, weight: u64| (guaranteed + rest * weight / weights).max(LEAST);
        let of_each = |of_one: &AllocationConfig| share(guaranteed(of_one), u64::from(of_one.weight.max(1)));
        (self.allocations.iter().map(of_each).collect(), share(0, 1))
    }

    /// What an engine cannot work with, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut guaranteed = 0;
        for (index, of_one) in self.allocations.iter().enumerate() {
            let name = &of_one.name;
            if self.allocations[..index].iter().any(|other| other.name == *name) {
                problems.push(format!("allocation {name}: the name is used twice"));
            }
            if !(1..=100).contains(&of_one.max_percent) {
                problems.push(format!("allocation {name}: the maximum must be 1 to 100 percent"));
            }
            guaranteed += u64::from(of_one.guaranteed_percent);
        }
        if guaranteed > 100 {
            problems.push(format!("the allocations are guaranteed {guaranteed} percent; at most 100 can be"));
        }
        problems
    }
}

impl AllocationConfig {
    fn limits_beside<'a>(
        &'a self,
        of_account: &'a [LimitConfig],
    ) -> impl Iterator<Item = AllocationLimit> + 'a {
        let limit = |kind, config: LimitConfig| {
            let name = format!("{}/{}", self.name, config.name);
            AllocationLimit { allocation: self.name.clone(), kind, config: LimitConfig { name, ..config } }
        };
        let maximum = move |(of, config): (usize, &LimitConfig)| {
            limit(AllocationLimitKind::Maximum { of }, self.part_of(config))
        };
        let own = self.limits.iter().cloned().map(move |config| limit(AllocationLimitKind::Own, config));
        of_account.iter().enumerate().map(maximum).chain(own)
    }

    /// The most that the allocation may use of a limit. Where the provider has less of it than was declared, the part is
    /// smaller in proportion.
    fn part_of(&self, limit: &LimitConfig) -> LimitConfig {
        let percent = u64::from(self.max_percent.clamp(1, 100));
        let part = |amount: u64| {
            let part = u128::from(amount) * u128::from(percent) / 100;
            u64::try_from(part).unwrap_or(u64::MAX).max(u64::from(amount > 0))
        };
        let part_of = |all: LimitAmount| LimitAmount { amount: part(all.amount), declared: Some(all.hard()) };
        let all = part_of(limit.amount_of(None));
        let of_models = limit.model_amounts.iter().map(|(model, all)| (model.clone(), part_of(*all)));
        LimitConfig {
            amount: all.amount,
            declared: all.declared,
            model_amounts: of_models.collect(),
            burst: limit.burst.map(part),
            ..limit.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocation(weight: u32, guaranteed_percent: u32) -> AllocationConfig {
        AllocationConfig {
            name: format!("a-{weight}-{guaranteed_percent}").into(),
            weight,
            guaranteed_percent,
            max_percent: 100,
            priority: Priority::Normal,
            limits: Vec::new(),
        }
    }

    fn shares(allocations: Vec<AllocationConfig>) -> (Vec<u64>, u64) {
        Sharing { allocations, max_concurrent_per_workload: None }.shares()
    }

    #[test]
    fn each_gets_what_it_is_guaranteed_and_of_the_rest_by_its_weight() {
        assert_eq!(shares(Vec::new()), (vec![], WHOLE));
        assert_eq!(shares(vec![allocation(3, 0)]), (vec![750_000], 250_000));
        assert_eq!(shares(vec![allocation(1, 50), allocation(2, 10)]), (vec![600_000, 300_000], 100_000));
        assert_eq!(shares(vec![allocation(1, 100)]), (vec![WHOLE], LEAST), "the others get a little");
    }
}
