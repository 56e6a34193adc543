//! What a limiter may still grant that can't renew its Lease because the API server is away, while another may have
//! taken the Lease: each grants a part of every limit, and the two parts are no more than the limit.
//!
//! ```text
//! renewed   70 % of the Lease            its end                       the end of the offline part
//!    │─ all ────│─ offline: P % of each limit ───────────────────────────────│ nothing
//! another                                  │─ 100 % − P % ──────────────────────────│── … ─│─ all
//! ```
//! Each counts what it knows of the time before within its own part, so that nothing is set aside while the Lease is
//! renewed. One that takes over without a handover leaves the other's part out until that can grant nothing more and what
//! it has granted has left the windows.
//!
//! Of a window of an hour or more a limiter that can't store checkpoints grants the block of its last one and no more, and
//! its successor takes all of that block for used: it is not divided.

use std::time::Duration;

use quotakeeper_engine::config::{AccountConfig, CountedAs, Extent, LimitAmount, LimitConfig, Unit};
use quotakeeper_engine::time::{Time, stretched};

use crate::mutant::{self, Mutant};

/// What a limiter may grant when it can't renew its Lease any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offline {
    /// Of each limit, in percent.
    pub percent: u32,
    /// For so long after the last renewal.
    pub length: Duration,
}

impl Offline {
    /// Until when it may that has renewed its Lease at `asked` at the latest, on its own clock.
    pub fn granted_until(self, asked: Time) -> Time {
        asked + self.length
    }

    /// The same on the clock of another that has taken the Lease at `taken` or later, which knows that the Lease was not
    /// renewed after that.
    pub fn left_out_until(self, taken: Time) -> Time {
        taken + stretched(stretched(self.length))
    }
}

/// What may be granted of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// This percentage: another limiter may grant the rest.
    Offline(u32),
    /// All but this percentage, which another limiter may grant.
    Beside(u32),
}

impl Part {
    /// The account as it is granted. `checkpoints`: of long windows no more is granted than checkpoints cover.
    pub fn of(self, account: AccountConfig, checkpoints: bool) -> AccountConfig {
        let divide = |limits: Vec<LimitConfig>| -> Vec<LimitConfig> {
            let part = |limit| if is_divided(&limit, checkpoints) { self.of_limit(limit) } else { limit };
            limits.into_iter().map(part).collect()
        };
        let AccountConfig { limits, mut sharing, .. } = account;
        for allocation in &mut sharing.allocations {
            allocation.limits = divide(std::mem::take(&mut allocation.limits));
        }
        let extent = match self {
            Part::Offline(_) => Extent::PartForNow,
            Part::Beside(_) => Extent::Part,
        };
        AccountConfig { limits: divide(limits), sharing, extent, ..account }
    }

    fn of_limit(self, limit: LimitConfig) -> LimitConfig {
        let burst = smallest_burst(&limit);
        let part_of = |all: LimitAmount| {
            // What may only arrive one by one can't be divided.
            let amount = if burst == Some(1) { self.undivided(all.amount) } else { self.share(all.amount) };
            LimitAmount { amount, declared: Some(all.hard()) }
        };
        let all = part_of(limit.amount_of(None));
        let of_models = limit.model_amounts.iter().map(|(model, all)| (model.clone(), part_of(*all)));
        LimitConfig {
            amount: all.amount,
            declared: all.declared,
            model_amounts: of_models.collect(),
            burst: burst.map(|burst| self.share(burst).max(1)),
            ..limit
        }
    }

    /// The two shares of an amount are the amount together, and the offline one is at least 1 of 2 or more.
    fn share(self, amount: u64) -> u64 {
        let offline = |percent: u32| {
            let share = u128::from(amount) * u128::from(percent.min(100)) / 100;
            u64::try_from(share).unwrap_or(u64::MAX).max(u64::from(amount > 1 && percent > 0))
        };
        match self {
            Part::Offline(percent) => offline(percent),
            Part::Beside(_) if mutant::active(Mutant::OfflinePartGrantedTwice) => amount,
            Part::Beside(percent) => amount - offline(percent),
        }
    }

    /// What can't be divided stays with the one that holds the Lease.
    fn undivided(self, amount: u64) -> u64 {
        match self {
            Part::Offline(_) => 0,
            Part::Beside(_) => amount,
        }
    }
}

/// The right to grant, on the limiter's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// All that is not left out, until then.
    pub until: Time,
    /// From then on this percentage, until a later time.
    pub offline: Option<(u32, Time)>,
    /// The percentage that another may grant until then: it is left out.
    pub left_out: Option<(u32, Time)>,
}

impl From<Time> for Right {
    fn from(until: Time) -> Right {
        Right { until, offline: None, left_out: None }
    }
}

impl Right {
    /// Until when something may be granted, if it is not renewed; as of `now` the same part for all of that time.
    pub fn ends(self, now: Time) -> Time {
        match self.offline {
            Some((_, until)) if self.is_over(now) => until,
            _ => self.until,
        }
    }

    /// Whether no more than the offline part may be granted.
    pub fn is_over(self, now: Time) -> bool {
        now >= self.until
    }

    /// What may be granted of an account; `None`: all of it.
    pub fn part(self, account: &AccountConfig, checkpoints: bool, now: Time) -> Option<Part> {
        match self {
            Right { offline: Some((percent, _)), .. } if self.is_over(now) => Some(Part::Offline(percent)),
            Right { left_out: Some((percent, until)), .. }
                if now < until + counts_for(account, checkpoints) =>
            {
                Some(Part::Beside(percent))
            }
            _ => None,
        }
    }

    /// When [`Right::part`] is another without a renewal, if that is known.
    pub fn part_changes(self, account: &AccountConfig, checkpoints: bool, now: Time) -> Option<Time> {
        let over = self.offline.map(|_| self.until);
        let whole = self.left_out.map(|(_, until)| until + counts_for(account, checkpoints));
        over.into_iter().chain(whole).filter(|at| *at > now).min()
    }
}

/// What may arrive at once, of any model, where a bucket is asked; `None`: none is.
fn smallest_burst(limit: &LimitConfig) -> Option<u64> {
    let asked = match limit.counted_as {
        _ if limit.unit == Unit::ConcurrentRequests => false,
        CountedAs::Unknown | CountedAs::TokenBucket | CountedAs::LeakyBucket => true,
        CountedAs::FixedWindow | CountedAs::SlidingWindow => limit.burst.is_some(),
    };
    let amounts = limit.model_amounts.values().map(|own| own.amount).chain([limit.amount]);
    let burst_of = |amount| LimitConfig { amount, ..limit.clone() }.effective_burst();
    amounts.map(burst_of).min().filter(|_| asked)
}

/// Whether each grants a part of it. `checkpoints`: of long windows no more is granted than checkpoints cover.
fn is_divided(limit: &LimitConfig, checkpoints: bool) -> bool {
    !(checkpoints && limit.has_long_window())
}

/// How long at most something of a divided limit counts after its grant.
fn counts_for(account: &AccountConfig, checkpoints: bool) -> Duration {
    let divided = account.limits_in_force().filter(|limit| is_divided(limit, checkpoints));
    let counted = divided.map(|limit| limit.window + limit.delivery).max().unwrap_or_default();
    stretched(stretched(counted + account.validity + account.longest_call()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn requests(amount: u64, window: Duration) -> LimitConfig {
        let limit = json!({
            "name": "requests", "unit": "Requests", "amount": amount, "window": window, "countedAs": "Unknown",
            "delivery": Duration::from_secs(1), "pacing": "TokenBucket",
        });
        serde_json::from_value(limit).unwrap()
    }

    fn account(limits: Vec<LimitConfig>) -> AccountConfig {
        let second = |secs| Duration::from_secs(secs);
        let account = json!({
            "mode": "Enforce", "onExceeded": "Queue", "validity": second(2), "limits": limits,
            "queue": {"maxWait": second(600), "maxCalls": 1000},
            "pause": {
                "fallback": second(1), "cap": second(60), "probePatience": second(5), "maxCall": second(600),
            },
        });
        serde_json::from_value(account).unwrap()
    }

    fn of(part: Part, limit: LimitConfig) -> LimitConfig {
        part.of(account(vec![limit]), true).limits.remove(0)
    }

    /// Of the amount, of what may arrive at once, and so of the rate.
    #[test]
    fn both_parts_are_no_more_than_the_limit() {
        for amount in [1, 2, 3, 7, 19, 60, 100, 1999, 1_000_000] {
            for burst in [None, Some(1), Some(2), Some(5), Some(amount)] {
                for percent in [1, 10, 33, 50] {
                    let limit = LimitConfig { burst, ..requests(amount, Duration::from_secs(10)) };
                    let offline = of(Part::Offline(percent), limit.clone());
                    let beside = of(Part::Beside(percent), limit.clone());
                    let what = format!("{percent} % of {amount}, burst {burst:?}");
                    assert_eq!(offline.amount + beside.amount, amount, "{what}");
                    assert!(beside.amount > 0, "{what}");
                    if offline.amount > 0 {
                        let both = offline.effective_burst() + beside.effective_burst();
                        assert!(both <= limit.effective_burst(), "{what}: {both}");
                    }
                    assert_eq!(offline.declared, Some(amount));
                }
            }
        }
    }

    #[test]
    fn long_windows_are_divided_where_no_checkpoint_covers_them() {
        let day = requests(100, Duration::from_secs(86_400));
        assert_eq!(of(Part::Offline(20), day.clone()), day);
        let part = Part::Offline(20).of(account(vec![day]), false);
        assert_eq!(part.limits[0].amount, 20);
    }

    #[test]
    fn the_part_depends_on_the_time() {
        let account = account(vec![requests(100, Duration::from_secs(10))]);
        let (until, end) = (Time(7_000_000_000), Time(900_000_000_000));
        let right = Right { offline: Some((20, end)), ..Right::from(until) };
        let before = Time(until.0 - 1);
        assert_eq!((right.part(&account, true, before), right.ends(before)), (None, until));
        assert_eq!((right.part(&account, true, until), right.ends(until)), (Some(Part::Offline(20)), end));
        assert_eq!(right.part_changes(&account, true, before), Some(until));
        assert_eq!(right.part_changes(&account, true, until), None);

        let right = Right { left_out: Some((20, end)), ..Right::from(Time::NEVER) };
        let whole = right.part_changes(&account, true, end).unwrap_or_default();
        assert!(whole > end + Duration::from_secs(10), "what was granted at the end has left the window");
        assert_eq!(right.part(&account, true, Time(whole.0 - 1)), Some(Part::Beside(20)));
        assert_eq!(right.part(&account, true, whole), None);
        assert_eq!(Right::from(until).part(&account, true, until), None);
    }

    #[test]
    fn another_leaves_it_out_for_longer_than_it_lasts() {
        let offline = Offline { percent: 20, length: Duration::from_secs(900) };
        let taken = Time(0);
        assert!(offline.left_out_until(taken) > stretched_time(offline.granted_until(taken)));
    }

    fn stretched_time(time: Time) -> Time {
        Time(0) + stretched(time.since(Time(0)))
    }
}
