//! Attempts that have ended, kept until the limiter is known to have heard of it.
//!
//! There are no acknowledgements: an echo is a stamp of ours that the limiter has received, and
//! messages of one connection keep their order, so an echo that is younger than a report proves
//! that the report arrived. A report is kept for [`KEPT`] beyond that, because the limiter's
//! ledger commits a moment later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quotakeeper_engine::event::CallId;
use quotakeeper_engine::time::Stamp;

use super::call::{Call, Grant};
use crate::message::{EndedAttempt, Ending};

/// Longer than a ledger's group commit (10–50 ms) by far.
const KEPT: Duration = Duration::from_secs(1);

/// Beyond this many the attempts of the oldest calls are forgotten: their units then stay charged
/// for as long as the limiter must assume.
const MOST: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct EndedAttempts {
    attempts: BTreeMap<(CallId, u32), Kept>,
    /// When which was told, oldest first.
    told: VecDeque<(Stamp, CallId, u32)>,
}

#[derive(Clone, Debug)]
struct Kept {
    attempt: EndedAttempt,
    told: Option<Stamp>,
}

impl EndedAttempts {
    pub(super) fn remember(&mut self, id: CallId, call: &Call, grant: Grant, ending: Ending) {
        let attempt = EndedAttempt {
            account: call.account,
            call: id,
            grant: grant.reference,
            class: call.class.clone(),
            ending,
        };
        self.attempts.insert((id, grant.reference.attempt), Kept { attempt, told: None });
        while self.attempts.len() > MOST {
            self.attempts.pop_first();
        }
    }

    /// A message about the attempt leaves, stamped `now`.
    pub(super) fn told(&mut self, now: Stamp, call: CallId, attempt: u32) {
        if let Some(kept) = self.attempts.get_mut(&(call, attempt)) {
            kept.told = Some(now);
            self.told.push_back((now, call, attempt));
            while self.told.len() > 4 * MOST {
                self.told.pop_front();
            }
        }
    }

    /// The limiter has received everything up to `echo`.
    pub(super) fn confirm(&mut self, echo: Stamp) {
        while let Some(&(told, call, attempt)) = self.told.front() {
            if echo < told + KEPT {
                break;
            }
            self.told.pop_front();
            if let Some(kept) = self.attempts.get(&(call, attempt))
                && kept.told == Some(told)
            {
                self.attempts.remove(&(call, attempt));
            }
        }
    }

    /// All of them, told anew in a message stamped `now`.
    pub(super) fn resend_all(&mut self, now: Stamp) -> Vec<EndedAttempt> {
        self.told.clear();
        self.attempts
            .iter_mut()
            .map(|(&(call, attempt), kept)| {
                kept.told = Some(now);
                self.told.push_back((now, call, attempt));
                kept.attempt.clone()
            })
            .collect()
    }
}
