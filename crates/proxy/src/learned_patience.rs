//! How long clients really wait, learned from those that hang up: some announce no timeout, others a longer one than
//! the HTTP library below them keeps. A unit is spent for nothing when a call is sent whose client leaves before the
//! answer.
//!
//! Pure: ages of calls and a clock in, beliefs out. All of it concerns one workload, the one beside the proxy.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::USER_AGENT;
use quotakeeper_dialects::patience::PATIENCE_HEADER;

/// So many hang-ups at about the same age are a timeout.
const WITNESSES: usize = 3;
/// How much their ages may differ, as a part of the smallest.
const SPREAD: u32 = 10;
/// Hang-ups that are no further apart than this part of their age are one witness: when a program ends, all of its
/// calls hang up at the same moment, often at the same age.
const APART: u32 = 10;
/// Earlier hang-ups are no timeouts of HTTP clients.
const SHORTEST: Duration = Duration::from_secs(1);
/// The part of a learned timeout that is not relied on.
const MARGIN: u32 = 20;
/// A belief that nothing has confirmed for so long is tried anew.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// The most kinds of clients that are remembered.
const KINDS: usize = 64;
/// The longest name of a client, in bytes.
const LONGEST_NAME: usize = 40;

/// Clients that are taken to have the same timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKind {
    /// The product that they name, without version.
    pub(crate) name: String,
    /// The timeout that they announce, or that their provider's clients usually have.
    announced: Option<Duration>,
}

/// What is known of one kind.
#[derive(Debug)]
struct History {
    hang_ups: VecDeque<HangUp>,
    /// When it was last used.
    used: Instant,
}

#[derive(Clone, Copy, Debug)]
struct HangUp {
    age: Duration,
    at: Instant,
}

/// What is learned of all clients.
#[derive(Debug, Default)]
pub(crate) struct LearnedPatience {
    kinds: HashMap<ClientKind, History>,
}

impl ClientKind {
    /// The kind of a request's client; `None` for one that says how long it waits in the proxy's own header.
    pub(crate) fn of(headers: &HeaderMap, announced: Option<Duration>) -> Option<Self> {
        if headers.contains_key(PATIENCE_HEADER) {
            return None;
        }
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let product = agent.split_whitespace().next().unwrap_or_default();
        // `OpenAI/JS 6.1.0` has its version apart, `python-requests/2.31.0` behind a slash.
        let name = match product.rsplit_once('/') {
            Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit() || c == 'v') => name,
            _ => product,
        };
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let name = name.chars().filter(plain).take(LONGEST_NAME).collect();
        Some(Self { name, announced })
    }
}

impl History {
    fn timeout(&self) -> Option<Duration> {
        let ages = || self.hang_ups.iter().map(|hang_up| hang_up.age);
        let (least, most) = (ages().min()?, ages().max()?);
        (self.hang_ups.len() == WITNESSES && most - least <= least / SPREAD).then_some(least)
    }
}

impl LearnedPatience {
    /// How long clients of a kind are believed to wait; `None` where nothing is learned.
    pub(crate) fn believed(&mut self, kind: &ClientKind, now: Instant) -> Option<Duration> {
        let history = self.kinds.get_mut(kind)?;
        let last = history.hang_ups.back()?;
        if now.saturating_duration_since(last.at) >= FORGOTTEN {
            self.kinds.remove(kind);
            return None;
        }
        history.used = now;
        let timeout = history.timeout()?;
        Some(timeout - timeout / MARGIN)
    }

    /// A client has hung up at `now`, `age` after its call, before any answer. Returns what is newly believed.
    pub(crate) fn hung_up(&mut self, kind: &ClientKind, age: Duration, now: Instant) -> Option<Duration> {
        if age < SHORTEST {
            return None;
        }
        let before = self.believed(kind, now);
        let history = self.history(kind, now);
        let apart = |last: &HangUp| now.saturating_duration_since(last.at) > age / APART;
        if !history.hang_ups.back().is_none_or(apart) {
            return None;
        }
        if history.hang_ups.len() == WITNESSES {
            history.hang_ups.pop_front();
        }
        history.hang_ups.push_back(HangUp { age, at: now });
        let believed = self.believed(kind, now);
        believed.filter(|_| before.is_none())
    }

    /// A client was still there for an answer `age` after its call. Returns whether a belief is gone with that.
    pub(crate) fn stayed(&mut self, kind: &ClientKind, age: Duration, now: Instant) -> bool {
        let Some(history) = self.kinds.get_mut(kind) else { return false };
        history.used = now;
        let believed = history.timeout().is_some();
        history.hang_ups.retain(|hang_up| hang_up.age >= age);
        believed && history.hang_ups.len() < WITNESSES
    }

    fn history(&mut self, kind: &ClientKind, now: Instant) -> &mut History {
        if !self.kinds.contains_key(kind) && self.kinds.len() >= KINDS {
            let oldest = self.kinds.iter().min_by_key(|(_, history)| history.used);
            if let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) {
                self.kinds.remove(&oldest);
            }
        }
        self.kinds.entry(kind.clone()).or_insert_with(|| History { hang_ups: VecDeque::new(), used: now })
    }
}

#[cfg(test)]
mod tests;
