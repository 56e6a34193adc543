//! Waits that one workload alone has reported, long ones and one after the other. It obeys them in full; the others are
//! held while one call of theirs asks, and bound if that is rejected for long too. So no answer that one pod alone has
//! seen stops the others for long.

use std::time::Duration;

use super::Engine;
use super::rejections::Closing;
use crate::callers::PauseKey;
use crate::event::{Action, Callers, Scope};
use crate::name::Consumer;
use crate::pause::{Claim, Pause};
use crate::time::Time;

/// Pauses up to so long bind everyone on the word of one workload.
pub(super) const WITHOUT_WITNESS: Duration = Duration::from_secs(60);

/// So many pauses in a row bind everyone on the word of one workload, while no other is rejected, …
const MOST_IN_A_ROW: u32 = 3;
/// … and more of them when the first was so long ago.
const ROW: Duration = Duration::from_secs(3600);

/// The workload whose rejections have paused everyone last, and how often in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWord {
    by: Option<Consumer>,
    times: u32,
    since: Time,
}

impl LastWord {
    /// A workload was rejected. Returns whether it was the only one for too often.
    fn is_one_too_often(&mut self, now: Time, by: &Consumer) -> bool {
        if self.by.as_ref() != Some(by) || now.since(self.since) > ROW {
            *self = LastWord { by: Some(by.clone()), times: 0, since: now };
        }
        self.times = self.times.saturating_add(1);
        self.times > MOST_IN_A_ROW
    }
}

impl Engine {
    /// Pauses a scope for as long as a rejection says: everyone, or the workload that reported it.
    pub(super) fn pause(&mut self, now: Time, scope: &Scope, closing: Closing, actions: &mut Vec<Action>) {
        let config = self.config.pause;
        let all = PauseKey::all(scope);
        let known = self.pauses.get(&all);
        let unnamed = known.map_or(config.fallback, |pause| pause.unnamed_after(closing.granted, &config));
        let length = closing.wait.unwrap_or(unnamed).min(config.cap);
        let news = known.is_none_or(|pause| pause.is_news(closing.granted) || pause.until < now + length);
        let often = news && self.last_word.is_one_too_often(now, &closing.by);
        if length <= WITHOUT_WITNESS && (!often || self.queue.knows_only(&closing.by)) {
            self.close(now, all, closing, actions);
            return;
        }
        let until = now + length;
        if let Some(claimed) = known.and_then(|pause| pause.claimed_until(&closing.by)) {
            let wait = Some(length.max(claimed.since(now)));
            if let Some(pause) = self.pauses.get_mut(&all) {
                pause.confirmed();
            }
            self.close(now, all, Closing { wait, ..closing }, actions);
        } else if known.is_none_or(|pause| !pause.is_closed() || pause.until < until) {
            self.claim(now, scope, Closing { wait: Some(length), ..closing }, actions);
        }
    }

    fn claim(&mut self, now: Time, scope: &Scope, closing: Closing, actions: &mut Vec<Action>) {
        let own = PauseKey { scope: scope.clone(), callers: Callers::Workload(closing.by.clone()) };
        // What else of the workload was under way when it was rejected may prolong its pause, and asks nobody again.
        let news = self.pauses.get(&own).is_none_or(|pause| pause.is_news(closing.granted));
        let (by, attempt) = (closing.by.clone(), closing.attempt);
        self.close(now, own.clone(), closing, actions);
        let Some(until) = self.pauses.get(&own).map(|pause| pause.until) else { return };
        let claim = Claim { by, until };
        match self.pauses.get_mut(&PauseKey::all(scope)) {
            Some(pause) => pause.ask_about(now, claim, news.then_some(attempt)),
            None if news => {
                self.pauses.insert(PauseKey::all(scope), Pause::question(now, claim));
            }
            None => {}
        }
    }
}
