//! The progress line: what is used, what waits, and until when.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use quotakeeper_engine::LimitStatus;

use crate::cli::Progress;
use quotakeeper_wire::status::AccountReport;

/// How often a plain line is written while calls wait.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows progress on standard error.
pub struct Line {
    style: Style,
    shown: bool,
    last_state: String,
    last_plain: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Live,
    Plain,
    Off,
}

impl Line {
    /// A line in the style that was asked for.
    pub fn new(progress: Progress) -> Line {
        let style = match progress {
            Progress::Off => Style::Off,
            Progress::Auto if io::stderr().is_terminal() => Style::Live,
            Progress::Auto | Progress::Plain => Style::Plain,
        };
        Line { style, shown: false, last_state: String::new(), last_plain: None }
    }

    /// Shows the status of the accounts.
    pub fn show(&mut self, accounts: &[AccountReport]) {
        match self.style {
            Style::Off => {}
            Style::Live => self.write(&format!("\r\x1b[2K{}", words(accounts))),
            Style::Plain => {
                let state = state(accounts);
                let quiet = accounts.iter().all(|account| account.status.waiting.is_empty());
                let changed = state != self.last_state;
                let due = self.last_plain.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) && !quiet;
                if changed || due {
                    self.last_state = state;
                    self.last_plain = Some(Instant::now());
                    self.write(&format!("quotakeeper: {}\n", words(accounts)));
                }
            }
        }
    }

    fn write(&mut self, text: &str) {
        let mut stderr = io::stderr().lock();
        // A closed standard error is no failure.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        self.shown = true;
    }

    /// Clears the line for other output.
    pub fn clear(&mut self) {
        if self.style == Style::Live && self.shown {
            self.write("\r\x1b[2K");
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

fn words(accounts: &[AccountReport]) -> String {
    accounts.iter().map(account_words).collect::<Vec<_>>().join("  |  ")
}

fn account_words(account: &AccountReport) -> String {
    let status = &account.status;
    let mut words = account.quota.to_string();
    if let Some(limit) = tightest(&status.limits) {
        let used = known_use(limit).min(limit.amount);
        words += &format!("  {} {used}/{} used", limit_name(limit), limit.amount);
        if limit.assumed > 0 {
            words += ", earlier use unknown";
        }
    }
    words += &format!("  {} waiting", status.waiting_calls());
    if let Some(longest) = status.longest_wait() {
        words += &format!(", longest {}", seconds(longest));
    }
    for pause in &status.pauses {
        words += &if pause.stopped {
            let again = seconds(pause.remaining);
            format!("  STOPPED by the provider{}, asks again in {again}: {}", pause.callers, pause.reason)
        } else if pause.remaining.is_zero() {
            format!("  probing after: {}", pause.reason)
        } else {
            format!("  PAUSED {} more: {}", seconds(pause.remaining), pause.reason)
        };
    }
    words
}

/// The limit of which the largest part is used.
fn tightest(limits: &[LimitStatus]) -> Option<&LimitStatus> {
    limits.iter().max_by_key(|limit| known_use(limit).saturating_mul(1000) / limit.amount.max(1))
}

fn known_use(limit: &LimitStatus) -> u64 {
    limit.used.saturating_sub(limit.assumed)
}

fn limit_name(limit: &LimitStatus) -> String {
    limit.model.as_ref().map_or_else(|| limit.name.clone(), |model| format!("{} ({model})", limit.name))
}

/// A duration for people: whole seconds, one tenth below ten.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} s", duration.as_secs())
    }
}
