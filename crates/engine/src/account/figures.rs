//! Figures that one workload alone has heard: use of a limit by others, or less of it than was declared. They bind
//! everyone at once, because they are mostly true and to wait for another's word would exceed the quota. Where they would
//! hold everyone for long on one workload's word, they do so only until another has a call to ask with: then they are
//! undone, and that call asks while the others are held for as long as its answer takes. So no figures that one pod makes
//! up hold the others for long, however often it tells them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Engine;
use super::claims::WITHOUT_WITNESS;
use super::lanes::CounterId;
use super::rejections::Closing;
use crate::cost::Amount;
use crate::event::{Action, Attempt, Fingerprint, RejectionClass, Scope};
use crate::name::Consumer;
use crate::time::Time;
use crate::window_counter::{KnownOthers, WindowCounter};

/// For so long in all, one workload's figures hold everyone on its word, of a whole limit; of a part for longer, …
const ALONE: Duration = Duration::from_secs(180);
/// … and again when the first of them is so long ago.
const ROW: Duration = Duration::from_secs(3600);
/// Workloads of which that is remembered; beyond it the one that began first is forgotten.
const MOST_WORKLOADS: usize = 256;

/// Who has heard which figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    alone: BTreeMap<Consumer, Alone>,
    /// The workload whose figures were the last that said more than was known.
    last: Option<Consumer>,
    doubts: Vec<Doubt>,
}

/// For how long a workload's figures have held everyone since then, though no other has heard as much.
#[derive(Clone, Copy, Debug)]
struct Alone {
    since: Time,
    held: Duration,
}

/// Figures of a counter that no other workload has heard.
#[derive(Clone, Debug)]
struct Doubt {
    counter: CounterId,
    witness: Witness,
    /// How much less is left than was known before.
    claimed: Amount,
    /// From when on another workload's call may ask whether it is true.
    ask_from: Time,
    /// When it is over by itself.
    until: Time,
    /// What was known before; `None`: it is known again, and another workload's call asks.
    before: Option<Standing>,
}

/// Whose answer it is.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    pub(super) by: Consumer,
    pub(super) credential: Fingerprint,
    pub(super) attempt: Attempt,
    /// When its call was granted.
    pub(super) granted: Time,
}

/// What figures have said of a counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    amount: Amount,
    observed: Option<u64>,
    others: Vec<KnownOthers>,
}

impl Figures {
    /// From when on another may ask whether figures are true that hold everyone for so long more on this workload's word.
    fn ask_from(&mut self, now: Time, by: &Consumer, more: Duration) -> Time {
        if self.alone.len() >= MOST_WORKLOADS && !self.alone.contains_key(by) {
            let first = self.alone.iter().min_by_key(|(_, alone)| alone.since).map(|(name, _)| name.clone());
            first.map(|first| self.alone.remove(&first));
        }
        let alone = self.alone.entry(by.clone()).or_insert(Alone { since: now, held: Duration::ZERO });
        if now.since(alone.since) > ROW {
            *alone = Alone { since: now, held: Duration::ZERO };
        }
        let left = ALONE.saturating_sub(alone.held);
        if more > left {
            return now;
        }
        alone.held += more;
        now + left
    }

    /// Whether some are doubted, or were lately.
    pub(super) fn are_doubted(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Another workload has heard about as much as is doubted of this counter. Returns whether anything was doubted.
    fn confirmed(&mut self, counter: CounterId, by: &Consumer, shown: Amount) -> bool {
        let before = self.doubts.len();
        let heard = |doubt: &Doubt| {
            doubt.counter == counter && doubt.witness.by != *by && doubt.claimed <= shown + shown
        };
        self.doubts.retain(|doubt| !heard(doubt));
        self.doubts.len() < before
    }
}

impl Engine {
    /// What is known of a counter before figures are taken in.
    pub(super) fn standing(&self, counter: CounterId) -> Standing {
        let Some(entry) = self.lanes.entry(counter) else { return Standing::default() };
        let Some(window) = entry.counter().window() else { return Standing::default() };
        Standing { amount: window.amount(), observed: entry.observed, others: window.known_others() }
    }

    /// A counter's figures were taken in, which were news: binds everyone by them, or doubts them.
    pub(super) fn weigh_figures(
        &mut self,
        now: Time,
        counter: CounterId,
        before: Standing,
        witness: Witness,
    ) {
        let Some(entry) = self.lanes.entry(counter) else { return };
        let Some(window) = entry.counter().window() else { return };
        let known: Amount = before.others.iter().map(|part| part.amount).sum();
        let claimed = (window.used_by_others() - known) + (before.amount - window.amount());
        if before.observed != entry.observed {
            // Another workload's word of the limit stands, whatever is undone.
            let others = |doubt: &&mut Doubt| doubt.counter == counter && doubt.witness.by != witness.by;
            for standing in self.figures.doubts.iter_mut().filter(others).filter_map(|it| it.before.as_mut())
            {
                standing.observed = entry.observed;
            }
        }
        if claimed.is_zero() || self.queue.knows_only(&witness.by) {
            return;
        }
        let length = entry.limit.config.window;
        let held = length.mul_f64((claimed.0 as f64 / before.amount.0.max(1) as f64).min(1.0));
        self.figures.last = Some(witness.by.clone());
        if self.figures.confirmed(counter, &witness.by, claimed) {
            return;
        }
        let ask_from = self.figures.ask_from(now, &witness.by, held);
        // Of the limit itself no later answer says anything else, if no other workload has one.
        let until = if entry.observed == before.observed { now + length } else { Time::NEVER };
        let doubted = |doubt: &&mut Doubt| doubt.counter == counter && doubt.before.is_some();
        if let Some(doubt) = self.figures.doubts.iter_mut().find(doubted) {
            doubt.claimed += claimed;
            doubt.until = doubt.until.max(until);
            doubt.ask_from = doubt.ask_from.min(ask_from);
        } else {
            // The same word once more.
            self.figures.doubts.retain(|old| old.counter != counter || old.witness.by != witness.by);
            let before = Some(before);
            self.figures.doubts.push(Doubt { counter, witness, claimed, ask_from, until, before });
        }
    }

    /// Figures that were no news: they may show what another workload's have said. `shown`: what others have used of the
    /// limit at least; `same`: they say the same of the limit.
    pub(super) fn compare_figures(&mut self, counter: CounterId, by: &Consumer, shown: Amount, same: bool) {
        let Some(last) = self.figures.last.as_ref().filter(|last| *last != by) else { return };
        let others = self.lanes.entry(counter).and_then(|entry| entry.counter().window());
        let others = others.map_or(Amount::ZERO, WindowCounter::used_by_others);
        let as_much = others <= shown + shown;
        if as_much && (same || !shown.is_zero()) {
            self.figures.alone.remove(last);
            self.figures.doubts.retain(|doubt| doubt.counter != counter || doubt.witness.by == *by);
        }
    }

    /// Undoes figures that are doubted, if another workload waits or `asks`: its call asks whether they are true.
    pub(super) fn ask_about_figures(
        &mut self,
        now: Time,
        asks: Option<&Consumer>,
        actions: &mut Vec<Action>,
    ) {
        let may_ask = |doubt: &Doubt| doubt.before.is_some() && doubt.ask_from <= now;
        if !self.figures.doubts.iter().any(may_ask) {
            return;
        }
        let mut doubts = std::mem::take(&mut self.figures.doubts);
        doubts.retain(|doubt| doubt.until > now);
        for doubt in doubts.iter_mut().filter(|doubt| doubt.ask_from <= now) {
            let by = &doubt.witness.by;
            let another = asks.is_some_and(|asks| asks != by) || self.queue.another_waits(by);
            if let Some(before) = doubt.before.take_if(|_| another) {
                if let Some(alone) = self.figures.alone.get_mut(by) {
                    alone.held = ALONE;
                }
                self.undo_figures(now, doubt.counter, before);
                self.hold_for_an_answer(now, doubt, actions);
            }
        }
        self.figures.doubts.extend(doubts);
    }

    /// When the next figures may be asked about, if another workload waits then.
    pub(super) fn figures_are_asked_from(&self, now: Time) -> Time {
        let pending = self.figures.doubts.iter().filter(|doubt| doubt.before.is_some());
        pending.map(|doubt| doubt.ask_from).filter(|from| *from > now).min().unwrap_or(Time::NEVER)
    }

    fn undo_figures(&mut self, now: Time, counter: CounterId, before: Standing) {
        let Some(entry) = self.lanes.entry_mut(counter) else { return };
        if entry.observed != before.observed {
            entry.observed = before.observed;
            entry.reconfigure(now);
        }
        if let Some((_, window)) = entry.window_at(now) {
            window.know_others(now, &before.others);
        }
    }

    /// The workload whose word it is waits, and everyone while a call of another asks.
    fn hold_for_an_answer(&mut self, now: Time, doubt: &Doubt, actions: &mut Vec<Action>) {
        let Some(entry) = self.lanes.entry(doubt.counter) else { return };
        let limit = entry.limit.config.name.clone();
        let reason = format!("answers to this workload alone say that less is left of the limit {limit}");
        let mut scope = Scope::limit(limit);
        if let Some(model) = entry.model.clone() {
            scope.model = model.into();
        }
        let Witness { by, credential, attempt, granted } = doubt.witness.clone();
        let closing = Closing {
            attempt,
            by,
            credential,
            organization: None,
            granted,
            class: RejectionClass::Quota,
            wait: Some(doubt.until.since(now).min(WITHOUT_WITNESS)),
            reason,
        };
        self.claim(now, &scope, closing, actions);
    }
}
