//! How far answers have grown: heartbeats say it, of those that have grown since the last.

use quotakeeper_engine::event::CallId;
use quotakeeper_engine::time::Stamp;

use super::Session;
use super::call::State;
use crate::codec::MOST_PRODUCED;
use crate::message::{Produced, ProxyMessage};

impl Session {
    /// The call's answer has `output` tokens so far. The limiter hears of it with a heartbeat; a figure that does not
    /// rise is no news.
    pub fn produced(&mut self, id: CallId, output: u64) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if matches!(call.state, State::Answered { .. }) && output > call.produced {
            call.produced = output;
            self.grown.insert(id);
        }
    }

    /// When answers that have grown are due to be reported; `None`: none has.
    pub(super) fn progress_due(&self) -> Option<Stamp> {
        let heartbeat = self.terms?.heartbeat;
        let since = self.progress_sent.unwrap_or_default();
        (!self.grown.is_empty()).then_some(since + heartbeat)
    }

    /// Queues heartbeats about all answers that have grown; false: there are none.
    pub(super) fn report_progress(&mut self, now: Stamp) -> bool {
        let mut grown = std::mem::take(&mut self.grown).into_iter().peekable();
        let any = grown.peek().is_some();
        while grown.peek().is_some() {
            let produced = grown.by_ref().take(MOST_PRODUCED).filter_map(|id| self.growth(id)).collect();
            self.queue(ProxyMessage::Heartbeat { produced });
        }
        if any {
            self.progress_sent = Some(now);
        }
        any
    }

    /// Another limiter may listen, which has heard nothing yet.
    pub(super) fn repeat_progress(&mut self) {
        self.progress_sent = None;
        for (id, call) in &mut self.calls {
            call.produced_told = 0;
            if call.produced > 0 {
                self.grown.insert(*id);
            }
        }
    }

    fn growth(&mut self, id: CallId) -> Option<Produced> {
        let call = self.calls.get_mut(&id)?;
        let State::Answered { grant, .. } = call.state else {
            return None;
        };
        if call.produced <= call.produced_told {
            return None;
        }
        call.produced_told = call.produced;
        let attempt = grant.reference.attempt;
        Some(Produced { account: call.account, call: id, attempt, output: call.produced })
    }
}
