//! Waits that one workload alone has reported, long ones and one after the other. It obeys them in full; the others are
//! held while one call of theirs asks, and bound if that is rejected for long too. So no answer that one pod alone has
//! seen stops the others for long.

use std::time::Duration;

use super::Engine;
use super::rejections::Closing;
use crate::callers::PauseKey;
use crate::event::{Action, Callers, Scope};
use crate::mutant::{self, Mutant};
use crate::name::Consumer;
use crate::pause::{Claim, Pause};
use crate::time::Time;

/// Pauses up to so long bind everyone on the word of one workload.
pub(super) const WITHOUT_WITNESS: Duration = Duration::from_secs(60);

/// For so long in all, one workload's pauses bind everyone on its word while no other is rejected, …
const IN_A_ROW: Duration = Duration::from_secs(180);
/// … and again when the first of them was so long ago.
const ROW: Duration = Duration::from_secs(3600);

/// The workload whose rejections have paused everyone last, and for how long while no other was rejected.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWord {
    by: Option<Consumer>,
    paused: Duration,
    since: Time,
}

impl LastWord {
    /// Whether everyone may be paused for so long more on this workload's word, which was rejected; if so, it counts.
    fn takes(&mut self, now: Time, by: &Consumer, more: Duration) -> bool {
        if self.by.as_ref() != Some(by) || now.since(self.since) > ROW {
            *self = LastWord { by: Some(by.clone()), paused: Duration::ZERO, since: now };
        }
        let takes = self.paused + more <= IN_A_ROW || mutant::active(Mutant::PausesUndoubted);
        if takes {
            self.paused += more;
        }
        takes
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
        let paused =
            known.filter(|pause| pause.is_closed()).map_or(Duration::ZERO, |pause| pause.until.since(now));
        if length <= WITHOUT_WITNESS
            && (self.last_word.takes(now, &closing.by, length.saturating_sub(paused))
                || self.queue.knows_only(&closing.by))
        {
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

    /// One workload waits, and everyone while a call of another asks.
    pub(super) fn claim(&mut self, now: Time, scope: &Scope, closing: Closing, actions: &mut Vec<Action>) {
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
