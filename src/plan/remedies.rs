//! With what a campaign that does not fit would fit: each remedy is tried by planning the campaign anew.

use std::time::Duration;

use quotakeeper_api::compile;
use quotakeeper_api::load::Documents;
use quotakeeper_api::quota::{Account, ApiQuota};
use quotakeeper_planner::Campaign;
use quotakeeper_planner::forecast::{Bottleneck, Forecast, Verdict, effort, end, latest_end};
use quotakeeper_planner::need::{self, Need};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::QuotaName;

/// Calls that are simulated for one try, at most: there are up to thirty tries.
const MOST_EFFORT: u64 = 500_000;

/// Another tier, another share, more workers, more time.
#[derive(Clone, Debug, PartialEq)]
pub enum Remedy {
    /// The lowest tiers with which it fits.
    Tiers {
        /// The quotas that need another one, and which.
        tiers: Vec<(QuotaName, String)>,
        /// When it ends then.
        end: Duration,
    },
    /// No tier of a provider is enough.
    NoTier {
        /// Its quota.
        quota: QuotaName,
        /// The best tier of it, after those that the others need.
        tiers: Vec<(QuotaName, String)>,
        /// When it ends with them.
        end: Option<Duration>,
    },
    /// A larger part of the account.
    Share {
        /// The quota.
        quota: QuotaName,
        /// The part, in percent.
        percent: u32,
        /// When it ends then.
        end: Duration,
    },
    /// More records at the same time.
    Workers {
        /// How many.
        workers: u64,
        /// When it ends then.
        end: Duration,
    },
    /// A later deadline, after the beginning.
    Deadline(Duration),
    /// Fewer records.
    Records(u64),
}

/// What would make a campaign fit that does not.
pub fn find(
    campaign: &Campaign,
    accounts: &[CompiledAccount],
    documents: &Documents,
    forecast: &Forecast,
) -> Vec<Remedy> {
    let Some(time) = campaign.time().filter(|_| forecast.verdict != Verdict::Fits) else { return Vec::new() };
    let mut remedies = Vec::new();
    let tries = effort(campaign, accounts) <= MOST_EFFORT;
    match forecast.bottleneck {
        _ if !tries => {}
        Bottleneck::Workers => remedies.extend(more_workers(campaign, accounts, time)),
        Bottleneck::PerWorkload { .. } => {}
        Bottleneck::Limit(at) => {
            let quota = &forecast.needs[at].quota;
            let tried = Tried { campaign, documents, time, quota };
            remedies.extend(tried.larger_share());
            remedies.extend(tried.other_tiers(accounts));
        }
    }
    remedies.extend(forecast.end.and_then(|end| end.latest).map(Remedy::Deadline));
    if tries {
        remedies.extend(fewer_records(campaign, accounts, time));
    }
    remedies
}

/// Twice as many workers, until it fits or no more of them help.
fn more_workers(campaign: &Campaign, accounts: &[CompiledAccount], time: Duration) -> Option<Remedy> {
    let now = campaign.workers?;
    let with = |workers: u64| latest_end(&Campaign { workers: Some(workers), ..campaign.clone() }, accounts);
    let enough =
        (1..8).map(|doubled| now << doubled).find(|workers| with(*workers).is_some_and(|end| end <= time))?;
    let (mut too_few, mut enough) = (enough / 2, enough);
    while enough - too_few > enough.div_ceil(20) {
        let middle = too_few.midpoint(enough);
        match with(middle) {
            Some(end) if end <= time => enough = middle,
            _ => too_few = middle,
        }
    }
    let end = end(&Campaign { workers: Some(enough), ..campaign.clone() }, accounts)?;
    Some(Remedy::Workers { workers: enough, end })
}

/// As many records as are done in time.
fn fewer_records(campaign: &Campaign, accounts: &[CompiledAccount], time: Duration) -> Option<Remedy> {
    let fits = |records: u64| {
        let smaller = Campaign { records, ..campaign.clone() };
        latest_end(&smaller, accounts).is_some_and(|end| end <= time)
    };
    let (mut some, mut too_many) = (0, campaign.records);
    // A fiftieth of what fits is close enough.
    while too_many - some > (some / 50).max(1) {
        let middle = some.midpoint(too_many);
        if fits(middle) { some = middle } else { too_many = middle }
    }
    (some > 0).then_some(Remedy::Records(some))
}

/// What comes of other tiers of a quota.
enum Raised {
    /// It fits with this one.
    Fits { tier: String, end: Duration },
    /// This one lets all through in time, but another quota does not.
    HeldBy { tier: String, other: QuotaName },
    /// None lets all through in time; this is the best.
    NotEnough { tier: String },
}

fn set_tier(documents: &mut Documents, name: &QuotaName, tier: &str) {
    let quotas = documents.quotas.iter_mut().map(|(_, quota)| quota);
    for quota in quotas.filter(|quota| compile::name(quota) == *name) {
        quota.spec.provider.tier = Some(tier.to_owned());
    }
}

/// A campaign that is tried with a changed quota.
struct Tried<'a> {
    campaign: &'a Campaign,
    documents: &'a Documents,
    time: Duration,
    quota: &'a QuotaName,
}

impl Tried<'_> {
    /// When it ends if its quota is changed so; none: such a quota is no good, or it never ends.
    fn with(&self, change: impl Fn(&mut ApiQuota)) -> Option<Duration> {
        let mut documents = self.documents.clone();
        let quotas = documents.quotas.iter_mut().map(|(_, quota)| quota);
        quotas.filter(|quota| compile::name(quota) == *self.quota).for_each(change);
        end(self.campaign, &documents.accounts().ok()?)
    }

    /// The first tier with which its quota lets all through in time, and the same of the quotas that hold it up then.
    fn other_tiers(&self, accounts: &[CompiledAccount]) -> Option<Remedy> {
        let mut documents = self.documents.clone();
        let (mut quota, mut tiers) = (self.quota.clone(), Vec::new());
        for _ in accounts {
            match self.raise(&documents, &quota)? {
                Raised::Fits { tier, end } => {
                    tiers.push((quota, tier));
                    return Some(Remedy::Tiers { tiers, end });
                }
                Raised::HeldBy { tier, other } => {
                    set_tier(&mut documents, &quota, &tier);
                    tiers.push((std::mem::replace(&mut quota, other), tier));
                }
                Raised::NotEnough { tier } => {
                    set_tier(&mut documents, &quota, &tier);
                    let end = end(self.campaign, &documents.accounts().ok()?);
                    tiers.push((quota.clone(), tier));
                    return Some(Remedy::NoTier { quota, tiers, end });
                }
            }
        }
        None
    }

    /// Tries the tiers of a quota in the order of the profile, which begins with the lowest.
    fn raise(&self, documents: &Documents, quota: &QuotaName) -> Option<Raised> {
        let before = documents.accounts().ok()?;
        let account = before.iter().find(|account| account.quota == *quota)?;
        let mut best: Option<(Duration, String)> = None;
        for tier in account.profile.tier_names().into_iter().filter(|tier| *tier != account.tier) {
            let mut documents = documents.clone();
            set_tier(&mut documents, quota, tier);
            // A tier that the quota's own limits contradict is none for it.
            let Ok(accounts) = documents.accounts() else { continue };
            let needs = need::needs(self.campaign, &accounts);
            let least = |of: &dyn Fn(&&Need) -> bool| {
                let of = needs.iter().filter(of);
                of.max_by_key(|need| if need.never { Duration::MAX } else { need.least }).cloned()
            };
            let own = least(&|need| need.quota == *quota);
            let takes =
                own.map_or(Duration::ZERO, |need| if need.never { Duration::MAX } else { need.least });
            if best.as_ref().is_none_or(|(least, _)| takes < *least) {
                best = Some((takes, tier.to_owned()));
            }
            if takes > self.time {
                continue;
            }
            if let Some(end) = end(self.campaign, &accounts).filter(|end| *end <= self.time) {
                return Some(Raised::Fits { tier: tier.to_owned(), end });
            }
            let other = least(&|need| need.quota != *quota);
            if let Some(other) = other.filter(|need| need.never || need.least > self.time) {
                return Some(Raised::HeldBy { tier: tier.to_owned(), other: other.quota });
            }
        }
        best.map(|(_, tier)| Raised::NotEnough { tier })
    }

    /// The smallest share with which it fits, in steps of five percent.
    fn larger_share(&self) -> Option<Remedy> {
        let (_, quota) =
            self.documents.quotas.iter().find(|(_, quota)| compile::name(quota) == *self.quota)?;
        let now = quota.spec.account.as_ref().and_then(|account| account.share_percent).unwrap_or(100);
        let shares = (now / 5 + 1..=20).map(|fives| fives * 5);
        let with = |percent: i32| {
            self.with(|quota| {
                let account = quota.spec.account.get_or_insert_with(Account::default);
                account.share_percent = Some(percent);
            })
        };
        // If the whole account is not enough, no part of it is.
        with(100).filter(|end| now < 100 && *end <= self.time)?;
        let found = shares.map(|percent| (percent, with(percent)));
        let (percent, end) = found
            .into_iter()
            .find_map(|(percent, end)| end.filter(|end| *end <= self.time).map(|end| (percent, end)))?;
        Some(Remedy::Share { quota: self.quota.clone(), percent: u32::try_from(percent).ok()?, end })
    }
}
