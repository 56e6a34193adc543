//! What is learned of the calls of one consumer, or of everybody's, to a model and endpoint.

use serde::{Deserialize, Serialize};

use super::bins::{BINS, Bins, RATIOS, TOKENS};
use super::lengths::Lengths;
use crate::tokens::{CallSize, TokenUsage};

/// Calls that must have ended before their kind counts as known.
pub(super) const ENOUGH: u32 = 16;
/// Tokens to a byte are kept as multiples of 2^−16.
const RATIO_BITS: u32 = 16;
/// Tokens that a provider adds to a text by itself, about: marks of the beginning, of roles and of the answer. They
/// count as bytes, so that short texts don't seem to have many tokens to a byte.
const FRAMING: u64 = 32;
/// Shares of the input are kept in this many steps.
const SHARES: u64 = BINS as u64 - 1;

/// What is learned of calls of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Learned {
    /// Output tokens.
    pub(super) outputs: Lengths,
    /// Input tokens to a byte, of calls whose text is all of their input.
    ratios: Lengths,
    /// Input tokens of the other calls.
    inputs: Lengths,
    /// The share of the input that was read from a cache.
    cached: Bins,
    /// The share of the input that was written to a cache.
    cache_write: Bins,
}

/// An estimate of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// How many.
    pub(super) tokens: u64,
    /// Enough calls of the kind have ended.
    pub(super) known: bool,
}

/// The bytes that a call's input is in proportion to; `None`: other things than its text cost tokens.
fn telling_bytes(size: Option<&CallSize>) -> Option<u64> {
    let size = size.filter(|size| !size.stored_input && size.media_tokens == 0)?;
    Some(size.text_bytes.saturating_add(FRAMING))
}

impl Learned {
    /// Whether nothing is learned; calls may run.
    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Learns from a call that has ended. What isn't exact says nothing of the input: it was computed from the text.
    pub(super) fn learn(&mut self, size: Option<&CallSize>, usage: &TokenUsage) {
        self.outputs.end(TOKENS.bin(usage.output));
        if !usage.exact {
            return;
        }
        match telling_bytes(size) {
            Some(bytes) => self.ratios.end(RATIOS.bin(ratio(usage.input, bytes))),
            None => self.inputs.end(TOKENS.bin(usage.input)),
        }
        if usage.input > 0 {
            self.cached.add(share_of(usage.cached, usage.input), 1);
            // Rounded up, as the other is rounded down.
            let fresh = usage.input - usage.cache_write.min(usage.input);
            self.cache_write.add(BINS - 1 - share_of(fresh, usage.input), 1);
        }
    }

    /// The input that a call likely has.
    pub(super) fn input(&self, everybody: &Learned, size: Option<&CallSize>, bound: u64) -> Estimate {
        let known = |lengths: &Lengths| lengths.ended_calls() >= ENOUGH;
        match telling_bytes(size) {
            Some(bytes) => {
                let expected = self.ratios.expect(&everybody.ratios, RATIOS, 0, ratio(bound, bytes));
                let tokens = scaled(bytes, expected.amount(), 1 << RATIO_BITS).rounded_up();
                Estimate { tokens: tokens.min(bound), known: known(&everybody.ratios) }
            }
            None => {
                let expected = self.inputs.expect(&everybody.inputs, TOKENS, 0, bound);
                Estimate { tokens: expected.amount(), known: known(&everybody.inputs) }
            }
        }
    }

    /// Input tokens for each thousand bytes of text; 0: no call shows it.
    pub(super) fn tokens_per_thousand_bytes(&self, everybody: &Learned) -> u64 {
        if everybody.ratios.ended_calls() == 0 {
            return 0;
        }
        let expected = self.ratios.expect(&everybody.ratios, RATIOS, 0, u64::MAX);
        scaled(1_000, expected.quantile, 1 << RATIO_BITS).rounded_up()
    }

    /// Of this input, what is likely read from a cache: 0.9 of the calls read a larger share, and the mean is larger.
    pub(super) fn cached(&self, everybody: &Learned, input: u64) -> u64 {
        let shares = enough_of(&self.cached, &everybody.cached);
        let share = shares.quantile(10).unwrap_or(0).min(shares.mean() as usize);
        of_share(share, input)
    }

    /// Of this input, what is likely written to a cache: 0.9 of the calls write a smaller share, and the mean is
    /// smaller.
    pub(super) fn cache_write(&self, everybody: &Learned, input: u64) -> u64 {
        let shares = enough_of(&self.cache_write, &everybody.cache_write);
        let share = shares.quantile(90).unwrap_or(0).max(shares.mean().ceil() as usize);
        input - of_share(BINS - 1 - share, input)
    }
}

/// Our own, if there are enough of them.
fn enough_of<'a>(own: &'a Bins, everybody: &'a Bins) -> &'a Bins {
    if own.total() >= ENOUGH { own } else { everybody }
}

/// Tokens to a byte, as a multiple of 2^−16, rounded up.
fn ratio(tokens: u64, bytes: u64) -> u64 {
    scaled(tokens, 1 << RATIO_BITS, bytes.max(1)).rounded_up()
}

/// The bin of a part of a whole that is not 0.
fn share_of(part: u64, whole: u64) -> usize {
    scaled(part.min(whole), SHARES, whole).quotient as usize
}

/// The part of a whole in this bin, at least.
fn of_share(bin: usize, whole: u64) -> u64 {
    scaled(whole, bin as u64, SHARES).quotient
}

/// A quotient, and whether something is left over.
struct Scaled {
    quotient: u64,
    left_over: bool,
}

impl Scaled {
    fn rounded_up(self) -> u64 {
        self.quotient.saturating_add(u64::from(self.left_over))
    }
}

/// `value · numerator / denominator`, at most `u64::MAX`.
fn scaled(value: u64, numerator: u64, denominator: u64) -> Scaled {
    if let Some(product) = value.checked_mul(numerator) {
        return Scaled { quotient: product / denominator, left_over: product % denominator > 0 };
    }
    let (product, denominator) = (u128::from(value) * u128::from(numerator), u128::from(denominator));
    let quotient = u64::try_from(product / denominator).unwrap_or(u64::MAX);
    Scaled { quotient, left_over: product % denominator > 0 }
}
