//! The book: each account's rules, counts, forced answers and log, and the one decision about each request.
//!
//! Without IO and without a clock: a request comes with its arrival. All limits that match are looked at and charged in
//! one step, so that whoever holds the book decides atomically.

mod draws;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::counting::{Limit, LimitState, NANOS_PER_MILLI};
use crate::dialect::Dialect;
use crate::force::{Force, ForcedAnswer, Forces};
use crate::log::{Ended, Entry, Protocol, TokenEntry, Verdict};
use crate::rules::{AfterHangUp, RuleBook, Rules, Settings};
use crate::summary::{Summary, summarize};
use crate::tokens::{Usage, Wanted};
use draws::{Partition, Production};

/// What is known of a request when it is decided.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub arrival: u64,
    pub dialect: Dialect,
    pub account: Option<String>,
    pub method: String,
    pub path: String,
    pub model: Option<String>,
    pub endpoint: Option<&'static str>,
    pub protocol: Protocol,
    pub connection: u64,
    /// Whether the API can't answer it (no such path, unreadable body).
    pub invalid: bool,
    /// What it says of its tokens; absent where it costs none.
    pub wanted: Option<Wanted>,
}

/// The decision, with what the answer's head needs.
#[derive(Debug)]
pub(crate) struct Decision {
    pub ticket: Ticket,
    pub verdict: Verdict,
    /// The limits that matched, as they stand after this request.
    pub states: Vec<(Limit, LimitState)>,
    /// The first limit that it was over.
    pub exceeded: Option<Limit>,
    /// As many calls as may be were under way.
    pub crowded: bool,
    /// Calls of the account under way, this one included if it was accepted.
    pub under_way: u64,
    /// Nanoseconds until all limits would let one more call pass.
    pub wait: u64,
    pub forced: Option<ForcedAnswer>,
    /// The provider that the credential belongs to, when it isn't this one.
    pub belongs_to: Option<Dialect>,
    pub answer_nanos: u64,
    pub stream_nanos: u64,
    /// How much of the first limit that it was over it would have drawn.
    pub requested: u64,
    /// What it uses, if it is answered.
    pub usage: Usage,
    pub tokens_per_chunk: u64,
    /// What it uses is counted while it is answered.
    pub produces: bool,
    pub after_hang_up: AfterHangUp,
}

impl Decision {
    fn ok(ticket: Ticket) -> Decision {
        Decision {
            ticket,
            verdict: Verdict::Ok,
            states: Vec::new(),
            exceeded: None,
            crowded: false,
            under_way: 0,
            wait: 0,
            forced: None,
            belongs_to: None,
            answer_nanos: 0,
            stream_nanos: 0,
            requested: 0,
            usage: Usage::default(),
            tokens_per_chunk: 1,
            produces: false,
            after_hang_up: AfterHangUp::default(),
        }
    }

    /// Takes in what the account's rules say of every answer.
    fn by_settings(&mut self, settings: &Settings, call: &Call) {
        self.answer_nanos = settings.answer_millis * NANOS_PER_MILLI;
        self.stream_nanos = settings.stream_millis * NANOS_PER_MILLI;
        self.tokens_per_chunk = settings.tokens_per_chunk;
        self.after_hang_up = settings.after_hang_up;
        if let Some(wanted) = &call.wanted {
            self.usage = wanted.usage(settings.output_tokens, self.ticket.sequence);
        }
    }

    /// The request's number.
    pub(crate) fn sequence(&self) -> u64 {
        self.ticket.sequence
    }
}

/// Finds an entry again.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    account: Option<String>,
    sequence: u64,
}

#[derive(Debug)]
pub(crate) struct Book {
    rules: RuleBook,
    accounts: BTreeMap<String, Account>,
    strangers: Vec<Entry>,
    forces: Forces,
    down_until: u64,
    sequence: u64,
}

#[derive(Debug)]
struct Account {
    dialect: Dialect,
    settings: Settings,
    // One map for each limit; the key is the model where the limit is per model.
    partitions: Vec<HashMap<Option<String>, Partition>>,
    // Accepted calls whose answers are being produced, by their numbers.
    productions: BTreeMap<u64, Production>,
    newest: u64,
    log: Vec<Entry>,
    // The accepted calls whose answers are not over, by their numbers.
    under_way: BTreeSet<u64>,
}

impl Account {
    fn new(dialect: Dialect, settings: Settings) -> Self {
        let mut account = Self {
            dialect,
            settings,
            partitions: Vec::new(),
            productions: BTreeMap::new(),
            newest: 0,
            log: Vec::new(),
            under_way: BTreeSet::new(),
        };
        account.recount();
        account
    }

    fn is_crowded(&self) -> bool {
        self.settings.most_under_way.is_some_and(|most| self.under_way.len() as u64 >= most)
    }
}

impl Book {
    pub(crate) fn new(rules: RuleBook) -> Self {
        Self {
            rules,
            accounts: BTreeMap::new(),
            strangers: Vec::new(),
            forces: Forces::default(),
            down_until: 0,
            sequence: 0,
        }
    }

    /// Decides about a request, counts it and writes it down. `now` is the present, `call.arrival` is not after it.
    pub(crate) fn admit(&mut self, call: Call, now: u64) -> Decision {
        self.sequence += 1;
        let ticket = Ticket { account: call.account.clone(), sequence: self.sequence };
        let mut decision = Decision::ok(ticket);
        let down = now < self.down_until;
        let mut counted = call.arrival;
        let Some(name) = call.account.clone() else {
            decision.verdict = if down { Verdict::Down } else { Verdict::Unauthorized };
            self.strangers.push(entry(&call, &decision, counted));
            return decision;
        };
        // A path that no API has says nothing of whose the credential is.
        let account = match self.accounts.get_mut(&name) {
            Some(account) => account,
            None if call.invalid => {
                decision.verdict = if down { Verdict::Down } else { Verdict::Invalid };
                decision.ticket.account = None;
                self.strangers.push(entry(&call, &decision, counted));
                return decision;
            }
            None => {
                let settings = self.rules.settings(call.dialect, &name);
                self.accounts.entry(name.clone()).or_insert_with(|| Account::new(call.dialect, settings))
            }
        };
        decision.by_settings(&account.settings, &call);
        decision.verdict = if down {
            Verdict::Down
        } else if account.dialect != call.dialect {
            decision.belongs_to = Some(account.dialect);
            Verdict::Unauthorized
        } else if call.invalid {
            Verdict::Invalid
        } else {
            decision.forced = self.forces.take(&name, call.model.as_deref(), now);
            let forced = decision.forced.is_some();
            decision.crowded = !forced && account.is_crowded();
            counted = counted.max(account.newest);
            account.newest = counted;
            let decided = forced || decision.crowded;
            let judged = account.decide(counted, &call, &decision.usage, decided);
            (decision.states, decision.wait) = (judged.states, judged.wait);
            (decision.exceeded, decision.requested) = (judged.exceeded, judged.requested);
            match (forced, &decision.exceeded) {
                (true, _) => Verdict::Forced,
                (false, Some(_)) => Verdict::Over,
                (false, None) if decision.crowded => Verdict::Over,
                (false, None) => Verdict::Ok,
            }
        };
        if decision.verdict == Verdict::Ok {
            account.under_way.insert(decision.ticket.sequence);
            decision.produces = account.begin(&call, &decision, counted);
        }
        decision.under_way = account.under_way.len() as u64;
        account.log.push(entry(&call, &decision, counted));
        decision
    }

    /// So much output of an answer has been produced until now; `over`: it is all that will be.
    pub(crate) fn produced(&mut self, ticket: &Ticket, output: u64, over: bool, now: u64) {
        let account = ticket.account.as_ref().and_then(|name| self.accounts.get_mut(name));
        if let Some(account) = account {
            account.produced(ticket.sequence, output, over, now);
        }
    }

    /// Writes down the status that a request was answered with.
    pub(crate) fn answered(&mut self, ticket: &Ticket, status: u16) {
        if let Some(entry) = self.entry_mut(ticket) {
            entry.status = Some(status);
        }
    }

    /// Writes down how an answer ended. `now` tells a hang-up from the provider's own fall.
    pub(crate) fn ended(&mut self, ticket: &Ticket, bytes_out: u64, finished: bool, now: u64) {
        let down = now < self.down_until;
        let account = ticket.account.as_ref().and_then(|name| self.accounts.get_mut(name));
        if let Some(account) = account {
            account.under_way.remove(&ticket.sequence);
        }
        if let Some(entry) = self.entry_mut(ticket) {
            entry.bytes_out = bytes_out;
            entry.ended = match (finished, down) {
                (true, _) => Ended::Finished,
                (false, true) => Ended::CutOff,
                (false, false) => Ended::HungUp,
            };
        }
    }

    // None after a reset.
    fn entry_mut(&mut self, ticket: &Ticket) -> Option<&mut Entry> {
        let log = match &ticket.account {
            Some(name) => &mut self.accounts.get_mut(name)?.log,
            None => &mut self.strangers,
        };
        let index = log.binary_search_by_key(&ticket.sequence, |entry| entry.sequence).ok()?;
        log.get_mut(index)
    }

    pub(crate) fn set_rules(&mut self, name: &str, rules: Rules) {
        self.rules.set_account(name, rules);
        if let Some(account) = self.accounts.get_mut(name) {
            let settings = self.rules.settings(account.dialect, name);
            let recount = settings.limits != account.settings.limits
                || settings.rejected_counts != account.settings.rejected_counts;
            account.settings = settings;
            if recount {
                account.recount();
            }
        }
    }

    pub(crate) fn force(&mut self, force: Force, now: u64) {
        self.forces.add(force, now);
    }

    pub(crate) fn down(&mut self, until: u64) {
        self.down_until = until;
    }

    /// Forgets an account's log, counts and forced answers, or everybody's; the rules stay.
    pub(crate) fn reset(&mut self, name: Option<&str>) {
        self.forces.reset(name);
        match name {
            Some(name) => {
                self.accounts.remove(name);
                self.strangers.retain(|entry| entry.account.as_deref() != Some(name));
            }
            None => {
                self.accounts.clear();
                self.strangers.clear();
            }
        }
    }

    /// Every account that has called, with its provider and how many requests came.
    pub(crate) fn accounts(&self) -> Vec<(String, Dialect, u64)> {
        let row =
            |(name, account): (&String, &Account)| (name.clone(), account.dialect, account.log.len() as u64);
        self.accounts.iter().map(row).collect()
    }

    /// The entries of one account, or of all, in the order of the decisions.
    pub(crate) fn log(&self, name: Option<&str>) -> Vec<Entry> {
        match name {
            Some(name) => self.accounts.get(name).map(|account| account.log.clone()).unwrap_or_default(),
            None => {
                let logs = self.accounts.values().map(|account| &account.log).chain([&self.strangers]);
                let mut all: Vec<Entry> = logs.flatten().cloned().collect();
                all.sort_by_key(|entry| entry.sequence);
                all
            }
        }
    }

    /// Sums up one account; an account that has not called yet has an empty summary.
    pub(crate) fn summary(&self, name: &str) -> Summary {
        match self.accounts.get(name) {
            Some(account) => Summary {
                amounts: account.amounts(),
                ..summarize(name, Some(account.dialect), &account.settings.limits, &account.log)
            },
            None => summarize(name, None, &[], &[]),
        }
    }
}

fn entry(call: &Call, decision: &Decision, counted_nanos: u64) -> Entry {
    Entry {
        sequence: decision.ticket.sequence,
        arrival_nanos: call.arrival,
        counted_nanos,
        account: call.account.clone(),
        provider: call.dialect,
        method: call.method.clone(),
        path: call.path.clone(),
        model: call.model.clone(),
        endpoint: call.endpoint.map(str::to_owned),
        protocol: call.protocol,
        connection: call.connection,
        status: None,
        verdict: decision.verdict,
        exceeded: decision.exceeded.as_ref().map(|limit| limit.name.clone()),
        under_way: decision.under_way,
        counts: decision.states.iter().map(|(limit, state)| (limit.name.clone(), state.used)).collect(),
        bytes_out: 0,
        ended: Ended::Running,
        tokens: call.wanted.map(|wanted| TokenEntry::new(wanted, decision.usage)),
    }
}

#[cfg(test)]
mod tests;
