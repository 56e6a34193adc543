//! Contestants in turn, round by round, so that a busy moment of the machine hits all of them.

use std::time::Instant;

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle round.
    pub median: f64,
    /// The round with the lowest figure.
    pub least: f64,
    /// The round with the highest figure.
    pub most: f64,
}

impl Spread {
    /// The spread of at least one figure; of none: not a number.
    pub fn of(mut figures: Vec<f64>) -> Spread {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        Spread { median: at(figures.len() / 2), least: at(0), most: at(figures.len().saturating_sub(1)) }
    }
}

/// Something that can be done many times in a row.
pub trait Contestant {
    /// Does it so many times.
    ///
    /// # Errors
    /// When it was not done as it should have been.
    fn run(&mut self, times: u64) -> anyhow::Result<()>;
}

/// How long a warm-up and the rounds are.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Repetitions before anything is measured.
    pub warm_up: u64,
    /// Rounds of each contestant.
    pub rounds: usize,
    /// Repetitions in a round.
    pub times: u64,
}

/// Nanoseconds of one repetition, for each contestant in their order.
///
/// # Errors
/// When a contestant fails.
pub fn nanos_each(plan: Plan, contestants: &mut [Box<dyn Contestant>]) -> anyhow::Result<Vec<Spread>> {
    for contestant in contestants.iter_mut() {
        contestant.run(plan.warm_up)?;
    }
    let mut figures = vec![Vec::with_capacity(plan.rounds); contestants.len()];
    for _ in 0..plan.rounds {
        for (contestant, figures) in contestants.iter_mut().zip(&mut figures) {
            let began = Instant::now();
            contestant.run(plan.times)?;
            figures.push(began.elapsed().as_nanos() as f64 / plan.times as f64);
        }
    }
    Ok(figures.into_iter().map(Spread::of).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Counting(u64);

    impl Contestant for Counting {
        fn run(&mut self, times: u64) -> anyhow::Result<()> {
            self.0 += times;
            anyhow::ensure!(self.0 <= 5, "it was asked to run {} times", self.0);
            Ok(())
        }
    }

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        let spread = Spread::of(vec![5.0, 1.0, 9.0, 2.0, 3.0]);
        assert_eq!(spread, Spread { median: 3.0, least: 1.0, most: 9.0 });
        assert!(Spread::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn every_contestant_runs_the_warm_up_and_all_rounds() {
        let plan = Plan { warm_up: 1, rounds: 2, times: 2 };
        let spreads = nanos_each(plan, &mut [Box::new(Counting(0)), Box::new(Counting(0))]).unwrap();
        assert_eq!(spreads.len(), 2);
        let longer = Plan { rounds: 3, ..plan };
        let error = nanos_each(longer, &mut [Box::new(Counting(0))]).unwrap_err();
        assert_eq!(error.to_string(), "it was asked to run 7 times");
    }
}
