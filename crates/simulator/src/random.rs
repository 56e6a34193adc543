//! Randomness from a seed: the same everywhere, integers only (SplitMix64).

use std::time::Duration;

/// ln 2, as a fraction of 2³².
const LN_2: u128 = 2_977_044_472;

/// A stream of numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(17));
        random.draw();
        random
    }

    /// A stream of its own, so that what one part draws does not move the others.
    pub fn fork(&mut self) -> Random {
        Random::new(self.draw())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number between the two, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A duration between the two.
    pub fn within(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(nanos(low), nanos(high)))
    }

    /// True once in a while: `in_a_million` of a million times.
    pub fn chance(&mut self, in_a_million: u64) -> bool {
        self.below(1_000_000) < in_a_million
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Exponentially distributed around its mean.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let x = self.draw() | 1;
        let octave = u64::from(x.leading_zeros()) + 1;
        // log2 of the mantissa, 24 bits, by repeated squaring.
        let mut mantissa = u128::from(x << (octave - 1)) >> 32;
        let mut log = 0u64;
        for _ in 0..24 {
            mantissa = (mantissa * mantissa) >> 31;
            log <<= 1;
            if mantissa >= 1 << 32 {
                mantissa >>= 1;
                log |= 1;
            }
        }
        let minus_log2 = (octave << 24) - log;
        let minus_ln = (u128::from(minus_log2) * LN_2) >> 32;
        Duration::from_nanos(((u128::from(nanos(mean)) * minus_ln) >> 24) as u64)
    }

    /// Spread evenly over the orders of magnitude between the two.
    pub fn magnitude(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (nanos(low).max(1), nanos(high));
        let octaves = u64::from((high / low).max(1).ilog2()) + 1;
        loop {
            let octave = low << self.below(octaves);
            let drawn = octave + self.below(octave);
            if drawn <= high {
                return Duration::from_nanos(drawn);
            }
        }
    }
}

/// A duration in nanoseconds; simulated ones always fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_has_its_mean_and_its_tail() {
        let mut random = Random::new(1);
        let mean = Duration::from_millis(1);
        let drawn: Vec<Duration> = (0..100_000).map(|_| random.exponential(mean)).collect();
        let average = drawn.iter().sum::<Duration>() / 100_000;
        assert!((990_000..1_010_000).contains(&average.as_nanos()), "{average:?}");
        // e⁻³ of them are longer than three means.
        let long = drawn.iter().filter(|&&x| x > mean * 3).count();
        assert!((4_700..5_260).contains(&long), "{long}");
    }

    #[test]
    fn magnitudes_stay_within_their_bounds() {
        let mut random = Random::new(2);
        let (low, high) = (Duration::from_millis(100), Duration::from_secs(5));
        let drawn: Vec<Duration> = (0..10_000).map(|_| random.magnitude(low, high)).collect();
        assert!(drawn.iter().all(|x| (low..=high).contains(x)));
        assert!(drawn.iter().filter(|&&x| x < Duration::from_millis(400)).count() > 2_500);
        assert!(drawn.iter().filter(|&&x| x > Duration::from_millis(1600)).count() > 1_500);
    }

    #[test]
    fn a_seed_tells_all() {
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        assert_eq!(one.draw(), other.draw());
        assert_ne!(one.fork().draw(), one.draw());
    }
}
