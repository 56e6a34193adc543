//! Claims: long waits that one workload has reported and no other has confirmed.

use super::{Pause, Phase, Refusals};
use crate::event::Attempt;
use crate::name::Consumer;
use crate::time::Time;

/// A wait that a workload has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) by: Consumer,
    pub(crate) until: Time,
}

impl Pause {
    /// Holds everyone while one call asks whether a claim is true.
    pub(crate) fn question(now: Time, claim: Claim) -> Pause {
        Pause {
            since: now,
            until: now,
            reason: String::new(),
            refusals: Refusals::None,
            contradicted: false,
            organization: None,
            heard_by: None,
            overloaded: false,
            by_hand: false,
            closed_at: now,
            strikes: 0,
            phase: Phase::Closed,
            claim: Some(claim),
            only_asks: true,
        }
    }

    /// Has the next probe ask about a claim too. `rejected`: the attempt whose rejection made it, if that is news.
    pub(crate) fn ask_about(&mut self, now: Time, claim: Claim, rejected: Option<Attempt>) {
        match &mut self.claim {
            Some(known) if known.by == claim.by => known.until = known.until.max(claim.until),
            _ if rejected.is_some() => self.claim = Some(claim),
            _ => {}
        }
        let Some(rejected) = rejected else { return };
        let asking = matches!(self.phase, Phase::Probing { probe, .. } if probe != rejected);
        if !asking && !matches!(self.phase, Phase::Closed) {
            self.phase = Phase::Closed;
            self.closed_at = now;
            self.strikes += 1;
        }
    }

    /// Until when another workload claims that calls are rejected.
    pub(crate) fn claimed_until(&self, not_by: &str) -> Option<Time> {
        self.claim.as_ref().filter(|claim| claim.by != *not_by).map(|claim| claim.until)
    }

    /// Another workload's rejection has confirmed the claim.
    pub(crate) fn confirmed(&mut self) {
        self.claim = None;
        self.only_asks = false;
    }

    /// Whether it is there only to ask about a claim, and nobody has been told of it.
    pub(crate) fn only_asks(&self) -> bool {
        self.only_asks
    }

    /// Whether it asks about a claim whose time has passed.
    pub(super) fn asks_in_vain(&self, now: Time) -> bool {
        self.only_asks && self.claim.as_ref().is_none_or(|claim| claim.until <= now)
    }
}
