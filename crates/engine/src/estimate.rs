//! What calls will likely use, learned from those before: by consumer, model and endpoint.
//!
//! A provider counts the tokens of a call while it answers; what a call needs is known afterwards. Until then an
//! amount is held for it: at most the [`bound`] and, once enough calls have ended, what 0.9 of such calls use
//! ([`Estimates::likely`]). An estimate that is too low lets the provider's figure exceed the limit, one that is too
//! high leaves quota unused.
//!
//! | room | holds |
//! |---|---|
//! | `bound` | the most that a call can use |
//! | `lengths` | how long calls get, by Kaplan and Meier's estimate |
//! | `learned` | what is learned of calls of one kind: output, input, cache |
//! | `speeds` | how fast models produce |
//! | `bins` | histograms and their scales |
//! | `table` | entries by ids |
//! | `snapshot` | what the ledger keeps |
//! | `status` | what people are shown |
//!
//! Nothing here knows limits: what an amount costs there is the caller's.

mod bins;
mod bound;
mod learned;
mod lengths;
mod snapshot;
mod speeds;
mod status;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use foldhash::HashMap;

pub use bound::bound;
pub use snapshot::EstimatesSnapshot;
pub use status::EstimateStatus;

use crate::event::CallClass;
use crate::name::Consumer;
use crate::time::Time;
use crate::token_costs::TokenAmounts;
use crate::tokens::{CallSize, TokenUsage};
use bins::TOKENS;
use learned::{ENOUGH, Learned};
use speeds::Speeds;
use table::{Id, Table};

/// The most consumers that are kept apart, counted once for each model and endpoint; what was used least recently is
/// forgotten first.
const MOST_CONSUMERS: usize = 4_096;
/// The most pairs of model and endpoint: clients choose the names.
const MOST_CLASSES: usize = 1_024;

/// What is learned of an account's calls.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    by_class: BTreeMap<CallClass, Id>,
    classes: Table<Class>,
    consumers: Table<OneConsumer>,
    /// Counts the uses of keys.
    uses: u64,
    /// Counts what has become known.
    revision: u64,
}

/// All calls to a model and endpoint.
#[derive(Clone, Debug)]
struct Class {
    class: CallClass,
    everybody: Learned,
    speeds: Speeds,
    by_consumer: HashMap<Consumer, Id>,
    last_use: u64,
}

/// The calls of one consumer to a model and endpoint.
#[derive(Clone, Debug)]
struct OneConsumer {
    class: Id,
    consumer: Consumer,
    learned: Learned,
    last_use: u64,
}

/// Stands for a consumer's calls to a model and endpoint. One that has been forgotten meanwhile can still be used:
/// its calls count for nobody in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstimateKey {
    class: Id,
    consumer: Id,
}

/// A call that runs. It ends by being passed to [`Estimates::ended`] or [`Estimates::lost`], once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningCall {
    key: EstimateKey,
    began: Time,
    produced: u64,
}

/// What a call likely uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Likely {
    /// In tokens, at most the bound.
    pub usage: TokenUsage,
    /// Enough such calls have ended. Otherwise `usage` is the bound, and the caller holds less of it than would
    /// close a limit: a quarter of the limit.
    pub known: bool,
}

impl Estimates {
    /// The key of a consumer's calls to a model and endpoint; valid until it is forgotten. It costs a search by
    /// name: ask once a call.
    pub fn key(&mut self, consumer: &Consumer, class: &CallClass) -> EstimateKey {
        self.uses += 1;
        // What a call uses does not depend on whose part of the quota it draws on.
        let of_all = class.allocation.as_ref().map(|_| CallClass { allocation: None, ..class.clone() });
        let class = of_all.as_ref().unwrap_or(class);
        let class_id = match self.by_class.get(class) {
            Some(id) => *id,
            None => self.new_class(class),
        };
        let known = self.classes.get_mut(class_id).and_then(|of_class| {
            of_class.last_use = self.uses;
            of_class.by_consumer.get(consumer).copied()
        });
        let consumer_id = known.unwrap_or_else(|| self.new_consumer(class_id, consumer));
        if let Some(one) = self.consumers.get_mut(consumer_id) {
            one.last_use = self.uses;
        }
        EstimateKey { class: class_id, consumer: consumer_id }
    }

    fn new_class(&mut self, class: &CallClass) -> Id {
        if self.classes.len() >= MOST_CLASSES {
            self.forget_a_class();
        }
        let id = self.classes.insert(Class {
            class: class.clone(),
            everybody: Learned::default(),
            speeds: Speeds::default(),
            by_consumer: HashMap::default(),
            last_use: self.uses,
        });
        self.by_class.insert(class.clone(), id);
        id
    }

    fn new_consumer(&mut self, class: Id, consumer: &Consumer) -> Id {
        if self.consumers.len() >= MOST_CONSUMERS {
            self.forget_a_consumer();
        }
        let learned = Learned::default();
        let one = OneConsumer { class, consumer: consumer.clone(), learned, last_use: self.uses };
        let id = self.consumers.insert(one);
        if let Some(of_class) = self.classes.get_mut(class) {
            of_class.by_consumer.insert(consumer.clone(), id);
        }
        id
    }

    /// Forgets the class that was used least recently, one without running calls where there is one.
    fn forget_a_class(&mut self) {
        self.revision += 1;
        let order = |of_class: &Class| (of_class.everybody.outputs.running_calls() > 0, of_class.last_use);
        let oldest = self.classes.iter().min_by_key(|(_, of_class)| order(of_class)).map(|(id, _)| id);
        let Some(of_class) = oldest.and_then(|id| self.classes.remove(id)) else { return };
        self.by_class.remove(&of_class.class);
        // In an order that does not depend on the map's.
        let mut consumers: Vec<Id> = of_class.by_consumer.into_values().collect();
        consumers.sort_unstable();
        for consumer in consumers {
            self.consumers.remove(consumer);
        }
    }

    /// The same of consumers.
    fn forget_a_consumer(&mut self) {
        self.revision += 1;
        let order = |one: &OneConsumer| (one.learned.outputs.running_calls() > 0, one.last_use);
        let oldest = self.consumers.iter().min_by_key(|(_, one)| order(one)).map(|(id, _)| id);
        let Some(one) = oldest.and_then(|id| self.consumers.remove(id)) else { return };
        if let Some(of_class) = self.classes.get_mut(one.class) {
            of_class.by_consumer.remove(&one.consumer);
        }
    }

    /// Changes with everything that becomes known: while it stays, so does what is [likely](Estimates::likely).
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What a call likely uses: 0.9 of such calls use less, and the mean is no higher. `most` is what it can
    /// use by [`bound`].
    pub fn likely(&self, key: EstimateKey, size: Option<&CallSize>, most: TokenAmounts) -> Likely {
        let at_most = TokenUsage { input: most.input, output: most.output, ..TokenUsage::default() };
        let unknown = Likely { usage: at_most, known: false };
        let Some(everybody) = self.everybody(key).filter(|known| known.outputs.ended_calls() >= ENOUGH)
        else {
            return unknown;
        };
        // Who is forgotten is like everybody.
        let own = self.own(key).unwrap_or(everybody);
        let input = own.input(everybody, size, most.input);
        if !input.known {
            return unknown;
        }
        let output = own.outputs.expect(&everybody.outputs, TOKENS, 0, most.output).amount();
        let cached = own.cached(everybody, input.tokens);
        let cache_write = own.cache_write(everybody, input.tokens).min(input.tokens - cached);
        let usage =
            TokenUsage { input: input.tokens, cached, cache_write, output, exact: false, credits: None };
        Likely { usage, known: true }
    }

    /// What is to be held for the rest of a running call's output: what was reserved beyond what came, the mean rest
    /// of calls that have got as far, and at least a tenth of what came; at most up to the `bound`.
    pub fn rest(&self, call: &RunningCall, reserved: u64, bound: u64) -> u64 {
        let produced = call.produced;
        let tenth = produced / 10;
        if produced >= bound {
            // It cannot be: the bound was wrong.
            return tenth;
        }
        let mean_rest = match (self.everybody(call.key), self.own(call.key)) {
            (Some(everybody), own) if everybody.outputs.ended_calls() >= ENOUGH => {
                own.unwrap_or(everybody).outputs.mean_rest(&everybody.outputs, produced, bound)
            }
            _ => 0,
        };
        reserved.saturating_sub(produced).max(tenth).max(mean_rest).min(bound - produced)
    }

    /// The longest that the model usually takes to produce this many tokens: 0.9 of its calls are faster. `None`:
    /// its speed is not known.
    pub fn time_to_produce(&self, key: EstimateKey, output: u64) -> Option<Duration> {
        self.classes.get(key.class)?.speeds.time_to_produce(output)
    }

    /// A call was granted.
    pub fn began(&mut self, key: EstimateKey, now: Time) -> RunningCall {
        self.each(key, |learned| learned.outputs.begin());
        RunningCall { key, began: now, produced: 0 }
    }

    /// A running call has produced this many output tokens until now. Fewer than before changes nothing.
    pub fn produced(&mut self, call: &mut RunningCall, output: u64) {
        let (from, to) = (TOKENS.bin(call.produced), TOKENS.bin(output));
        if output > call.produced {
            call.produced = output;
            if from != to {
                self.each(call.key, |learned| learned.outputs.advance(from, to));
            }
        }
    }

    /// The end of a call was seen. Without `usage` (it was rejected, never sent, or tells nothing) nothing is learned.
    pub fn ended(
        &mut self,
        call: RunningCall,
        size: Option<&CallSize>,
        usage: Option<&TokenUsage>,
        now: Time,
    ) {
        let bin = TOKENS.bin(call.produced);
        self.each(call.key, |learned| {
            learned.outputs.leave(bin);
            if let Some(usage) = usage {
                learned.learn(size, usage);
            }
        });
        if let (Some(usage), Some(class)) = (usage, self.classes.get_mut(call.key.class)) {
            class.speeds.learn(usage.output, now.since(call.began));
        }
    }

    /// A call was lost: its client or its pod is gone, and nobody will say what it uses. It is longer than what it
    /// has produced.
    pub fn lost(&mut self, call: RunningCall) {
        let bin = TOKENS.bin(call.produced);
        self.each(call.key, |learned| {
            learned.outputs.leave(bin);
            learned.outputs.lose(bin);
        });
    }

    fn everybody(&self, key: EstimateKey) -> Option<&Learned> {
        self.classes.get(key.class).map(|class| &class.everybody)
    }

    fn own(&self, key: EstimateKey) -> Option<&Learned> {
        self.consumers.get(key.consumer).map(|one| &one.learned)
    }

    /// Changes what is learned of everybody and of the consumer, as far as they are not forgotten.
    fn each(&mut self, key: EstimateKey, mut change: impl FnMut(&mut Learned)) {
        self.revision += 1;
        if let Some(class) = self.classes.get_mut(key.class) {
            change(&mut class.everybody);
        }
        if let Some(one) = self.consumers.get_mut(key.consumer) {
            change(&mut one.learned);
        }
    }
}
