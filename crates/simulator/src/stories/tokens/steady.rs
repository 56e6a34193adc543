//! The same load all the time: a backlog of calls of one kind, to measure how much of a limit of tokens is used.

use quotakeeper_engine::config::{
    ArrivalFormula, ArrivalOutput, Charged, CountedAs, LimitConfig, Reserving, TokenLimit,
};

use super::learned::learning;
use crate::random::Random;
use crate::report::Report;
use crate::scenario::{Arrivals, TokenWork};
use crate::stories::seconds;
use crate::world::World;

/// A load, and the limit that it fills: so many tokens a minute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    pub(crate) name: &'static str,
    pub(crate) counted_as: CountedAs,
    pub(crate) charged: Charged,
    pub(crate) reserving: Reserving,
    pub(crate) amount: u64,
    /// Output on average, and at most.
    pub(crate) output: (u64, u64),
    /// Tokens of output a second.
    pub(crate) speed: u64,
    /// So many of a million calls have as much output as they may.
    pub(crate) long_per_million: u64,
    /// How many times too low the formula of what is charged at arrival is.
    pub(crate) formula_low: u64,
}

/// Tokens of text of a call, from and to.
const INPUT: (u64, u64) = (10, 100);

pub(crate) const PRODUCED: Steady = Steady {
    name: "as produced, bucket, answers of 5 s",
    counted_as: CountedAs::TokenBucket,
    charged: Charged::AsProduced,
    reserving: Reserving::Learned,
    amount: 200_000,
    output: (500, 4_096),
    speed: 100,
    long_per_million: 0,
    formula_low: 1,
};

pub(crate) const UNKNOWN: Steady = Steady {
    name: "unknown, answers of 5 s",
    counted_as: CountedAs::Unknown,
    charged: Charged::Unknown,
    ..PRODUCED
};

/// All of them.
pub(crate) const ALL: &[Steady] = &[
    PRODUCED,
    Steady { name: "as produced, bucket, answers of 14 s", speed: 36, ..PRODUCED },
    Steady { name: "settled, bucket, answers of 5 s", charged: Charged::Settled, ..PRODUCED },
    Steady { name: "as produced, bucket, bound held", reserving: Reserving::Bound, ..PRODUCED },
    UNKNOWN,
    Steady { name: "unknown, answers of 14 s", speed: 36, ..UNKNOWN },
    Steady { name: "unknown, bound held", reserving: Reserving::Bound, ..UNKNOWN },
    Steady { name: "at arrival, exact, window", charged: Charged::AtArrival, ..UNKNOWN },
    Steady {
        name: "at arrival, formula 4 x too low",
        charged: Charged::AtArrival,
        formula_low: 4,
        ..PRODUCED
    },
    Steady { name: "as produced, a limit of 16 calls", amount: 8_000, ..PRODUCED },
    Steady {
        name: "as produced, 8 % long, a limit of 12 of them",
        amount: 100_000,
        output: (50, 8_000),
        long_per_million: 80_000,
        ..PRODUCED
    },
];

impl Steady {
    /// Whether the provider is known to count by a bucket alone.
    pub(crate) fn is_bucket(&self) -> bool {
        self.counted_as == CountedAs::TokenBucket
    }

    /// What of the limit could be used, by what was used and what was in flight on average, all in percent of it: what
    /// calls use of what they hold and use. A bucket holds what is in flight beside what it refills.
    pub(crate) fn could_use(&self, used: f64, in_flight: f64) -> f64 {
        match self.is_bucket() {
            true => (100.0 * used / in_flight.max(0.01)).min(100.0),
            false => 100.0 * used / (used + in_flight).max(0.01),
        }
    }

    /// What of it stays free on average because the next call does not fit, in percent: half of the bound, where each
    /// call holds that. What a bucket refills is lost to no call.
    pub(crate) fn left_by_lumps(&self) -> f64 {
        match self.reserving {
            Reserving::Bound if !self.is_bucket() => {
                50.0 * (self.output.1 + INPUT.1) as f64 / self.amount as f64
            }
            _ => 0.0,
        }
    }

    /// What a world of it comes to.
    pub(crate) fn measure(&self, seed: u64) -> Report {
        let random = &mut Random::new(seed ^ 0x5EED);
        let (mean, most) = self.output;
        let mut work = TokenWork::new((4 * INPUT.0, 4 * INPUT.1), (most, most), mean, self.charged);
        (work.outputs.long_per_million, work.outputs.long) = (self.long_per_million, most);
        work.bytes_per_token = if self.formula_low > 1 { 1 } else { 4 };
        if self.formula_low > 1 {
            // Nearly all of what such a call is charged is its text.
            (work.text_bytes, work.max_output) = ((400, 8_000), (200, 200));
        }
        let mut scenario = learning(random, work, self.charged, (self.amount, self.speed));
        let bytes_per_token = if self.formula_low > 1 { self.formula_low } else { 4 };
        let exact = self.formula_low == 1;
        let formula = ArrivalFormula { bytes_per_token, output: ArrivalOutput::Added, exact };
        let at_arrival = matches!(self.charged, Charged::AtArrival | Charged::Settled);
        for LimitConfig { tokens, counted_as, .. } in scenario.account.limits.iter_mut().skip(1) {
            *counted_as = self.counted_as;
            let arrival = at_arrival.then_some(formula);
            *tokens = tokens.map(|tokens| TokenLimit { arrival, reserving: self.reserving, ..tokens });
        }
        scenario.workload.leaves = 0;
        scenario.workload.arrivals = Arrivals::Backlog(80);
        scenario.length = seconds(60 * 20);
        World::new(scenario, seed).run()
    }
}
