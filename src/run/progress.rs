//! The progress line: what is used, what waits, until when, and what it has cost so far.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use quotakeeper_engine::LimitStatus;
use quotakeeper_wire::status::AccountReport;

use super::terminal::Terminal;
use super::usage::UsageSeen;
use super::words::{duration, limit_name, limit_use};

/// How often a plain line is written while calls wait.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows progress on standard error.
#[derive(Default)]
pub struct Line {
    style: Style,
    last_state: String,
    last_plain: Option<Instant>,
}

/// How progress is shown.
#[derive(Default)]
pub enum Style {
    /// A line that is updated on the terminal.
    Live(Terminal),
    /// A line per change, and every ten seconds while calls wait.
    Plain,
    /// Not at all.
    #[default]
    Off,
}

impl Line {
    /// A line in a style.
    pub fn new(style: Style) -> Line {
        Line { style, ..Line::default() }
    }

    /// Shows the status of the accounts, and what their calls have used so far.
    pub fn show(&mut self, accounts: &[AccountReport], usage: &UsageSeen) {
        match &self.style {
            Style::Off => {}
            Style::Live(terminal) => terminal.draw(variants(accounts, usage)),
            Style::Plain => self.show_plain(accounts, usage),
        }
    }

    /// Passes the terminal's new size on.
    pub fn fit(&self) {
        if let Style::Live(terminal) = &self.style {
            terminal.fit();
        }
    }

    fn show_plain(&mut self, accounts: &[AccountReport], usage: &UsageSeen) {
        let state = state(accounts);
        let quiet = accounts.iter().all(|account| account.status.waiting.is_empty());
        // That nothing waits is no news at first.
        let begins = self.last_state.is_empty() && quiet;
        let begins = begins && accounts.iter().all(|account| account.status.pauses.is_empty());
        if begins {
            self.last_state.clone_from(&state);
        }
        let changed = state != self.last_state;
        let due = self.last_plain.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) && !quiet;
        if changed || due {
            self.last_state = state;
            self.last_plain = Some(Instant::now());
            let line = format!("quotakeeper: {}\n", words(accounts, usage));
            let mut stderr = io::stderr().lock();
            // A closed standard error is no failure.
            let _ = stderr.write_all(line.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}

/// The part of the status whose change is worth a plain line.
fn state(accounts: &[AccountReport]) -> String {
    let of = |account: &AccountReport| {
        let paused: Vec<&str> = account.status.pauses.iter().map(|pause| pause.reason.as_str()).collect();
        format!("{}:{}:{paused:?}", account.quota, !account.status.waiting.is_empty())
    };
    accounts.iter().map(of).collect::<Vec<_>>().join(";")
}

/// The line in all detail, and shorter ones for narrow terminals.
fn variants(accounts: &[AccountReport], usage: &UsageSeen) -> Vec<String> {
    let each =
        |of: &dyn Fn(&AccountReport) -> String| accounts.iter().map(of).collect::<Vec<_>>().join("  |  ");
    let waiting = |account: &AccountReport| format!("{} waiting", account.status.waiting_calls());
    let paused = |account: &AccountReport| match account.status.pauses.iter().map(|it| it.remaining).max() {
        Some(remaining) => format!("  PAUSED {}", duration(remaining)),
        None => String::new(),
    };
    let used = |account: &AccountReport| {
        let used = tightest(&account.status.limits).map(limit_use);
        used.map(|used| format!("  {used}")).unwrap_or_default()
    };
    vec![
        words(accounts, usage),
        each(&|account| {
            format!("{}{}  {}{}", account.quota, used(account), waiting(account), paused(account))
        }),
        each(&|account| format!("{}  {}{}", account.quota, waiting(account), paused(account))),
        each(&|account| format!("{}{}", waiting(account), paused(account))),
    ]
}

fn words(accounts: &[AccountReport], usage: &UsageSeen) -> String {
    let each = accounts.iter().map(|account| account_words(account, usage));
    each.collect::<Vec<_>>().join("  |  ")
}

fn account_words(account: &AccountReport, usage: &UsageSeen) -> String {
    let status = &account.status;
    let mut words = account.quota.to_string();
    if let Some(limit) = tightest(&status.limits) {
        words += &format!("  {} {} used", limit_name(limit), limit_use(limit));
        if limit.assumed > 0 {
            words += ", earlier use unknown";
        }
    }
    words += &format!("  {} waiting", status.waiting_calls());
    if let Some(longest) = status.longest_wait() {
        words += &format!(", longest {}", duration(longest));
    }
    for pause in &status.pauses {
        words += &if pause.stopped {
            let again = duration(pause.remaining);
            format!("  STOPPED by the provider{}, asks again in {again}: {}", pause.callers, pause.reason)
        } else if pause.remaining.is_zero() {
            format!("  probing after: {}", pause.reason)
        } else {
            format!("  PAUSED {} more: {}", duration(pause.remaining), pause.reason)
        };
    }
    if let Some(spent) = usage.spent(&account.quota) {
        words += &format!("  {spent} so far");
    }
    words
}

/// The limit of which the largest part is used.
fn tightest(limits: &[LimitStatus]) -> Option<&LimitStatus> {
    // Of equals the first.
    limits.iter().rev().max_by_key(|limit| known_use(limit).saturating_mul(1000) / limit.amount.max(1))
}

fn known_use(limit: &LimitStatus) -> u64 {
    limit.used.saturating_sub(limit.assumed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::usage::tests::account;

    #[test]
    fn what_tokens_cost_so_far_is_told_and_left_out_first_where_there_is_no_room() {
        let model =
            json!({"model": "m", "calls": 9, "input": 12_000, "output": 3_400, "nanodollars": 25_000_000});
        let accounts = [account(&json!([{"consumer": "sh", "calls": 9, "models": [model]}]))];
        let mut usage = UsageSeen::default();
        assert_eq!(words(&accounts, &usage), "gtm/openai  0 waiting");
        usage.look(&accounts);
        let variants = variants(&accounts, &usage);
        assert_eq!(variants[0], "gtm/openai  0 waiting  15.4k tokens, $0.02 so far");
        assert_eq!(variants[1], "gtm/openai  0 waiting");
    }
}
