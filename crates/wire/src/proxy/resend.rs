//! The messages of a proxy: the hello, what is queued, what is due.

use quotakeeper_engine::time::Stamp;

use super::call::State;
use super::{Link, SENT_AFTER, Session};
use crate::message::{Hello, LiveCall, Notice, ProxyMessage, ToLimiter};

impl Session {
    /// The next message to send, stamped `now`; read the clock just before. `None`: there is nothing to send.
    pub fn next_message(&mut self, now: Stamp) -> Option<ToLimiter> {
        let body = match self.link {
            Link::Down => return None,
            Link::Fresh => {
                self.link = Link::Greeted(now);
                for (&(account, kind), detail) in &self.notices {
                    let notice = Notice { kind, detail: detail.clone() };
                    self.outgoing.push(ProxyMessage::Notice { account, notice });
                }
                ProxyMessage::Hello(self.hello(now))
            }
            Link::Greeted(_) => self.outgoing.pop()?,
        };
        if let ProxyMessage::Report { call, attempt, .. } = &body {
            self.ended.mark_sent(now, *call, *attempt);
        }
        self.outgoing.sent(now);
        Some(ToLimiter { stamp: now, body })
    }

    /// When [`Session::wake`] has something to do, if nothing else happens before.
    pub fn next_wake(&self) -> Option<Stamp> {
        let Link::Greeted(_) = self.link else {
            return None;
        };
        let sent = self.unanswered.front().map(|&(written, ..)| written + SENT_AFTER);
        let heartbeat = self.terms.and_then(|terms| self.outgoing.silent_until(terms.heartbeat));
        [sent, heartbeat, self.progress_due()].into_iter().flatten().min()
    }

    /// Queues what is due by now: `Sent` for calls without an answer, a heartbeat, how far answers have grown.
    pub fn wake(&mut self, now: Stamp) {
        while let Some(&(written, id, attempt)) = self.unanswered.front() {
            let waits = self.calls.get(&id).is_some_and(
                |call| matches!(call.state, State::Sent { grant, .. } if grant.reference.attempt == attempt),
            );
            if waits && now < written + SENT_AFTER {
                break;
            }
            self.unanswered.pop_front();
            if waits {
                self.report_sent(id);
            }
        }
        if self.progress_due().is_some_and(|due| due <= now) {
            self.report_progress(now);
        }
        let due = self.terms.and_then(|terms| self.outgoing.silent_until(terms.heartbeat));
        let silent = self.outgoing.is_empty() && due.is_some_and(|due| due <= now);
        if silent && !self.report_progress(now) {
            self.queue(ProxyMessage::ALIVE);
        }
    }

    fn hello(&mut self, now: Stamp) -> Hello {
        self.unanswered.clear();
        self.repeat_progress();
        let calls = self
            .calls
            .iter_mut()
            .map(|(&id, call)| {
                if let State::Sent { grant, .. } = call.state {
                    call.sent_reported = grant.reference.attempt;
                }
                LiveCall {
                    account: call.account,
                    call: id,
                    details: call.details.clone(),
                    progress: call.progress(now),
                }
            })
            .collect();
        Hello {
            session: self.identity.session,
            consumer: self.identity.consumer.clone(),
            quotas: self.identity.quotas.clone(),
            newest: self.newest,
            ended: self.ended.resend_all(now),
            calls,
        }
    }
}
