//! How a proxy handles the limiter's messages.

use std::time::Duration;

use quotakeeper_engine::event::CallId;
use quotakeeper_engine::time::Stamp;

use super::call::{Grant, State};
use super::{Link, Session, SessionEvent, Terms};
use crate::message::{AccountIndex, GrantRef, LimiterMessage, ProxyMessage, Report, ToProxy};
use crate::mutant::{self, Mutant};

impl Session {
    /// Handles a message of the current connection.
    pub fn receive(&mut self, now: Stamp, message: ToProxy) -> Option<SessionEvent> {
        let Link::Greeted(greeted) = self.link else {
            self.counters.stale += 1;
            return None;
        };
        if message.epoch < self.newest && !mutant::active(Mutant::EpochsIgnored) {
            self.counters.stale += 1;
            return None;
        }
        self.newest = self.newest.max(message.epoch);
        match message.body {
            LimiterMessage::Welcome { validity, heartbeat, fingerprint_key } => {
                self.terms = Some(Terms { validity, heartbeat, fingerprint_key });
                None
            }
            LimiterMessage::Account { account, update } => {
                let ours = (account.0 as usize) < self.identity.quotas.len();
                ours.then_some(SessionEvent::Account { account, update })
            }
            LimiterMessage::Grant { account, call, attempt, echo, granted } => {
                if echo < greeted {
                    // Decided for an earlier connection: the hello has reported that the call holds no grant.
                    self.counters.stale += 1;
                    return None;
                }
                self.ended.confirm(echo);
                let validity = self.terms.map_or(Duration::ZERO, |terms| terms.validity);
                let reference = GrantRef { attempt, epoch: message.epoch, granted };
                let grant = Grant { reference, expires: echo + validity };
                self.granted(now, account, call, grant)
            }
            LimiterMessage::Outlook { look, document, .. } => Some(SessionEvent::Outlook { look, document }),
            LimiterMessage::Refuse { account, call, reason, retry_after, words } => {
                let waits = self.calls.get(&call).is_some_and(|known| {
                    known.account == account && matches!(known.state, State::Waiting { .. })
                });
                waits.then(|| {
                    self.calls.remove(&call);
                    SessionEvent::Refused { call, reason, retry_after, words }
                })
            }
        }
    }

    fn granted(
        &mut self,
        now: Stamp,
        account: AccountIndex,
        id: CallId,
        grant: Grant,
    ) -> Option<SessionEvent> {
        match self.calls.get_mut(&id) {
            Some(call) if call.account == account => {
                if grant.reference.attempt <= call.attempts {
                    // Its attempt has been reported already.
                    self.counters.stale += 1;
                    return None;
                }
                if let State::Waiting { .. } = call.state {
                    call.begin_attempt(now, grant);
                    self.counters.granted += 1;
                    return Some(SessionEvent::Granted { call: id });
                }
            }
            _ => {}
        }
        // Hung up while the grant was on its way.
        self.queue(ProxyMessage::Report {
            account,
            call: id,
            attempt: grant.reference.attempt,
            report: Report::Unused { again: false },
        });
        None
    }
}
