//! How a provider counts tokens, written apart from the engine: from what a request says, and from what it used.

use std::collections::VecDeque;

use quotakeeper_engine::config::{
    ArrivalFormula, ArrivalOutput, Charged, CountedAs, LimitConfig, TokenRates,
};
use quotakeeper_engine::tokens::{CallSize, TokenUsage};

use super::judge::Allowed;
use crate::random::nanos;

/// What a call says of its tokens, and what it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallTokens {
    pub(crate) size: CallSize,
    pub(crate) usage: TokenUsage,
}

impl CallTokens {
    /// Its output when so many quarters of its answer have been produced.
    pub(crate) fn output_of(&self, quarter: u64) -> u64 {
        self.usage.output * quarter / 4
    }
}

/// One limit of tokens. What comes is counted in a sliding window, which is stricter than fixed ones, and in a bucket.
#[derive(Clone, Debug)]
pub(crate) struct TokenCount {
    allowed: Allowed,
    counted: VecDeque<(u64, u64)>,
    in_window: u64,
    /// In N-ths of a nanosecond of refill, as in [`super::judge::Tokens`]; below zero is debt.
    room: i128,
    at: u64,
    /// Charges that a sliding window had no room for.
    pub(crate) over_window: u64,
    /// Charges that a bucket had no room for.
    pub(crate) over_bucket: u64,
    /// All that was charged.
    pub(crate) charged: u64,
    /// The most that was missing from a full bucket, in percent of it.
    pub(crate) peak_percent: u64,
}

impl TokenCount {
    pub(crate) fn new(allowed: Allowed) -> TokenCount {
        TokenCount {
            allowed,
            counted: VecDeque::new(),
            in_window: 0,
            room: i128::from(allowed.burst) * i128::from(nanos(allowed.window)),
            at: 0,
            over_window: 0,
            over_bucket: 0,
            charged: 0,
            peak_percent: 0,
        }
    }

    fn advance(&mut self, at: u64) {
        let window = nanos(self.allowed.window);
        while let Some((_, amount)) = self.counted.front().filter(|(first, _)| first + window <= at) {
            self.in_window -= amount;
            self.counted.pop_front();
        }
        let full = i128::from(self.allowed.burst) * i128::from(window);
        let refilled = i128::from(at.saturating_sub(self.at)) * i128::from(self.allowed.amount);
        self.room = (self.room + refilled).min(full);
        self.at = self.at.max(at);
    }

    /// So much is charged. It counts, whether or not there is room.
    pub(crate) fn charge(&mut self, at: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        self.advance(at);
        self.in_window += amount;
        self.charged += amount;
        self.counted.push_back((at, amount));
        self.room -= i128::from(amount) * i128::from(nanos(self.allowed.window));
        self.over_window += u64::from(self.in_window > self.allowed.amount);
        self.over_bucket += u64::from(self.room < 0);
        let full = i128::from(self.allowed.burst) * i128::from(nanos(self.allowed.window));
        let percent = u64::try_from((full - self.room) * 100 / full.max(1)).unwrap_or(u64::MAX);
        self.peak_percent = self.peak_percent.max(percent);
    }

    /// A part of what was charged at an instant is given back.
    pub(crate) fn refund(&mut self, at: u64, charged_at: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        self.advance(at);
        self.charged -= amount;
        self.room += i128::from(amount) * i128::from(nanos(self.allowed.window));
        if let Some(charge) =
            self.counted.iter_mut().rev().find(|(then, before)| *then == charged_at && *before >= amount)
        {
            charge.1 -= amount;
            self.in_window -= amount;
        }
        self.advance(at);
    }

    /// What was charged, in hundredths of a percent of what is allowed in so long a time.
    pub(crate) fn used(&self, length: std::time::Duration) -> u64 {
        let allowed = u128::from(self.allowed.amount) * length.as_nanos();
        let used = u128::from(self.charged) * u128::from(nanos(self.allowed.window)) * 10_000;
        u64::try_from(used / allowed.max(1)).unwrap_or(u64::MAX)
    }

    /// Charges that the limit had no room for, counted as it may be.
    pub(crate) fn over(&self, counted_as: CountedAs) -> u64 {
        match counted_as {
            CountedAs::SlidingWindow | CountedAs::FixedWindow => self.over_window,
            CountedAs::TokenBucket | CountedAs::LeakyBucket => self.over_bucket,
            CountedAs::Unknown => self.over_window.max(self.over_bucket),
        }
    }
}

/// What the provider counts of a call that has just arrived.
fn estimate(formula: &ArrivalFormula, rates: &TokenRates, size: &CallSize) -> u64 {
    let input = rates.input * (size.text_bytes.div_ceil(formula.bytes_per_token) + size.media_tokens);
    let output = rates.output * size.max_output.unwrap_or(0) * size.choices();
    match formula.output {
        ArrivalOutput::Added => input + output,
        ArrivalOutput::Largest => input.max(output),
        ArrivalOutput::Ignored => input,
    }
}

/// What the provider charges a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charges {
    pub(crate) at_arrival: u64,
    /// More, when so many quarters of its answer have been produced; of the last one by `in_all`.
    pub(crate) by_quarter: [u64; 3],
    /// When it is over.
    pub(crate) in_all: u64,
}

/// What the provider charges a call if it counts as `truth` says.
pub(crate) fn charges(limit: &LimitConfig, truth: Charged, call: &CallTokens) -> Charges {
    let Some(tokens) = &limit.tokens else { return Charges::default() };
    let (rates, usage) = (&tokens.rates, &call.usage);
    let estimated = tokens.arrival.map_or(0, |formula| estimate(&formula, rates, &call.size));
    let used = rates.input * usage.input + rates.output * usage.output;
    let grown =
        |quarter| if truth == Charged::AsProduced { rates.output * call.output_of(quarter) } else { 0 };
    let by_quarter = [1, 2, 3].map(grown);
    let (at_arrival, in_all) = match truth {
        Charged::AtArrival => (estimated, estimated),
        Charged::Settled => (estimated, used),
        Charged::AsProduced => (rates.input * usage.input, used),
        Charged::Unknown => (0, used),
    };
    Charges { at_arrival, by_quarter, in_all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn count() -> TokenCount {
        TokenCount::new(Allowed { amount: 100, window: Duration::from_secs(1), burst: 100 })
    }

    #[test]
    fn what_has_no_room_is_over() {
        let mut count = count();
        for (at, amount) in [(0, 60), (1, 40), (SECOND / 2, 50), (SECOND, 50)] {
            count.charge(at, amount);
        }
        // The bucket has refilled by half each time; the window has only lost the first 60.
        assert_eq!((count.over_window, count.over_bucket), (2, 0));
        count.charge(SECOND, 51);
        assert_eq!((count.over_window, count.over_bucket), (3, 1));
        assert_eq!(count.charged, 251);
    }

    #[test]
    fn what_is_given_back_leaves_room() {
        let mut count = count();
        count.charge(0, 90);
        count.refund(1, 0, 60);
        count.charge(1, 70);
        assert_eq!((count.over_window, count.over_bucket, count.charged), (0, 0, 100));
    }
}
