//! What calls draw of an account's limits: when they are decided, and while their answers are produced.

use std::collections::{BTreeMap, HashMap};

use super::{Account, Call, Decision};
use crate::amounts::{AmountSummary, Amounts};
use crate::counting::{Counter, Limit, LimitState};
use crate::log::Verdict;
use crate::tokens::{Unit, Usage, Wanted};

/// One limit's count, of one model where it is per model.
#[derive(Debug)]
pub(super) struct Partition {
    counter: Counter,
    amounts: Amounts,
}

impl Partition {
    fn new(limit: &Limit) -> Self {
        Self { counter: Counter::new(limit), amounts: Amounts::default() }
    }

    fn draw(&mut self, limit: &Limit, now: u64, amount: u64) {
        self.counter.add(now, amount);
        if limit.unit != Unit::Requests {
            self.amounts.charged(limit, now, amount);
            self.amounts.counts(limit, self.counter.state(now).used);
        }
    }

    fn refund(&mut self, limit: &Limit, now: u64, charged_at: u64, amount: u64) {
        self.counter.refund(now, charged_at, amount);
        self.amounts.refunded(limit, charged_at, amount);
    }

    /// Draws or gives back, so that what was drawn until now is `due`.
    fn correct(&mut self, limit: &Limit, now: u64, charged_at: u64, drawn: u64, due: u64) {
        if due > drawn {
            self.draw(limit, now, due - drawn);
        } else if due < drawn {
            self.refund(limit, now, charged_at, drawn - due);
        }
    }
}

/// A call whose answer is being produced.
#[derive(Debug)]
pub(super) struct Production {
    wanted: Wanted,
    usage: Usage,
    model: Option<String>,
    endpoint: Option<&'static str>,
    charged_at: u64,
    output: u64,
    // By the names of limits.
    drawn: BTreeMap<String, u64>,
}

impl Production {
    fn used(&self) -> Usage {
        Usage { output: self.output, reasoning: self.usage.reasoning.min(self.output), ..self.usage }
    }
}

/// What the limits say to a call.
pub(super) struct Judged {
    /// The first limit that it is over.
    pub exceeded: Option<Limit>,
    /// How much it would have drawn of that.
    pub requested: u64,
    pub states: Vec<(Limit, LimitState)>,
    pub wait: u64,
}

/// Whether a limit counts a call at all.
fn counts(limit: &Limit, model: Option<&str>, endpoint: Option<&str>, wanted: Option<&Wanted>) -> bool {
    limit.matches(model, endpoint) && (wanted.is_some() || !limit.counts_tokens())
}

fn partition_of<'a>(
    limit: &Limit,
    partitions: &'a mut HashMap<Option<String>, Partition>,
    model: Option<&str>,
) -> &'a mut Partition {
    let key = model.filter(|_| limit.per_model).map(str::to_owned);
    partitions.entry(key).or_insert_with(|| Partition::new(limit))
}

impl Account {
    // New limits are filled from the log: a provider that changes a limit keeps what it has counted. What was drawn
    // while an answer was produced counts at the call's arrival then.
    pub(super) fn recount(&mut self) {
        self.partitions = self.settings.limits.iter().map(|_| HashMap::new()).collect();
        self.productions.values_mut().for_each(|production| production.drawn.clear());
        for entry in &self.log {
            let (model, endpoint) = (entry.model.as_deref(), entry.endpoint.as_deref());
            let wanted = entry.tokens.map(|tokens| tokens.wanted());
            let used = entry.tokens.map(|tokens| tokens.used()).unwrap_or_default();
            let over = entry.tokens.is_none_or(|tokens| tokens.over);
            for (limit, partitions) in self.settings.limits.iter().zip(&mut self.partitions) {
                if !counts(limit, model, endpoint, wanted.as_ref()) {
                    continue;
                }
                let partition = partition_of(limit, partitions, model);
                let due = limit.due(wanted.as_ref(), &used, over);
                let rejected_counts =
                    self.settings.rejected_counts && limit.counts_rejected() && entry.exceeded.is_some();
                match entry.verdict {
                    Verdict::Ok => partition.draw(limit, entry.counted_nanos, due),
                    Verdict::Over if rejected_counts => {
                        partition.counter.charge_rejected(entry.counted_nanos, due);
                    }
                    _ => continue,
                }
                if let Some(production) = self.productions.get_mut(&entry.sequence) {
                    production.drawn.insert(limit.name.clone(), due);
                }
            }
        }
    }

    // What is decided already is looked at, not counted.
    pub(super) fn decide(&mut self, now: u64, call: &Call, usage: &Usage, decided: bool) -> Judged {
        let (model, wanted) = (call.model.as_deref(), call.wanted.as_ref());
        let begun = Usage { output: 0, reasoning: 0, ..*usage };
        let mut matched: Vec<(&Limit, &mut Partition, u64)> = self
            .settings
            .limits
            .iter()
            .zip(&mut self.partitions)
            .filter(|(limit, _)| counts(limit, model, call.endpoint, wanted))
            .map(|(limit, partitions)| {
                (limit, partition_of(limit, partitions, model), limit.due(wanted, &begun, false))
            })
            .collect();
        // Where a call draws nothing yet, there must be room all the same.
        let state = |partition: &mut Partition, amount: u64| partition.counter.state_for(now, amount.max(1));
        let exceeded = matched
            .iter_mut()
            .position(|(_, partition, amount)| state(partition, *amount).next_in > 0)
            .filter(|_| !decided);
        let rejected_counts = self.settings.rejected_counts;
        for (place, (limit, partition, amount)) in matched.iter_mut().enumerate().filter(|_| !decided) {
            match exceeded {
                None => partition.draw(limit, now, *amount),
                Some(_) if rejected_counts && limit.counts_rejected() => {
                    partition.counter.charge_rejected(now, *amount)
                }
                Some(_) => (),
            }
            if exceeded == Some(place) {
                partition.amounts.rejected();
            }
        }
        let first = exceeded.and_then(|place| matched.get(place));
        let (exceeded, requested) = (first.map(|first| first.0.clone()), first.map_or(0, |first| first.2));
        let states: Vec<_> = matched
            .into_iter()
            .map(|(limit, partition, amount)| (limit.clone(), state(partition, amount)))
            .collect();
        let wait = states.iter().map(|(_, state)| state.next_in).max().unwrap_or(0);
        Judged { exceeded, requested, states, wait }
    }

    /// An accepted call's answer begins to be produced; false: no limit counts any of it later.
    pub(super) fn begin(&mut self, call: &Call, decision: &Decision, charged_at: u64) -> bool {
        let Some(wanted) = call.wanted.filter(|_| self.settings.limits.iter().any(Limit::counts_later))
        else {
            return false;
        };
        let mut production = Production {
            wanted,
            usage: decision.usage,
            model: call.model.clone(),
            endpoint: call.endpoint,
            charged_at,
            output: 0,
            drawn: BTreeMap::new(),
        };
        let used = production.used();
        for (limit, _) in &decision.states {
            production.drawn.insert(limit.name.clone(), limit.due(Some(&wanted), &used, false));
        }
        self.productions.insert(decision.sequence(), production);
        true
    }

    pub(super) fn produced(&mut self, sequence: u64, output: u64, over: bool, now: u64) {
        let now = now.max(self.newest);
        let Some(production) = self.productions.get_mut(&sequence) else { return };
        self.newest = now;
        production.output = production.output.max(output.min(production.usage.output));
        let (used, model) = (production.used(), production.model.as_deref());
        for (limit, partitions) in self.settings.limits.iter().zip(&mut self.partitions) {
            let wanted = Some(&production.wanted);
            if !limit.counts_later() || !counts(limit, model, production.endpoint, wanted) {
                continue;
            }
            let due = limit.due(wanted, &used, over);
            let drawn = production.drawn.entry(limit.name.clone()).or_default();
            let before = std::mem::replace(drawn, due);
            let partition = partition_of(limit, partitions, model);
            partition.correct(limit, now, production.charged_at, before, due);
        }
        let place = self.log.binary_search_by_key(&sequence, |entry| entry.sequence);
        let entry = place.ok().and_then(|place| self.log.get_mut(place));
        if let Some(tokens) = entry.and_then(|entry| entry.tokens.as_mut()) {
            (tokens.produced, tokens.over) = (production.output, over);
        }
        if over {
            self.productions.remove(&sequence);
        }
    }

    /// The figures of limits of tokens, credits and money.
    pub(super) fn amounts(&self) -> Vec<AmountSummary> {
        let limits = self.settings.limits.iter().zip(&self.partitions);
        let mut summaries = Vec::new();
        for (limit, partitions) in limits.filter(|(limit, _)| limit.unit != Unit::Requests) {
            let mut by_model: Vec<_> = partitions.iter().collect();
            by_model.sort_by_key(|(model, _)| *model);
            let summary =
                |(model, one): (&Option<String>, &Partition)| one.amounts.summary(limit, model.as_deref());
            summaries.extend(by_model.into_iter().map(summary));
        }
        summaries
    }
}
