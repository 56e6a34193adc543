//! Attempts that have ended, until the limiter is known to have received the report.
//!
//! There are no acknowledgements: an echo is a stamp of ours that the limiter has received, and
//! messages of one connection keep their order, so an echo that is younger than a report proves
//! that the report arrived. A report stays for [`COMMIT_TIME`] beyond that, because the limiter's
//! ledger commits a moment later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quotakeeper_engine::event::CallId;
use quotakeeper_engine::time::Stamp;

use super::call::{Call, Grant};
use crate::message::{EndedAttempt, Ending};

/// Longer than a ledger's group commit (10–50 ms) by far.
const COMMIT_TIME: Duration = Duration::from_secs(1);

/// Beyond this many the attempts of the oldest calls are forgotten: their units then stay charged
/// for as long as the limiter must assume.
pub const MOST: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct EndedAttempts {
    attempts: BTreeMap<(CallId, u32), Unacknowledged>,
    /// When each was last sent, oldest first.
    sent: VecDeque<(Stamp, CallId, u32)>,
}

#[derive(Clone, Debug)]
struct Unacknowledged {
    attempt: EndedAttempt,
    /// When it was last sent.
    sent: Option<Stamp>,
}

impl EndedAttempts {
    pub(super) fn remember(&mut self, id: CallId, call: &Call, grant: Grant, ending: Ending) {
        let attempt = EndedAttempt {
            account: call.account,
            call: id,
            grant: grant.reference,
            details: call.details.clone(),
            ending,
        };
        self.attempts.insert((id, grant.reference.attempt), Unacknowledged { attempt, sent: None });
        while self.attempts.len() > MOST {
            self.attempts.pop_first();
        }
    }

    /// A message about the attempt leaves, stamped `now`.
    pub(super) fn mark_sent(&mut self, now: Stamp, call: CallId, attempt: u32) {
        if let Some(entry) = self.attempts.get_mut(&(call, attempt)) {
            entry.sent = Some(now);
            self.sent.push_back((now, call, attempt));
            while self.sent.len() > 4 * MOST {
                self.sent.pop_front();
            }
        }
    }

    /// The limiter has received everything up to `echo`.
    pub(super) fn confirm(&mut self, echo: Stamp) {
        while let Some(&(sent, call, attempt)) = self.sent.front() {
            if echo < sent + COMMIT_TIME {
                break;
            }
            self.sent.pop_front();
            if let Some(entry) = self.attempts.get(&(call, attempt))
                && entry.sent == Some(sent)
            {
                self.attempts.remove(&(call, attempt));
            }
        }
    }

    /// All of them, sent again in a message stamped `now`.
    pub(super) fn resend_all(&mut self, now: Stamp) -> Vec<EndedAttempt> {
        self.sent.clear();
        self.attempts
            .iter_mut()
            .map(|(&(call, attempt), entry)| {
                entry.sent = Some(now);
                self.sent.push_back((now, call, attempt));
                entry.attempt.clone()
            })
            .collect()
    }
}
