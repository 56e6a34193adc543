//! What calls say of their tokens and use, and what is odd about the provider that counts them.

use std::time::Duration;

use quotakeeper_engine::config::{Charged, Unit};

/// What calls say of their tokens, and use; each figure is drawn anew for each call.
#[derive(Clone, Debug)]
pub struct TokenWork {
    /// Bytes of text, from and to.
    pub text_bytes: (u64, u64),
    /// How many bytes of it are a token at the provider.
    pub bytes_per_token: u64,
    /// The most output of one completion that a call allows, from and to.
    pub max_output: (u64, u64),
    /// Completions that a call requests.
    pub choices: u32,
    /// Output, as far as a call allows it.
    pub outputs: Outputs,
    /// How fast an answer is produced.
    pub pace: Pace,
    /// How much faster or slower single answers are than that, in percent.
    pub uneven: u64,
    /// How many times the provider counts while it produces an answer, and the proxy tells of it; at most, where the
    /// answer's pace is known: once a second.
    pub parts: u64,
    /// When the provider really counts.
    pub truth: Charged,
    /// What they cost; `None`: no limit counts money.
    pub prices: Option<Prices>,
    /// What is odd about the provider.
    pub provider: TokenProvider,
}

/// Picodollars of a nanodollar, in which limits of money are counted.
pub(crate) const PICODOLLARS: u64 = 1_000;

/// What tokens cost, in picodollars each.
#[derive(Clone, Copy, Debug)]
pub struct Prices {
    /// Of input.
    pub input: u64,
    /// Of output.
    pub output: u64,
}

/// Output of calls, exponentially distributed but for the exceptions.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// On average.
    pub mean: u64,
    /// So many of a million calls …
    pub long_per_million: u64,
    /// … have so much.
    pub long: u64,
    /// So many of a million calls have none.
    pub none_per_million: u64,
    /// From a time on all is larger; `None`: it stays.
    pub grows: Option<Growth>,
    /// A shape, by its place, whose calls have as many times the text.
    pub large: Option<(usize, u64)>,
    /// A workload whose requests allow as many times the output that they would otherwise, and use no more.
    pub over_reserves: Option<(String, u64)>,
}

/// A change of what calls use.
#[derive(Clone, Debug)]
pub struct Growth {
    /// From when.
    pub at: Duration,
    /// By how much it is multiplied.
    pub times: u64,
    /// Only the calls of this workload; `None`: all.
    pub workload: Option<String>,
}

/// How fast an answer is produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It takes as long as [`crate::scenario::Upstream::streams`] says, whatever its tokens.
    Any,
    /// So many tokens a second, more or less; at most for so long.
    TokensPerSecond(u64, Duration),
}

/// What is odd about a provider of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenProvider {
    /// It stops when a client hangs up; otherwise it goes on with the answer.
    pub stops: bool,
    /// It corrects what it counts for a call a moment after it has answered.
    pub settles_late: bool,
    /// It rejects calls for which there is no room, rather than only counting them.
    pub rejects: bool,
    /// Its bucket holds this part of a limit, in percent; 0: all of it.
    pub bucket_percent: u64,
    /// Answers say what remains, rounded down to multiples of this; 0: they don't.
    pub tells: u64,
    /// Others use this part of the limit evenly.
    pub others_percent: u64,
}

impl TokenWork {
    /// Calls of so much text and output, of which the provider counts as `truth` says.
    pub fn new(text_bytes: (u64, u64), max_output: (u64, u64), mean: u64, truth: Charged) -> TokenWork {
        TokenWork {
            text_bytes,
            bytes_per_token: 4,
            max_output,
            choices: 1,
            outputs: Outputs {
                mean,
                long_per_million: 0,
                long: 0,
                none_per_million: 0,
                grows: None,
                large: None,
                over_reserves: None,
            },
            pace: Pace::Any,
            uneven: 20,
            parts: 4,
            truth,
            prices: None,
            provider: TokenProvider::default(),
        }
    }

    /// The most that a call may draw on a limit of this unit; a bound takes each byte of text for a token.
    pub(crate) fn most(&self, unit: Unit) -> u64 {
        let text = self.text_bytes.1 * self.outputs.large.map_or(1, |(_, times)| times);
        let output = self.max_output.1 * u64::from(self.choices);
        match self.prices.filter(|_| unit == Unit::Dollars) {
            Some(prices) => (text * prices.input + output * prices.output) / PICODOLLARS,
            None => text / self.bytes_per_token + output,
        }
    }
}
