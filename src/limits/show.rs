//! The limits as a table for people, and as a value for programs.

use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::{LimitStatus, PauseStatus};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::status::{AccountReport, PastUse};
use quotakeeper_wire::tier::{TierBasis, ToldLimit};
use serde_json::{Value, json};

use super::{Known, estimates};
use crate::run::words::{count, duration};
use crate::tables::{number, shown, table, window_of};

/// The limits of accounts as their quotas and tiers declare them.
pub fn declared(accounts: &[CompiledAccount]) -> String {
    let mut rows = Vec::new();
    let mut notes = String::new();
    for account in accounts {
        for limit in &account.engine.limits {
            let name = format!("{}{}", limit.name, each_model(limit));
            let (quota, tier) = (account.quota.to_string(), account.tier.clone());
            rows.push(vec![quota, tier, name, shown(limit.unit, limit.amount), window_of(limit)]);
        }
        if let Some(undeclared) = &account.undeclared {
            notes += &format!("\n{}: {}\n", account.quota, undeclared.question());
        }
        notes += &not_enforced(account, &account.not_enforced);
        notes += &warnings(account);
    }
    table(&["QUOTA", "TIER", "LIMIT", "AMOUNT", "PER"], &rows) + &notes
}

/// The limits with what is left of them.
pub fn text(accounts: &[CompiledAccount], known: &Known, wide: bool) -> String {
    let mut rows = Vec::new();
    let mut notes = String::new();
    for account in accounts {
        let Some(report) = known.get(&account.quota) else { continue };
        let in_force = InForce { account, report };
        for limit in in_force.limits() {
            rows.extend(in_force.counts(limit).into_iter().map(|counts| in_force.row(limit, counts, wide)));
        }
        notes += &in_force.notes();
    }
    let mut headings = vec!["LEFT", "OF", "PER", "QUOTA", "LIMIT", "USED", "ASSUMED", "FROM"];
    if wide {
        headings.extend(["BY OTHERS", "ALL FREE IN", "COUNTED AS"]);
    }
    let reports: Vec<_> = accounts.iter().filter_map(|account| known.get(&account.quota)).collect();
    table(&headings, &rows) + &notes + &estimates::text(&reports)
}

/// The limits for programs.
pub fn value(account: &CompiledAccount, report: Option<&AccountReport>) -> Value {
    let Some(report) = report else { return Value::Null };
    let in_force = InForce { account, report };
    let limit = |limit: &LimitConfig| {
        let number = |amount: u64| number(limit.unit, amount);
        let counts: Vec<Value> = in_force
            .counts(limit)
            .into_iter()
            .flatten()
            .map(|it| {
                let told = in_force.told(limit, it);
                json!({
                    "model": it.model, "amount": number(it.amount),
                    "used": number(it.used.saturating_sub(it.assumed)), "reserved": number(it.reserved),
                    "usedByOthers": number(it.used_by_others), "assumed": number(it.assumed), "left": number(left(it)),
                    "source": in_force.source(limit, it), "told": told,
                })
            })
            .collect();
        json!({
            "name": limit.name, "unit": limit.unit, "amount": number(limit.amount),
            "windowSeconds": limit.window.as_secs(), "period": limit.period,
            "eachModelApart": limit.per_model, "counts": counts,
        })
    };
    json!({
        "quota": account.quota, "provider": account.provider(), "tier": report.tier,
        "tierDeclared": account.undeclared.is_none(), "past": report.past,
        "limits": in_force.limits().iter().map(limit).collect::<Vec<_>>(),
        "concurrency": report.status.concurrency, "estimates": estimates::value(report), "waiting": report.status.waiting_calls(),
        "pauses": report.status.pauses, "notEnforced": in_force.not_enforced(),
        "warnings": account.warnings,
    })
}

/// An account with what is known of it.
struct InForce<'a> {
    account: &'a CompiledAccount,
    report: &'a AccountReport,
}

impl<'a> InForce<'a> {
    /// The limits in force: those of the tier that was learned, where none is declared.
    fn limits(&self) -> &'a [LimitConfig] {
        self.report.learned.as_ref().map_or(&self.account.engine.limits, |learned| &learned.limits)
    }

    fn not_enforced(&self) -> &'a [String] {
        let tiers = self.account.undeclared.iter().flat_map(|undeclared| &undeclared.tiers);
        let learned =
            tiers.filter(|tier| tier.name == self.report.tier).map(|tier| &tier.not_enforced).next();
        learned.unwrap_or(&self.account.not_enforced)
    }

    /// What is known of a limit: one entry, or one for each model that has been counted; none: no call was counted.
    fn counts(&self, limit: &LimitConfig) -> Vec<Option<&'a LimitStatus>> {
        let found: Vec<_> =
            self.report.status.limits.iter().filter(|it| it.name == limit.name).map(Some).collect();
        if found.is_empty() { vec![None] } else { found }
    }

    fn row(&self, limit: &LimitConfig, counts: Option<&LimitStatus>, wide: bool) -> Vec<String> {
        let quota = self.account.quota.to_string();
        let shown = |amount: u64| shown(limit.unit, amount);
        let Some(counts) = counts else {
            let fresh = matches!(self.report.past, PastUse::New | PastUse::Recorded);
            let left = if fresh { shown(limit.amount) } else { "unknown".to_owned() };
            let name = format!("{}{}", limit.name, each_model(limit));
            let mut row = vec![left, shown(limit.amount), window_of(limit), quota, name];
            row.extend([String::new(), String::new(), self.tier()]);
            return row;
        };
        let model = counts.model.as_ref().map(|model| format!(" ({model})"));
        let name = format!("{}{}", limit.name, model.unwrap_or_else(|| each_model(limit)));
        let mut row = vec![shown(left(counts)), shown(counts.amount), window_of(limit), quota, name];
        row.push(shown(counts.used.saturating_sub(counts.assumed)));
        row.push(shown(counts.assumed));
        row.push(self.from(limit, counts));
        if wide {
            row.push(shown(counts.used_by_others));
            row.push(duration(counts.resets_in));
            row.push(format!("{:?}", limit.counted_as));
        }
        row
    }

    /// Where the amount in force comes from, in one word.
    fn source(&self, limit: &LimitConfig, counts: &LimitStatus) -> &'static str {
        let of_tier = self.account.profile.limit(&self.report.tier, &limit.name);
        match of_tier {
            _ if self.told(limit, counts).is_some() => "learned",
            _ if counts.amount < limit.amount => "answers",
            Some(tier) if tier.amount == limit.declared.unwrap_or(limit.amount) => "tier",
            _ => "quota",
        }
    }

    /// The same in words: of what was learned who told it to whom, and when.
    fn from(&self, limit: &LimitConfig, counts: &LimitStatus) -> String {
        match (self.told(limit, counts), self.source(limit, counts)) {
            (Some(told), _) => self.learned(told),
            (None, "tier") => self.tier(),
            (None, "answers") => "the provider's answers".to_owned(),
            (None, other) => other.to_owned(),
        }
    }

    fn learned(&self, told: &ToldLimit) -> String {
        let by = told.by.as_ref().map(|by| format!(" to {by}")).unwrap_or_default();
        let since = told.since.map(|since| format!(" at {since}")).unwrap_or_default();
        format!("{} {}, told{by}{since}", told.header, told.amount)
    }

    fn tier(&self) -> String {
        let basis = self.report.learned.as_ref().map(|learned| learned.basis);
        let note = match basis {
            None => "",
            Some(TierBasis::Matched) => ", learned",
            Some(TierBasis::Assumed | TierBasis::Told) => ", assumed",
        };
        format!("tier {}{note}", self.report.tier)
    }

    fn told(&self, limit: &LimitConfig, counts: &LimitStatus) -> Option<&'a ToldLimit> {
        let mut told = self.report.learned.iter().flat_map(|learned| &learned.told);
        told.find(|told| told.limit == limit.name && (told.model.is_none() || told.model == counts.model))
    }

    /// What there is to say below the table.
    fn notes(&self) -> String {
        let quota = &self.account.quota;
        let status = &self.report.status;
        let mut notes = String::new();
        let learned = self.report.learned.as_ref();
        if learned.is_some_and(|learned| learned.basis == TierBasis::Assumed)
            && let Some(undeclared) = &self.account.undeclared
        {
            notes += &format!("\n{quota}: {}\n", undeclared.question());
        }
        for pause in &status.pauses {
            notes += &format!("\n{quota}: {}\n", paused(pause));
        }
        if let Some(longest) = status.longest_wait() {
            let calls = count(status.waiting_calls(), "call waits", "calls wait");
            notes += &format!("\n{quota}: {calls}, the longest for {} so far\n", duration(longest));
        }
        for learned in &status.concurrency {
            notes += &format!(
                "\n{quota}: the provider takes {} at the same time ({}), as its rejections have shown\n",
                count(learned.calls, "call", "calls"),
                learned.scope
            );
        }
        notes + &not_enforced(self.account, self.not_enforced()) + &warnings(self.account)
    }
}

fn paused(pause: &PauseStatus) -> String {
    let more = duration(pause.remaining);
    match pause.stopped {
        true => format!("stopped by the provider{}, asks again in {more}: {}", pause.callers, pause.reason),
        false => format!("paused for {more} more: {}", pause.reason),
    }
}

fn not_enforced(account: &CompiledAccount, limits: &[String]) -> String {
    match limits {
        [] => String::new(),
        limits => format!("\n{}: not enforced: {}\n", account.quota, limits.join(", ")),
    }
}

fn warnings(account: &CompiledAccount) -> String {
    account.warnings.iter().map(|warning| format!("\n{}: {warning}\n", account.quota)).collect()
}

/// What may still be used of a limit now.
fn left(counts: &LimitStatus) -> u64 {
    counts.amount.saturating_sub(counts.used)
}

fn each_model(limit: &LimitConfig) -> String {
    if limit.per_model { " (each model)".to_owned() } else { String::new() }
}
