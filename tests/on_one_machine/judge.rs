//! What the provider's own log says. Nothing here asks Quotakeeper.

use counting_provider::{Entry, LimitSummary, Provider, Verdict};

/// What a provider counted of one account.
pub struct Judged {
    pub ok: u64,
    pub over: u64,
    pub forced: u64,
    /// The limit that the story is about.
    pub limit: LimitSummary,
}

impl Judged {
    pub fn of(provider: &Provider, account: &str) -> Judged {
        let summary = provider.summary(account);
        let totals = summary.totals;
        assert_eq!(
            totals.all(),
            totals.ok + totals.over + totals.forced,
            "calls of {account} that no SDK makes: {totals:?}"
        );
        let limit = summary.limits.into_iter().find(|limit| limit.limit == "tried").unwrap();
        Judged { ok: totals.ok, over: totals.over, forced: totals.forced, limit }
    }

    /// How many windows count: all but the first and the last.
    pub fn inner_windows(&self) -> usize {
        self.limit.windows.len().saturating_sub(2)
    }

    /// Use in percent of what the fuller half of the inner windows allows.
    pub fn used(&self) -> f64 {
        self.limit.fuller_half_percent.expect("three windows or more")
    }
}

/// The silence after a forced answer.
pub struct Silence {
    /// Calls that arrived between the forced one and the silence: granted before the limiter knew.
    pub before: usize,
    /// How long nothing at all arrived, in milliseconds.
    pub millis: u64,
}

impl Silence {
    /// The longest pause between arrivals, from the first forced call on.
    pub fn after_forced(log: &[Entry]) -> Silence {
        let mut arrivals: Vec<(u64, Verdict)> =
            log.iter().map(|entry| (entry.arrival_nanos, entry.verdict)).collect();
        arrivals.sort_unstable_by_key(|(at, _)| *at);
        let forced =
            arrivals.iter().position(|(_, verdict)| *verdict == Verdict::Forced).expect("a forced answer");
        let gaps = arrivals[forced..].windows(2).map(|pair| pair[1].0 - pair[0].0);
        let (before, nanos) =
            gaps.enumerate().max_by_key(|(_, gap)| *gap).expect("calls after the forced answer");
        Silence { before, millis: nanos / 1_000_000 }
    }
}
