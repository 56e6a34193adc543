//! Between proxies and limiters: connections that keep order while they last, delays with tails.

use std::time::Duration;

use crate::clock::Moment;
use crate::random::Random;

/// How long messages take.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// At least.
    pub least: Duration,
    /// On top of that, on average.
    pub more: Duration,
    /// Messages that are held up, in a million …
    pub tails: u64,
    /// … for this long at least …
    pub shortest: Duration,
    /// … and at most.
    pub longest: Duration,
}

impl Network {
    pub(crate) fn delay(&self, random: &mut Random) -> Duration {
        let usual = self.least + random.exponential(self.more);
        if random.chance(self.tails) { usual + random.magnitude(self.shortest, self.longest) } else { usual }
    }
}

/// A connection of a proxy to a limiter.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) proxy: usize,
    pub(crate) limiter: usize,
    pub(crate) open_at_proxy: bool,
    pub(crate) open_at_limiter: bool,
    /// Nothing arrives any more, whether the ends know it or not.
    pub(crate) cut: bool,
    /// Nothing arrives before.
    pub(crate) blocked_until: Moment,
    last_up: Moment,
    last_down: Moment,
}

impl Connection {
    pub(crate) fn new(proxy: usize, limiter: usize) -> Connection {
        Connection {
            proxy,
            limiter,
            open_at_proxy: true,
            open_at_limiter: true,
            cut: false,
            blocked_until: Moment(0),
            last_up: Moment(0),
            last_down: Moment(0),
        }
    }

    /// When a message that leaves the proxy then arrives: not before the one that left before it.
    pub(crate) fn up(&mut self, leaves: Moment, delay: Duration) -> Moment {
        self.last_up = (leaves + delay).max(self.last_up).max(self.blocked_until);
        self.last_up
    }

    /// The same for a message of the limiter.
    pub(crate) fn down(&mut self, leaves: Moment, delay: Duration) -> Moment {
        self.last_down = (leaves + delay).max(self.last_down).max(self.blocked_until);
        self.last_down
    }
}
