//! The limits of an account and of its allocations, and their use: of each limit the partition that is the fullest.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quotakeeper_api::quota::{self, ApiQuota, LimitSource, LimitStatus};
use quotakeeper_api::words::{amount_of, used_of};
use quotakeeper_engine::LimitStatus as ReportedLimit;
use quotakeeper_engine::config::{LimitConfig, NANODOLLARS, PeriodKind, Unit};
use quotakeeper_engine::name::AllocationName;
use quotakeeper_engine::sharing::AllocationConfig;
use quotakeeper_wire::tier::LearnedTier;

use super::words::{per, remaining, rounded_up_seconds};
use super::{Subject, bounded};

/// What a limit may count to in a status.
const MOST: i64 = 1_000_000_000_000_000;

/// All limits of an account, in the order of its configuration.
#[derive(Debug)]
pub(super) struct Figures<'a> {
    all: Vec<Figure<'a>>,
    /// The limits that allocations declare for themselves.
    of_allocations: Vec<Figure<'a>>,
    /// As they are reported.
    pub(super) limits: Vec<LimitStatus>,
    /// The report is of the generation that is compared with it.
    current: bool,
}

/// One limit.
#[derive(Debug)]
pub(super) struct Figure<'a> {
    pub(super) config: &'a LimitConfig,
    /// The allocation that declares it; none: it is the account's.
    pub(super) allocation: Option<&'a AllocationName>,
    /// The fullest partition, where calls have drawn on it.
    report: Option<&'a ReportedLimit>,
    /// The limiter reports: nothing is used of a limit that is not in its report.
    reporting: bool,
    waiting: u64,
}

impl<'a> Figures<'a> {
    pub(super) fn of(subject: &Subject<'a>) -> Figures<'a> {
        let configs = subject.limits();
        let reports = subject.report().map(|report| report.status.limits.as_slice()).unwrap_or_default();
        let reporting = subject.report().is_some();
        let all: Vec<Figure<'a>> =
            configs.iter().map(|config| Figure::new(config, reports, reporting)).collect();
        let limits = all.iter().map(|figure| figure.status(subject)).collect();
        let generation = subject.account().map(|account| account.generation);
        let current = subject.report().is_some_and(|report| report.generation == generation);
        Figures { all, of_allocations: of_allocations(subject), limits, current }
    }

    /// The limit of which the largest part is used: the account's or one that an allocation declares.
    pub(super) fn tightest(&self) -> Option<&Figure<'a>> {
        let fuller = |one: &Figure<'_>, other: &Figure<'_>| one.permille() >= other.permille();
        let all = self.all.iter().chain(&self.of_allocations);
        all.reduce(|one, other| if fuller(one, other) { one } else { other })
    }

    /// The budget that is used up, if one is: of several the one that is free again last.
    pub(super) fn exhausted(&self) -> Option<&Figure<'a>> {
        let spent =
            self.all.iter().filter(|figure| figure.is_budget() && !figure.is_closed() && figure.is_spent());
        spent.max_by_key(|figure| figure.report.map(|report| report.resets_in))
    }

    /// The budgets on which calls have drawn, and whose use is known, also those that allocations declare.
    pub(super) fn budgets(&self) -> impl Iterator<Item = &Figure<'a>> {
        let all = self.all.iter().chain(&self.of_allocations);
        all.filter(|figure| figure.is_budget() && !figure.is_closed() && figure.report.is_some())
    }

    /// The budgets that are closed, because it is not known what was used of them.
    pub(super) fn closed(&self) -> Vec<&Figure<'a>> {
        self.all.iter().filter(|figure| figure.is_closed()).collect()
    }

    /// The same of those that allocations declare.
    pub(super) fn closed_of_allocations(&self) -> Vec<&Figure<'a>> {
        self.of_allocations.iter().filter(|figure| figure.is_closed()).collect()
    }

    /// The names of all limits that have a window.
    pub(super) fn windows(&self) -> Vec<&'a str> {
        let windows = self.all.iter().filter(|figure| !figure.config.window.is_zero());
        windows.map(|figure| figure.config.name.as_str()).collect()
    }

    /// The names of those that checkpoints have, also of those that allocations declare.
    pub(super) fn long_windows(&self) -> Vec<&'a str> {
        let all = self.all.iter().chain(&self.of_allocations);
        let long = all.filter(|figure| figure.config.has_long_window());
        long.map(|figure| figure.config.name.as_str()).collect()
    }

    /// The limits of whose earlier use too little is known.
    pub(super) fn uncertain(&self) -> Vec<&'a str> {
        let uncertain = self.all.iter().filter(|figure| figure.is_uncertain());
        uncertain.map(|figure| figure.config.name.as_str()).collect()
    }

    /// The limits of which the provider reports less than is declared: name, reported, declared. Nothing of a
    /// report that is older than the declaration.
    pub(super) fn lowered(&self) -> Vec<(&'a str, String, String)> {
        if !self.current {
            return Vec::new();
        }
        let lowered = |figure: &Figure<'a>| {
            let reported = figure.report?.amount;
            let text = |amount: u64| match figure.config.unit {
                Unit::Dollars => amount_of(Unit::Dollars, amount),
                _ => amount.to_string(),
            };
            (reported < figure.config.amount)
                .then(|| (figure.config.name.as_str(), text(reported), text(figure.config.amount)))
        };
        self.all.iter().filter_map(lowered).collect()
    }
}

/// What an allocation declares for itself.
fn of_allocations<'a>(subject: &Subject<'a>) -> Vec<Figure<'a>> {
    let Some(account) = subject.account() else { return Vec::new() };
    let reported = subject.report().map(|report| report.status.allocations.as_slice()).unwrap_or_default();
    let of_one = |allocation: &'a AllocationConfig| {
        let report = reported.iter().find(|report| report.name == allocation.name);
        let reports = report.map(|report| report.limits.as_slice()).unwrap_or_default();
        let figure = move |config| Figure::new(config, reports, report.is_some());
        let figures = allocation.limits.iter().map(figure);
        figures.map(|figure| Figure { allocation: Some(&allocation.name), ..figure })
    };
    account.engine.sharing.allocations.iter().flat_map(of_one).collect()
}

impl<'a> Figure<'a> {
    fn new(config: &'a LimitConfig, reports: &'a [ReportedLimit], reporting: bool) -> Figure<'a> {
        let of_it = || reports.iter().filter(|report| report.name == config.name);
        // The first of equals, so that idle partitions don't take turns.
        let report = of_it().fold(None, |fullest: Option<&ReportedLimit>, report| match fullest {
            Some(fullest) if permille(fullest) >= permille(report) => Some(fullest),
            _ => Some(report),
        });
        let waiting = of_it().map(|report| report.waiting).sum();
        Figure { config, allocation: None, report, reporting, waiting }
    }
}

impl Figure<'_> {
    /// `budget`, of an allocation `sales/sales-budget`.
    pub(super) fn name(&self) -> String {
        let name = &self.config.name;
        self.allocation.map_or_else(|| name.clone(), |allocation| format!("{allocation}/{name}"))
    }

    /// Whether a good part of it is assumed to be used, because nothing is known of the time before.
    fn is_uncertain(&self) -> bool {
        self.report.is_some_and(|report| report.assumed > report.amount / 20)
    }

    /// Whether it is a budget that only what is assumed of the time before keeps closed.
    pub(super) fn is_closed(&self) -> bool {
        let closed = |report: &ReportedLimit| {
            // Beside what is assumed, one call may ask the provider.
            let assumed = report.assumed > report.amount / 20;
            assumed && known(report) < report.amount && report.used.saturating_add(1) >= report.amount
        };
        self.is_budget() && self.report.is_some_and(closed)
    }

    fn is_budget(&self) -> bool {
        self.config.is_budget()
    }

    /// Whether it is used up, or has no room for calls that have come.
    pub(super) fn is_spent(&self) -> bool {
        self.permille() >= 1000 || self.report.is_some_and(|report| report.spent)
    }

    /// That it is used up, as a sentence.
    pub(super) fn exhausted_words(&self) -> String {
        let name = self.name();
        let usage = self.usage().filter(|_| self.permille() < 1000);
        usage.map_or(format!("All of {name} is used."), |usage| {
            format!("{usage} of {name} is used, and calls don't fit into the rest.")
        })
    }

    pub(super) fn permille(&self) -> u64 {
        if self.is_closed() { 1000 } else { self.report.map_or(0, permille) }
    }

    /// In percent, rounded down; none where nothing is known.
    fn percent(&self) -> Option<u64> {
        self.reporting.then(|| self.permille() / 10)
    }

    fn resets_in(&self) -> Option<Duration> {
        let report = self.report.filter(|report| known(report) > 0 || self.is_closed())?;
        Some(report.resets_in)
    }

    /// `97%`, `<5%`, `0%`, `unknown`; of tokens and money `1.2M of 2.0M`, `$412 of $500`.
    pub(super) fn used_text(&self) -> Option<String> {
        Some(match self.percent()? {
            _ if self.is_closed() => "unknown".to_owned(),
            _ if self.config.unit.counts_tokens() => self.usage()?,
            0 if self.permille() == 0 => "0%".to_owned(),
            0..5 => "<5%".to_owned(),
            percent => format!("{percent}%"),
        })
    }

    /// `97 %`, `Under 5 %`.
    pub(super) fn used_words(&self) -> Option<String> {
        Some(match self.percent()? {
            0 if self.permille() == 0 => "0 %".to_owned(),
            0..5 => "Under 5 %".to_owned(),
            percent => format!("{percent} %"),
        })
    }

    /// How much of it is used: `1.2M of 2.0M`, `$412 of $500`.
    pub(super) fn usage(&self) -> Option<String> {
        let used = self.reporting.then(|| self.report.map_or(0, known))?;
        Some(used_of(self.config.unit, used, self.effective()))
    }

    /// This cluster's part, as the provider has lowered it.
    fn effective(&self) -> u64 {
        self.report.map_or(self.config.amount, |report| report.amount.min(self.config.amount))
    }

    /// When all of it is free again, as in a column.
    pub(super) fn resets_text(&self) -> Option<String> {
        self.resets_in().map(|left| remaining(rounded_up_seconds(left)))
    }

    /// When a budget is free again.
    pub(super) fn reset_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.resets_in().and_then(|left| reset_at(self.config, left, now))
    }

    /// What the limit is: `2M/min × 20 % share − 10 % reserve = 360k`.
    pub(super) fn shape(&self, quota: Option<&ApiQuota>) -> String {
        let hard = self.config.declared.unwrap_or(self.config.amount);
        let (unit, period) = (self.config.unit, self.config.period.as_ref());
        let hard = amount_of(unit, hard);
        let mut shape = match (unit, period.map(|period| period.kind)) {
            (Unit::ConcurrentRequests, _) => format!("{hard} at a time"),
            (_, Some(PeriodKind::Day)) => format!("{hard}/day"),
            (_, Some(PeriodKind::Week)) => format!("{hard}/week"),
            (_, Some(PeriodKind::Month)) => format!("{hard}/month"),
            (_, None) => format!("{hard}{}", per(self.config.window.as_secs())),
        };
        // What an allocation declares is not shared with other clusters.
        let (share, reserve) = quota
            .filter(|_| self.allocation.is_none())
            .map_or((100, 0), |it| (it.spec.share_percent(), it.spec.reserve_percent()));
        if share != 100 {
            shape.push_str(&format!(" × {share} % share"));
        }
        if reserve != 0 {
            shape.push_str(&format!(" − {reserve} % reserve"));
        }
        if share != 100 || reserve != 0 {
            shape.push_str(&format!(" = {}", amount_of(unit, self.config.amount)));
        }
        shape
    }

    fn status(&self, subject: &Subject<'_>) -> LimitStatus {
        let declared =
            subject.quota().is_some_and(|it| it.spec.limits.iter().any(|own| own.name == self.config.name));
        let effective = self.effective();
        let told = |learned: &LearnedTier| learned.told.iter().any(|told| told.limit == self.config.name);
        let lowered = effective < self.config.amount;
        let source = match (lowered || subject.learned().is_some_and(told), declared) {
            (true, _) => LimitSource::Headers,
            (false, true) => LimitSource::Spec,
            (false, false) => LimitSource::Tier,
        };
        let used = self.reporting.then(|| self.report.map_or(0, known));
        let certain = used.filter(|_| self.report.is_none_or(|report| report.assumed == 0));
        let assumed = self.report.map(|report| report.assumed).filter(|assumed| *assumed > 0);
        let others = self.report.map(|report| report.used_by_others).filter(|used| *used > 0);
        let unit = self.config.unit;
        let held = self.report.map(|report| report.reserved).filter(|_| unit.counts_tokens());
        // What is used is rounded up and what is left down, so that no dollar is promised that is not there.
        let [up, down] =
            [|amount, unit| figure(amount, unit, true), |amount, unit| figure(amount, unit, false)];
        LimitStatus {
            name: self.config.name.clone(),
            unit: Some(reported_unit(unit)),
            usage: self.usage(),
            source,
            hard: down(self.config.declared.unwrap_or(self.config.amount), unit),
            effective: down(effective, unit),
            used: used.map(|used| up(used, unit)),
            reserved: held.map(|held| up(held, unit)),
            used_by_others: others.map(|used| up(used, unit)),
            assumed: assumed.map(|assumed| up(assumed, unit)),
            remaining: certain.map(|used| down(effective.saturating_sub(used), unit)),
            waiting: self
                .reporting
                .then(|| if subject.queueing() { bounded(self.waiting, 1_000_000_000) } else { 0 }),
            reset_time: self.reset_at(subject.now).map(Time),
        }
    }
}

/// When a budget is free again, of which that is so in `left`; none: it is no budget.
pub(super) fn reset_at(config: &LimitConfig, left: Duration, now: Timestamp) -> Option<Timestamp> {
    let seconds = i64::try_from(rounded_up_seconds(left)).ok().filter(|_| config.is_budget())?;
    // Whole minutes: the limiter's answer is a few milliseconds older each time.
    let minutes = now.as_second().saturating_add(seconds).saturating_add(30).div_euclid(60);
    Timestamp::from_second(minutes.saturating_mul(60)).ok()
}

pub(super) fn permille(report: &ReportedLimit) -> u64 {
    let full = u128::from(report.amount.max(1));
    u64::try_from((u128::from(known(report)) * 1000 / full).min(1000)).unwrap_or(1000)
}

/// The use that has been seen, without what is only assumed because nothing is known of the time before.
pub(super) fn known(report: &ReportedLimit) -> u64 {
    report.used.saturating_sub(report.assumed)
}

/// An amount for programs: of dollars whole ones, rounded up or down.
pub(super) fn figure(amount: u64, unit: Unit, up: bool) -> i64 {
    let units = match (unit, up) {
        (Unit::Dollars, true) => amount.div_ceil(NANODOLLARS),
        (Unit::Dollars, false) => amount / NANODOLLARS,
        _ => amount,
    };
    i64::try_from(units).unwrap_or(MOST).min(MOST)
}

fn reported_unit(unit: Unit) -> quota::Unit {
    match unit {
        Unit::Requests => quota::Unit::Requests,
        Unit::ConcurrentRequests => quota::Unit::ConcurrentRequests,
        Unit::InputTokens => quota::Unit::InputTokens,
        Unit::OutputTokens => quota::Unit::OutputTokens,
        Unit::TotalTokens => quota::Unit::TotalTokens,
        Unit::Credits => quota::Unit::Credits,
        Unit::Dollars => quota::Unit::Dollars,
    }
}
