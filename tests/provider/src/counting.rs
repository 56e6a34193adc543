//! How one limit is counted: pure arithmetic over arrival instants, without a clock and without IO.
//!
//! Instants are nanoseconds since the provider's start and never go back. The bounds are these:
//! - *Sliding*: at instant t the window holds what was charged in (t − W, t]; a unit exactly W old has left.
//! - *Fixed*: windows are [phase + kW, phase + (k+1)W); the boundary belongs to the later one.
//! - *Bucket*: holds `bucket` units, starts full, refills evenly with `count` units per W; a call takes whole units.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::tokens::{TokenCounting, Unit};

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MILLI: u64 = 1_000_000;

/// The kind of window that a limit is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CountedAs {
    /// Every span of the window's length, whenever it begins.
    Sliding,
    /// Windows end to end, counted from the provider's start plus the phase.
    Fixed,
    /// A token bucket.
    Bucket,
}

/// One limit of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// Its name, unique in the account: letters, digits, `-` and `_`.
    pub name: String,
    /// How many calls fit a window, or how much of the unit; a bucket refills by as many per window.
    pub count: u64,
    /// The window's length in milliseconds.
    pub window_millis: u64,
    /// The kind of window.
    pub counted_as: CountedAs,
    /// Fixed windows begin this many milliseconds after the provider's start (and each window's length before and after).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub phase_millis: u64,
    /// What a bucket holds; `count` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u64>,
    /// Only calls of this endpoint (`search` for HubSpot), `*` for all; when absent, those without an endpoint of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Counted apart for each model; a call without a model doesn't count then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_model: bool,
    /// What it counts.
    #[serde(default, skip_serializing_if = "is_requests")]
    pub unit: Unit,
    /// How it counts that; of tokens, at arrival and as they are when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenCounting>,
}

fn is_requests(unit: &Unit) -> bool {
    *unit == Unit::Requests
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Limit {
    /// A limit of calls without an endpoint of their own, whatever their model.
    pub fn new(name: &str, count: u64, window_millis: u64, counted_as: CountedAs) -> Limit {
        Limit {
            name: name.to_owned(),
            count,
            window_millis,
            counted_as,
            phase_millis: 0,
            bucket: None,
            endpoint: None,
            per_model: false,
            unit: Unit::Requests,
            tokens: None,
        }
    }

    /// The window's length in nanoseconds.
    pub fn window_nanos(&self) -> u64 {
        self.window_millis * NANOS_PER_MILLI
    }

    /// What a bucket holds.
    pub fn capacity(&self) -> u64 {
        self.bucket.unwrap_or(self.count)
    }

    /// What fits at once: what a bucket holds, otherwise the window's count.
    pub fn size(&self) -> u64 {
        if self.counted_as == CountedAs::Bucket { self.capacity() } else { self.count }
    }

    /// Whether a call of this model and endpoint counts against this limit.
    pub fn matches(&self, model: Option<&str>, endpoint: Option<&str>) -> bool {
        let endpoint_matches = match self.endpoint.as_deref() {
            Some("*") => true,
            wanted => wanted == endpoint,
        };
        endpoint_matches && (!self.per_model || model.is_some())
    }
}

/// What a limit says at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// Units that count at this instant; of a bucket, the units begun.
    pub used: u64,
    /// Calls that would still fit now.
    pub remaining: u64,
    /// Nanoseconds until one more call fits; 0 when it fits now, `u64::MAX` when it never does.
    pub next_in: u64,
    /// Nanoseconds until nothing counts any more.
    pub full_in: u64,
}

/// The count of one limit in one partition.
#[derive(Debug, Clone)]
pub struct Counter {
    count: u64,
    window: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    // Each charge with its instant.
    Sliding { charged: VecDeque<(u64, u64)>, used: u64 },
    Fixed { phase: u64, window_index: i128, used: u64 },
    // Units are scaled by the window's nanoseconds, so that refilling is exact in integers. Running calls can
    // take it below zero.
    Bucket { capacity: i128, level: i128, at: u64 },
}

impl Counter {
    /// An empty count for `limit`.
    pub fn new(limit: &Limit) -> Self {
        let window = limit.window_nanos();
        let capacity = i128::from(limit.capacity()) * i128::from(window);
        let kind = match limit.counted_as {
            CountedAs::Sliding => Kind::Sliding { charged: VecDeque::new(), used: 0 },
            CountedAs::Fixed => {
                Kind::Fixed { phase: limit.phase_millis * NANOS_PER_MILLI, window_index: i128::MIN, used: 0 }
            }
            CountedAs::Bucket => Kind::Bucket { capacity, level: capacity, at: 0 },
        };
        Self { count: limit.count, window, kind }
    }

    /// Charges one unit at `now`, whether it fits or not. A bucket with less than a unit loses what it has.
    pub fn charge(&mut self, now: u64) {
        self.charge_rejected(now, 1);
    }

    /// The same of a rejected call that would have drawn `amount`.
    pub fn charge_rejected(&mut self, now: u64, amount: u64) {
        self.advance(now);
        let scaled = self.scaled(amount);
        match &mut self.kind {
            Kind::Bucket { level, .. } if *level > 0 => *level -= (*level).min(scaled),
            Kind::Bucket { .. } => (),
            Kind::Sliding { .. } | Kind::Fixed { .. } => self.add(now, amount),
        }
    }

    /// Charges what a call draws at `now`, whether it fits or not.
    pub fn add(&mut self, now: u64, amount: u64) {
        self.advance(now);
        let scaled = self.scaled(amount);
        match &mut self.kind {
            Kind::Sliding { charged, used } => {
                *used += amount;
                match charged.back_mut() {
                    Some((at, before)) if *at == now => *before += amount,
                    _ => charged.push_back((now, amount)),
                }
            }
            Kind::Fixed { used, .. } => *used += amount,
            Kind::Bucket { level, .. } => *level -= scaled,
        }
    }

    /// Gives back at `now` a part of what was charged at `charged_at`, as far as that still counts.
    pub fn refund(&mut self, now: u64, charged_at: u64, amount: u64) {
        self.advance(now);
        let (scaled, window) = (self.scaled(amount), self.window);
        match &mut self.kind {
            Kind::Sliding { charged, used } => {
                if let Ok(index) = charged.binary_search_by_key(&charged_at, |(at, _)| *at) {
                    let given = charged[index].1.min(amount);
                    charged[index].1 -= given;
                    *used -= given;
                }
            }
            Kind::Fixed { phase, window_index, used } => {
                if window_index_of(charged_at, *phase, window) == *window_index {
                    *used = used.saturating_sub(amount);
                }
            }
            Kind::Bucket { capacity, level, .. } => *level = (*level + scaled).min(*capacity),
        }
    }

    fn scaled(&self, amount: u64) -> i128 {
        i128::from(amount) * i128::from(self.window)
    }

    /// What the limit says at `now` to a call that draws one unit.
    pub fn state(&mut self, now: u64) -> LimitState {
        self.state_for(now, 1)
    }

    /// What the limit says at `now` to a call that draws `amount`.
    pub fn state_for(&mut self, now: u64, amount: u64) -> LimitState {
        self.advance(now);
        let (count, window, scaled) = (self.count, self.window, self.scaled(amount));
        match &self.kind {
            Kind::Sliding { charged, used } => LimitState {
                used: *used,
                remaining: count.saturating_sub(*used),
                next_in: if amount > count {
                    u64::MAX
                } else {
                    leaves_in(charged, *used, count - amount, now, window)
                },
                full_in: charged.back().map_or(0, |(at, _)| at + window - now),
            },
            Kind::Fixed { phase, window_index, used } => {
                let end = (window_index + 1) * i128::from(window) + i128::from(*phase);
                let ends_in = u64::try_from(end - i128::from(now)).unwrap_or(0);
                LimitState {
                    used: *used,
                    remaining: count.saturating_sub(*used),
                    next_in: match used.saturating_add(amount) <= count {
                        true => 0,
                        false if amount > count => u64::MAX,
                        false => ends_in,
                    },
                    full_in: if *used == 0 { 0 } else { ends_in },
                }
            }
            Kind::Bucket { capacity, level, .. } => {
                let unit = i128::from(window);
                let nanos_to_gain = |missing: i128| as_nanos(rounded_up(missing.max(0), i128::from(count)));
                LimitState {
                    used: as_nanos(rounded_up(capacity - level, unit)),
                    remaining: as_nanos((*level).max(0) / unit),
                    next_in: if scaled > *capacity { u64::MAX } else { nanos_to_gain(scaled - level) },
                    full_in: nanos_to_gain(capacity - level),
                }
            }
        }
    }

    fn advance(&mut self, now: u64) {
        let (count, window) = (self.count, self.window);
        match &mut self.kind {
            Kind::Sliding { charged, used } => {
                while let Some((_, amount)) = charged.front().filter(|(at, _)| now - *at >= window) {
                    *used -= *amount;
                    charged.pop_front();
                }
            }
            Kind::Fixed { phase, window_index, used } => {
                let index = window_index_of(now, *phase, window);
                if index != *window_index {
                    (*window_index, *used) = (index, 0);
                }
            }
            Kind::Bucket { capacity, level, at } => {
                let gained = i128::from(now - *at) * i128::from(count);
                (*level, *at) = ((*level + gained).min(*capacity), now);
            }
        }
    }
}

/// Nanoseconds until no more than `room` of what was charged is in the window.
fn leaves_in(charged: &VecDeque<(u64, u64)>, used: u64, room: u64, now: u64, window: u64) -> u64 {
    let mut left = used;
    let mut leaving = charged.iter().take_while(|(_, amount)| {
        let blocks = left > room;
        left -= if blocks { *amount } else { 0 };
        blocks
    });
    leaving.by_ref().last().map_or(0, |(at, _)| at + window - now)
}

fn rounded_up(value: i128, unit: i128) -> i128 {
    (value + unit - 1).div_euclid(unit)
}

/// The index of the fixed window that `now` falls into; negative before the phase. All in nanoseconds.
pub fn window_index_of(now: u64, phase: u64, window: u64) -> i128 {
    (i128::from(now) - i128::from(phase)).div_euclid(i128::from(window))
}

// The limits' bounds (rules.rs) keep every value far below u64::MAX.
fn as_nanos(value: i128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
