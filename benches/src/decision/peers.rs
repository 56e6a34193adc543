//! Limiters that answer yes or no from memory. They hold no queue, know nothing of calls in flight,
//! and never hear what became of a call: a part of the engine's work, done for comparison.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;

use anyhow::ensure;
use governor::{DefaultKeyedRateLimiter, Quota};
use limitador::RateLimiter;
use limitador::limit::{Context, Limit, Namespace};

use super::engine::{FLOWS, consumer_name};
use crate::rounds::Contestant;

/// One reading of the monotonic clock. The peers read it themselves, once a check; the engine is
/// given the time by the limiter, which reads it once a message.
pub struct Clock;

impl Contestant for Clock {
    fn run(&mut self, times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            black_box(Instant::now());
        }
        Ok(())
    }
}

/// governor: a cell of its GCRA for each consumer, one limiter a limit, asked one after the other.
pub struct Governor {
    limits: Vec<DefaultKeyedRateLimiter<String>>,
    consumers: Vec<String>,
}

impl Governor {
    /// So many limits, each too large to be reached, and a cell of each for a thousand consumers.
    pub fn new(limits: usize) -> Governor {
        let quota = Quota::per_second(NonZeroU32::MAX);
        let limits = (0..limits).map(|_| DefaultKeyedRateLimiter::keyed(quota)).collect();
        Governor { limits, consumers: (0..FLOWS).map(consumer_name).collect() }
    }
}

impl Contestant for Governor {
    fn run(&mut self, times: u64) -> anyhow::Result<()> {
        for consumer in self.consumers.iter().cycle().take(usize::try_from(times)?) {
            for limit in &self.limits {
                ensure!(black_box(limit.check_key(consumer)).is_ok(), "governor said no");
            }
        }
        Ok(())
    }
}

/// limitador: all limits of a namespace, checked and updated in one call. Plain counters without
/// conditions or variables, which is its quickest case.
pub struct Limitador {
    limiter: RateLimiter,
    namespace: Namespace,
    context: Context<'static>,
}

impl Limitador {
    /// So many limits, each too large to be reached.
    pub fn new(limits: u64) -> Limitador {
        let limiter = RateLimiter::new(FLOWS);
        let conditions = Vec::<limitador::limit::Predicate>::new;
        let variables = Vec::<limitador::limit::Expression>::new;
        for number in 0..limits {
            limiter.add_limit(Limit::new("account", u64::MAX / 2, 60 + number, conditions(), variables()));
        }
        Limitador { limiter, namespace: "account".into(), context: Context::default() }
    }
}

impl Contestant for Limitador {
    fn run(&mut self, times: u64) -> anyhow::Result<()> {
        for _ in 0..times {
            let result = self.limiter.check_rate_limited_and_update(&self.namespace, &self.context, 1);
            ensure!(black_box(result).is_ok_and(|check| !check.limited), "limitador said no");
        }
        Ok(())
    }
}
