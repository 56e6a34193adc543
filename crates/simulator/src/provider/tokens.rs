//! How a provider counts the tokens of a call, written apart from the engine: from what a request says, and from what
//! it used.

use quotakeeper_engine::config::{ArrivalFormula, ArrivalOutput, Charged, LimitConfig, TokenRates, Unit};
use quotakeeper_engine::event::{CallClass, Observation, Rejection, RejectionClass, Scope};
use quotakeeper_engine::tokens::{CallSize, TokenUsage};

use super::{Count, Provider, count, covers, whole_seconds};
use crate::clock::Moment;
use crate::scenario::PICODOLLARS;

/// What a call says of its tokens, and what it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallTokens {
    pub(crate) size: CallSize,
    pub(crate) usage: TokenUsage,
    /// How often the provider counts while it produces the answer.
    pub(crate) parts: u64,
}

impl CallTokens {
    /// Its output when so many parts of its answer have been produced.
    pub(crate) fn output_of(&self, part: u64) -> u64 {
        self.usage.output * part / self.parts.max(1)
    }

    /// The same call if it ends after so many parts.
    pub(crate) fn until(&self, part: u64) -> CallTokens {
        let usage = TokenUsage { output: self.output_of(part), ..self.usage };
        CallTokens { usage, parts: part.max(1), ..*self }
    }
}

/// What the provider counts of a call that has just arrived.
fn estimate(formula: &ArrivalFormula, rates: &TokenRates, size: &CallSize, bytes_per_token: u64) -> u64 {
    let input = rates.input * (size.text_bytes.div_ceil(bytes_per_token) + size.media_tokens);
    let output = rates.output * size.max_output.unwrap_or(0) * size.choices();
    match formula.output {
        ArrivalOutput::Added => input + output,
        ArrivalOutput::Largest => input.max(output),
        ArrivalOutput::Ignored => input,
    }
}

/// What the provider charges a call, in parts of what the limit counts.
#[derive(Clone, Copy, Debug)]
struct Charges {
    at_arrival: u64,
    /// Per token of output, as it is produced.
    as_produced: u64,
    /// When it is over.
    in_all: u64,
    /// So many parts are one: money adds up in smaller ones, and a rest is not charged.
    parts: u64,
}

impl Charges {
    const NONE: Charges = Charges { at_arrival: 0, as_produced: 0, in_all: 0, parts: 1 };

    fn at_arrival(&self) -> u64 {
        self.at_arrival / self.parts
    }

    /// What is charged when so many parts of the answer have been produced.
    fn upto(&self, call: &CallTokens, part: u64) -> u64 {
        (self.at_arrival + self.as_produced * call.output_of(part)) / self.parts
    }

    fn in_all(&self) -> u64 {
        self.in_all / self.parts
    }
}

impl Provider {
    /// What it charges a call, counting as it really does.
    fn charges(&self, limit: &LimitConfig, call: &CallTokens) -> Charges {
        let (Some(tokens), Some(work)) = (&limit.tokens, &self.tokens) else { return Charges::NONE };
        let (rates, usage) = (&tokens.rates, &call.usage);
        let (input, output, parts) = match work.prices.filter(|_| limit.unit == Unit::Dollars) {
            Some(prices) => (prices.input, prices.output, PICODOLLARS),
            None => (rates.input, rates.output, 1),
        };
        let bytes_per_token = work.bytes_per_token;
        let estimated =
            tokens.arrival.map_or(0, |formula| estimate(&formula, rates, &call.size, bytes_per_token));
        let used = input * usage.input + output * usage.output;
        let (at_arrival, as_produced, in_all) = match work.truth {
            Charged::AtArrival => (estimated, 0, estimated),
            Charged::Settled => (estimated, 0, used),
            Charged::AsProduced => (input * usage.input, output, used),
            Charged::Unknown => (0, 0, used),
        };
        Charges { at_arrival, as_produced, in_all, parts }
    }

    /// What the first limit of tokens that counts a call charges it in all.
    pub(super) fn drawn_in_all(&self, class: &CallClass, call: &CallTokens) -> Option<u64> {
        let limit = self.limits.iter().find(|limit| limit.tokens.is_some() && covers(limit, class))?;
        Some(self.charges(limit, call).in_all())
    }

    /// The limits of tokens that count a call.
    fn token_limits(&self, class: &CallClass) -> Vec<LimitConfig> {
        let limits = self.limits.iter().filter(|limit| limit.tokens.is_some() && covers(limit, class));
        limits.cloned().collect()
    }

    fn each_token_count(
        &mut self,
        class: &CallClass,
        call: &CallTokens,
        mut each: impl FnMut(&mut super::TokenCount, &Charges),
    ) {
        let odd = self.odd();
        for limit in self.token_limits(class) {
            let charges = self.charges(&limit, call);
            if let Count::Tokens(count) = count(&mut self.counts, &limit, class, &odd) {
                each(count, &charges);
            }
        }
    }

    /// Whether a limit of tokens has no room for a call that arrives, where that matters to the provider.
    pub(super) fn rejects_tokens(
        &mut self,
        now: u64,
        class: &CallClass,
        call: &CallTokens,
    ) -> Option<Rejection> {
        if !self.odd().rejects {
            return None;
        }
        let mut wait = None;
        self.each_token_count(class, call, |count, charges| {
            wait = wait.max(count.wait(now, charges.at_arrival()));
        });
        wait.map(|wait| Rejection {
            shared_with: None,
            organization: None,
            class: RejectionClass::Quota,
            scope: Scope::account(),
            wait: Some(whole_seconds(wait)),
            reason: "no tokens are left".to_owned(),
        })
    }

    /// A call that was not rejected has arrived. Returns what its answer says of the limits.
    pub(super) fn tokens_arrive(
        &mut self,
        now: u64,
        class: &CallClass,
        call: &CallTokens,
    ) -> Vec<Observation> {
        let tells = self.odd().tells;
        let mut told = Vec::new();
        self.each_token_count(class, call, |count, charges| {
            count.charge(now, charges.at_arrival());
            let remaining = count.remaining(now).checked_div(tells);
            told.extend(remaining.map(|multiples| (count.amount(), multiples * tells)));
        });
        let limits = self.token_limits(class).into_iter().zip(told);
        let observation = |(limit, (hard, remaining)): (LimitConfig, (u64, u64))| Observation {
            limit: limit.name,
            hard: Some(hard),
            remaining: Some(remaining),
            ends_in: None,
        };
        limits.map(observation).collect()
    }

    /// So many parts of an answer have been produced.
    pub(crate) fn produced(&mut self, at: Moment, class: &CallClass, call: &CallTokens, part: u64) {
        let at = self.clock.read(at);
        self.each_token_count(class, call, |count, charges| {
            count.charge(at, charges.upto(call, part) - charges.upto(call, part - 1));
        });
    }

    /// The answer to a call is over after so many parts.
    pub(super) fn tokens_end(&mut self, at: u64, arrived: u64, class: &CallClass, call: &CallTokens) {
        self.each_token_count(class, call, |count, charges| {
            let before = charges.upto(call, call.parts.saturating_sub(1));
            count.charge(at, charges.in_all().saturating_sub(before));
            count.refund(at, arrived, before.saturating_sub(charges.in_all()));
        });
    }

    /// Others use this part of what the limits of tokens allow in a window, in hundredths of a percent.
    pub(crate) fn others_use_tokens(&mut self, at: Moment, part: u64) {
        let at = self.clock.read(at);
        for count in self.counts.values_mut() {
            if let Count::Tokens(count) = count {
                count.others(at, count.amount() * part / 10_000);
            }
        }
    }
}
