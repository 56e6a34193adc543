//! Whether a campaign fits, when it ends, and what holds it up.

use std::time::Duration;

use quotakeeper_engine::cost::Amount;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::QuotaName;

use crate::campaign::{Call, Campaign, times};
use crate::need::{self, Need};
use crate::scale;
use crate::simulation::{HORIZON, Outcome, not_within_the_horizon, play};

/// Workers where the campaign names none, at most.
const MOST_WORKERS: u64 = 1_000;

/// What a person is told of a campaign.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Whether it fits.
    pub verdict: Verdict,
    /// When it ends, after its beginning; none: never.
    pub end: Option<End>,
    /// Why it never ends, as a sentence.
    pub never: Option<String>,
    /// What it draws of each limit that counts its calls.
    pub needs: Vec<Need>,
    /// What holds it up most.
    pub bottleneck: Bottleneck,
    /// Calls to each quota, and what they cost, in nanodollars; none: no price is known.
    pub calls: Vec<(QuotaName, u64, Option<Amount>)>,
    /// How long a call waits for its grant at most.
    pub waits: Vec<Wait>,
    /// How many records were worked on at the same time at most.
    pub workers: u64,
    /// How many calls were under way at the same time on an average: with fewer workers it takes longer.
    pub under_way: u64,
}

/// How long calls to a quota wait for their grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The quota.
    pub quota: QuotaName,
    /// The longest wait.
    pub longest: Duration,
    /// After how long the provider's usual clients give up; a call that would have to wait longer is refused.
    pub patience: Option<Duration>,
    /// How long the quota lets calls wait, where it says so.
    pub maximum: Option<Duration>,
}

/// When a campaign ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// If calls take and use as much less as they may.
    pub earliest: Duration,
    /// With the figures as they are.
    pub expected: Duration,
    /// If calls take and use as much more as they may; none: then it never ends.
    pub latest: Option<Duration>,
}

/// Whether a campaign fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has no deadline, and ends.
    Ends,
    /// It ends in time, even if it takes as long as it may.
    Fits,
    /// It is expected to end in time, but may not.
    Tight,
    /// It ends after its deadline.
    Late,
    /// Its limits let less through until the deadline, whatever else happens.
    Impossible,
    /// A call can never be sent, or there is no end in sight.
    Never,
}

impl Verdict {
    /// Whether the campaign can be begun.
    pub fn is_good(&self) -> bool {
        matches!(self, Verdict::Ends | Verdict::Fits | Verdict::Tight)
    }
}

/// What makes a campaign take as long as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// The limit at this place of the needs.
    Limit(usize),
    /// The workers: with more of them it would end earlier.
    Workers,
    /// A quota lets so many calls of one workload be under way.
    PerWorkload {
        /// The quota.
        quota: QuotaName,
        /// `maxConcurrentPerWorkload`.
        most: u32,
    },
}

/// How far figures are moved.
#[derive(Clone, Copy)]
enum Moved {
    Down,
    Up,
}

/// Plays a campaign that arithmetic does not exclude.
fn played(campaign: &Campaign, accounts: &[CompiledAccount], workers: u64) -> Outcome {
    let limits = need::needs(campaign, accounts).iter().map(|need| need.least).max().unwrap_or_default();
    match limits.max(need::answers(campaign, workers)) > HORIZON {
        true => Outcome::Never(not_within_the_horizon()),
        false => play(campaign, accounts, workers),
    }
}

/// What is to be expected of a campaign on these accounts.
pub fn forecast(campaign: &Campaign, accounts: &[CompiledAccount]) -> Forecast {
    let needs = need::needs(campaign, accounts);
    let workers = workers(campaign, &needs);
    let [low, high] = [Moved::Down, Moved::Up].map(|moved| varied(campaign, moved));
    let (expected, earliest, latest) = std::thread::scope(|scope| {
        let others = scope.spawn(|| (played(&low, accounts, workers), played(&high, accounts, workers)));
        let expected = played(campaign, accounts, workers);
        let (earliest, latest) = others.join().unwrap_or_else(|_| (expected.clone(), expected.clone()));
        (expected, earliest, latest)
    });
    let too_large = needs.iter().find(|need| need.never).map(|need| {
        format!(
            "a single call draws more of {} of {} than the {} that it has",
            need.limit.name, need.quota, need.amount
        )
    });
    let never = too_large.or_else(|| why(&expected));
    let end = after(&expected).filter(|_| never.is_none()).map(|expected| End {
        earliest: after(&earliest).map_or(expected, |earliest| earliest.min(expected)),
        expected,
        latest: after(&latest).map(|latest| latest.max(expected)),
    });
    let least = need::needs(&low, accounts).iter().map(|need| need.least).max().unwrap_or_default();
    let verdict = verdict(end, least, campaign.time());
    let (under_way, waits) = match &expected {
        Outcome::Done { under_way, waits, .. } => (*under_way, of_quotas(accounts, waits)),
        Outcome::Never(_) => (0, Vec::new()),
    };
    let bottleneck = bottleneck(campaign, accounts, &needs, workers);
    let calls = calls(campaign, accounts);
    Forecast { verdict, end, never, bottleneck, calls, waits, needs, workers, under_way }
}

/// The waits of those accounts whose calls have waited.
fn of_quotas(accounts: &[CompiledAccount], waits: &[Duration]) -> Vec<Wait> {
    let waited = accounts.iter().zip(waits).filter(|(_, longest)| !longest.is_zero());
    waited
        .map(|(account, longest)| {
            let patience = account.profile.client.as_ref().and_then(|client| client.patience_seconds);
            let patience = patience.map(|seconds| Duration::from_secs(seconds.into()));
            let maximum = account.engine.queue.max_absence;
            Wait { quota: account.quota.clone(), longest: *longest, patience, maximum }
        })
        .collect()
}

/// When a campaign is expected to end on these accounts; none: never.
pub fn end(campaign: &Campaign, accounts: &[CompiledAccount]) -> Option<Duration> {
    let needs = need::needs(campaign, accounts);
    if needs.iter().any(|need| need.never) {
        return None;
    }
    after(&played(campaign, accounts, workers(campaign, &needs)))
}

/// How many calls are simulated to foresee an end once.
pub fn effort(campaign: &Campaign, accounts: &[CompiledAccount]) -> u64 {
    scale::simulated(campaign, accounts)
}

/// When it ends at the latest.
pub fn latest_end(campaign: &Campaign, accounts: &[CompiledAccount]) -> Option<Duration> {
    end(&varied(campaign, Moved::Up), accounts)
}

fn after(outcome: &Outcome) -> Option<Duration> {
    if let Outcome::Done { after, .. } = outcome { Some(*after) } else { None }
}

fn why(outcome: &Outcome) -> Option<String> {
    if let Outcome::Never(why) = outcome { Some(why.clone()) } else { None }
}

fn verdict(end: Option<End>, least: Duration, time: Option<Duration>) -> Verdict {
    match (end, time) {
        (_, Some(time)) if least > time => Verdict::Impossible,
        (None, _) => Verdict::Never,
        (Some(_), None) => Verdict::Ends,
        (Some(end), Some(time)) if end.latest.is_some_and(|latest| latest <= time) => Verdict::Fits,
        (Some(end), Some(time)) if end.expected <= time => Verdict::Tight,
        (Some(_), Some(_)) => Verdict::Late,
    }
}

/// The campaign's workers, or twice as many as its tightest limit can use. Of those that would only wait no more than a
/// multiple is played: nothing depends on how many wait.
fn workers(campaign: &Campaign, needs: &[Need]) -> u64 {
    let least = needs.iter().map(|need| need.least).max().unwrap_or_default();
    let busy = need::answers(campaign, 1).as_secs_f64();
    let usable = if least.is_zero() { MOST_WORKERS as f64 } else { 2.0 * busy / least.as_secs_f64() };
    // Beside others it gets its part of what comes at once only with as many calls waiting.
    let burst = needs.iter().map(Need::at_once).max().filter(|_| !campaign.others.is_empty());
    let usable = (usable.ceil() as u64).saturating_add(1).max(burst.unwrap_or(0).min(MOST_WORKERS));
    match campaign.workers {
        Some(workers) => workers.min(usable.saturating_mul(10).max(MOST_WORKERS)),
        None => usable.min(MOST_WORKERS),
    }
    .clamp(1, campaign.records.max(1))
}

fn bottleneck(campaign: &Campaign, accounts: &[CompiledAccount], needs: &[Need], workers: u64) -> Bottleneck {
    let per_workload = accounts.iter().enumerate().filter_map(|(index, account)| {
        let most = account.engine.sharing.max_concurrent_per_workload?;
        let quota = account.quota.clone();
        Some((need::at_once(campaign, index, most), Bottleneck::PerWorkload { quota, most }))
    });
    let by_workers = need::answers(campaign, workers).max(need::one_record(campaign));
    let limits = needs.iter().enumerate();
    let limits =
        limits.map(|(at, need)| (if need.never { Duration::MAX } else { need.least }, Bottleneck::Limit(at)));
    let all = [(by_workers, Bottleneck::Workers)].into_iter().chain(per_workload).chain(limits);
    all.max_by_key(|(least, _)| *least).map_or(Bottleneck::Workers, |(_, bottleneck)| bottleneck)
}

fn calls(campaign: &Campaign, accounts: &[CompiledAccount]) -> Vec<(QuotaName, u64, Option<Amount>)> {
    let mut found: Vec<(QuotaName, u64, Option<Amount>)> = Vec::new();
    for (step, calls) in campaign.steps.iter().zip(campaign.calls()) {
        let account = &accounts[step.call.account];
        let model = step.call.demand.class.model.as_deref();
        let price = account.engine.price(model, &step.call.usage);
        let cost = price.map(|Amount(one)| Amount(one.saturating_mul(calls)));
        match found.iter_mut().find(|(quota, ..)| *quota == account.quota) {
            Some((_, all, costs)) => {
                *all += calls;
                *costs = costs.zip(cost).map(|(one, other)| one + other);
            }
            None => found.push((account.quota.clone(), calls, cost)),
        }
    }
    found
}

/// The same campaign, with calls that take and use less or more.
fn varied(campaign: &Campaign, moved: Moved) -> Campaign {
    let mut campaign = campaign.clone();
    let steps = campaign.steps.iter_mut().map(|step| &mut step.call);
    for call in steps.chain(campaign.others.iter_mut().map(|other| &mut other.call)) {
        vary(call, moved);
    }
    campaign
}

fn vary(call: &mut Call, moved: Moved) {
    let percent = match moved {
        Moved::Down => 100 - call.spread.min(100),
        Moved::Up => 100 + call.spread,
    };
    let scaled = |amount: u64| times(amount, percent, 100);
    call.usage.input = scaled(call.usage.input);
    call.usage.output = scaled(call.usage.output);
    let nanos = scaled(u64::try_from(call.answer.as_nanos()).unwrap_or(u64::MAX));
    call.answer = Duration::from_nanos(nanos);
    if let Some(size) = &mut call.demand.size {
        size.text_bytes = scaled(size.text_bytes);
        // No answer is longer than its request allows.
        if let Some(most) = size.max_output {
            call.usage.output = call.usage.output.min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ending(earliest: u64, expected: u64, latest: u64) -> Option<End> {
        let [earliest, expected, latest] =
            [earliest, expected, latest].map(|minutes| MINUTE * minutes as u32);
        Some(End { earliest, expected, latest: Some(latest) })
    }

    #[test]
    fn a_verdict_is_of_the_range_and_the_deadline() {
        let of = |end, least: u32, time: Option<u32>| {
            verdict(end, MINUTE * least, time.map(|minutes| MINUTE * minutes))
        };
        assert_eq!(of(ending(8, 10, 12), 5, None), Verdict::Ends);
        assert_eq!(of(ending(8, 10, 12), 5, Some(12)), Verdict::Fits);
        assert_eq!(of(ending(8, 10, 12), 5, Some(11)), Verdict::Tight);
        assert_eq!(of(ending(8, 10, 12), 5, Some(9)), Verdict::Late);
        assert_eq!(of(ending(8, 10, 12), 5, Some(4)), Verdict::Impossible);
        let perhaps = ending(8, 10, 12).map(|end| End { latest: None, ..end });
        assert_eq!(of(perhaps, 5, Some(20)), Verdict::Tight, "it may never end");
        assert_eq!(of(None, 5, Some(6)), Verdict::Never);
    }
}
