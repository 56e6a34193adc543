//! The engine of one account: what it holds, and the order in which an event is worked off.
//!
//! | room | holds |
//! |---|---|
//! | `call_table` | the calls that are not over |
//! | `calls` | asks, refusals, and what ends a call |
//! | `reports` | what became of grants: written, answered, over |
//! | `rejections` | what rejections do to the calls that follow |
//! | `claims` | long waits that one workload has reported |
//! | `stops` | credentials, and accounts, that the provider refuses until a person acts |
//! | `holds` | waiting calls that a pause of their workload or credential holds |
//! | `hang_ups` | clients that hang up while their calls wait |
//! | `dispatch` | who is granted next, and when to look again |
//! | `budgets` | calls that a budget has no room for |
//! | `lanes` | which limits and pauses cover a call, and their counters |
//! | `counter` | the count of one limit, whatever it counts |
//! | `charge` | what a grant charges to each limit |
//! | `estimate_ratios` | how good estimates of tokens are |
//! | `forecast` | how long a call would wait |
//! | `settling` | charges that the provider may still change after the call has arrived |
//! | `figures` | figures that one workload alone has heard |
//! | `tellings` | how often proxies are told of pauses |
//! | `token_costs` | what is known of a call's tokens when it comes |
//! | `wait_times` | how long calls have waited |
//! | `workload_usage` | who uses up the quota, by model |
//! | `observe` | what response headers change |
//! | `outlook` | how one more call of a workload would fare |
//! | `periods` | days, weeks and months that begin |
//! | `checkpoints` | what of long windows is stored beside the ledger |
//! | `configure` | a changed quota or profile |
//! | `ledger` | snapshots, and the reserve that is charged ahead of them |
//! | `durability` | how far ahead of the ledger grants may run, and when to write it |
//! | `recovery` | what is not known yet of the time before a restart |
//! | `restore` | restart and takeover |
//! | `resume` | reconnected proxies, and the calls that they hold |
//! | `status` | what people are shown |

mod budgets;
mod call_table;
mod calls;
mod charge;
mod checkpoints;
mod claims;
mod configure;
mod counter;
mod dispatch;
mod durability;
mod estimate_ratios;
mod figures;
mod forecast;
mod hang_ups;
mod holds;
mod lanes;
mod ledger;
mod observe;
mod outlook;
mod periods;
mod recovery;
mod rejections;
mod renamed;
mod reports;
mod restore;
mod resume;
mod settling;
mod status;
mod stops;
mod tellings;
mod token_costs;
mod wait_times;
mod workload_usage;

use std::collections::BTreeMap;

pub use estimate_ratios::{EstimateRatios, RATIO_BOUNDS};
pub use hang_ups::ConsumerHangUps;
pub use lanes::Predecessor;
pub use ledger::{CallSnapshot, PauseSnapshot, Snapshot, UnitPlace};
pub use outlook::{HeldBy, Outlook, Turn, WaitingClass};
pub use status::{AccountStatus, AllocationStatus, ConsumerWait, LimitStatus, PauseStatus};
pub use wait_times::{WAIT_BOUNDS, WaitTimes};
pub use workload_usage::{ModelUsage, WorkloadUsage};

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use crate::alarms::Alarms;
use crate::callers::{Caller, PauseKey};
use crate::clock::is_fresh;
use crate::concurrency_cap::ConcurrencyCap;
use crate::config::AccountConfig;
use crate::cost::{CostsNumbers, NumberedCosts};
use crate::estimate::{Estimates, RunningCall};
use crate::event::{Action, Attempt, CallClass, Event, Fingerprint, Pulse, Scope, SessionId};
use crate::name::Consumer;
use crate::pause::Pause;
use crate::queue::{CallKey, LaneId, Queue, QueuePosition};
use crate::time::Time;
use call_table::CallTable;
use charge::Charge;
use checkpoints::Checkpoints;
use claims::LastWord;
use durability::Durability;
use figures::Figures;
use hang_ups::HangUps;
use holds::OnlyCredential;
use lanes::{CopiedCounter, InitialState, Lanes};
use recovery::Recovery;
use reports::Answer;
use tellings::Tellings;
use token_costs::Estimated;
use workload_usage::UsageByWorkload;

/// The engine of one account. See the crate's documentation for how it is driven.
#[derive(Debug)]
pub struct Engine {
    config: AccountConfig,
    lanes: Lanes,
    queue: Queue,
    calls: CallTable,
    /// When to look at a call again: a waiting one's deadline, or the end of the longest call.
    deadlines: Alarms<CallKey>,
    sessions: HashMap<SessionId, Session>,
    pauses: BTreeMap<PauseKey, Pause>,
    tellings: Tellings,
    last_word: LastWord,
    figures: Figures,
    /// Waiting calls that stand aside because of a pause of their workload or credential, in the order of their turns.
    held: BTreeMap<PauseKey, Vec<CallKey>>,
    /// The only credential that calls have carried so far, if it is one.
    only_credential: OnlyCredential,
    /// How many calls the provider takes at the same time, as far as its rejections show.
    caps: BTreeMap<Scope, ConcurrencyCap>,
    lease: Time,
    durability: Durability,
    checkpoints: Checkpoints,
    recovery: Recovery,
    wake: Option<Time>,
    /// Of the round of grants that is under way, else empty: its memory is used again.
    open_lanes: Vec<LaneId>,
    costs_numbers: CostsNumbers,
    totals: Totals,
    hang_ups: HangUps,
    /// What calls use of tokens.
    estimates: Estimates,
    estimate_ratios: EstimateRatios,
    wait_times: WaitTimes,
    usage_by_workload: UsageByWorkload,
}

/// Grants and calls by what became of them, since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Grants made.
    pub granted: u64,
    /// Grants that were not written.
    pub unused: u64,
    /// Calls written later than their bound: the promise did not cover them.
    pub breaches: u64,
    /// Rejections for quota or concurrency.
    pub rejected: u64,
    /// Those of them for concurrency.
    #[serde(default)]
    pub rejected_for_concurrency: u64,
    /// Rejections because the provider is overloaded.
    #[serde(default)]
    pub rejected_for_capacity: u64,
    /// Rejections until a person acts.
    #[serde(default)]
    pub rejected_terminally: u64,
    /// Calls refused.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Session {
    pulse: Option<Pulse>,
    /// Waiting calls that stand aside until the session sends a message again.
    parked: Vec<CallKey>,
    /// How many calls are not over.
    calls: usize,
    /// It has sent a hello to this engine, with its calls.
    returned: bool,
    /// Calls named since the connection began, and the last report of each.
    named: BTreeMap<CallKey, Named>,
    /// It is in the newest snapshot, and that is in the ledger.
    in_snapshot: bool,
    durable: bool,
}

/// What a hello says of a call.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// It asks for a grant, whatever it was granted before.
    Waits,
    /// It holds this grant, or has ended it.
    Holds(u32),
}

#[derive(Debug)]
struct Call {
    wanted: Wanted,
    /// When `deadlines` looks at it.
    alarm: Time,
    state: CallState,
}

/// What of a call stays the same from attempt to attempt.
#[derive(Clone, Debug)]
struct Wanted {
    consumer: Consumer,
    lane: LaneId,
    credential: Fingerprint,
    /// What it draws; what it has drawn, once that is known.
    costs: NumberedCosts,
    /// As whose call its use of tokens is learned; `None`: no limit counts tokens.
    estimate: Option<Estimated>,
    asked: Time,
    deadline: Time,
    /// Attempts that were granted.
    attempts: u32,
}

impl Wanted {
    fn caller(&self) -> Caller<'_> {
        Caller { consumer: &self.consumer, credential: self.credential }
    }
}

#[derive(Debug)]
enum CallState {
    Waiting { position: QueuePosition, parked: bool },
    Granted(Grant),
}

#[derive(Debug)]
struct Grant {
    at: Time,
    charges: Vec<Charge>,
    answered: bool,
    /// Tokens of output that are charged already, apart from what is held.
    told: u64,
    /// The call as far as estimates learn of it.
    running: Option<RunningCall>,
    /// How many turns it had for what was held; `None`: they are right, or corrected.
    turns: Option<u32>,
}

impl Engine {
    /// An engine of an account on which nothing was ever drawn.
    pub fn new(config: AccountConfig, now: Time) -> Engine {
        Engine::beginning(config, InitialState::Fresh, now)
    }

    /// An engine of an account whose past is unknown: what was used of each window before `now` is
    /// taken to be all of it, leaving at the limit's own rate. One call at once asks the provider.
    pub fn after_unknown_past(config: AccountConfig, now: Time) -> Engine {
        Engine::beginning(config, InitialState::UnknownPast { since: now }, now)
    }

    /// An engine of an account that comes into force for the first time: this installation has granted nothing on
    /// it, so it is assumed to be unused. Others may use it, so one call of each limit goes first, and the others
    /// follow when it has been answered or must have been counted; what its answer tells applies before that.
    pub fn newly_in_force(config: AccountConfig, now: Time) -> Engine {
        Engine::beginning(config, InitialState::NewlyInForce, now)
    }

    fn beginning(config: AccountConfig, start: InitialState, now: Time) -> Engine {
        let lanes = Lanes::new(&config, start);
        let mut engine = Engine::with_lanes(config, lanes);
        engine.lanes.make_counters(now);
        engine
    }

    fn with_lanes(config: AccountConfig, lanes: Lanes) -> Engine {
        let durability = Durability::without_ledger(lanes.limits().len());
        let mut engine = Engine {
            config,
            lanes,
            queue: Queue::default(),
            calls: CallTable::default(),
            deadlines: Alarms::default(),
            sessions: HashMap::default(),
            pauses: BTreeMap::new(),
            tellings: Tellings::default(),
            last_word: LastWord::default(),
            figures: Figures::default(),
            held: BTreeMap::new(),
            only_credential: OnlyCredential::default(),
            caps: BTreeMap::new(),
            lease: Time::NEVER,
            durability,
            checkpoints: Checkpoints::default(),
            recovery: Recovery::default(),
            wake: None,
            open_lanes: Vec::new(),
            costs_numbers: CostsNumbers::default(),
            totals: Totals::default(),
            hang_ups: HangUps::default(),
            estimates: Estimates::default(),
            estimate_ratios: EstimateRatios::default(),
            wait_times: WaitTimes::default(),
            usage_by_workload: UsageByWorkload::default(),
        };
        engine.share_as_configured();
        engine
    }

    /// Takes in what happened and appends what is to be done. `now` never goes back, and is read
    /// after what happened was received.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        let may_open = match event {
            Event::Heartbeat { session, pulse } => self.heartbeat(session, pulse),
            Event::Ask(ask) => self.ask(now, ask, actions),
            Event::Wake => false,
            Event::Learned(config) => {
                self.durability.past_learned();
                return self.configure(now, config, actions);
            }
            event => {
                self.take_in(now, event, actions);
                true
            }
        };
        if may_open || self.is_due(now) {
            self.ring_alarms(now, actions);
            self.dispatch(now, actions);
        } else {
            // That of a call that has come may be the earliest.
            let deadline = self.deadlines.first().map(|(at, _)| at);
            self.wake = self.wake.into_iter().chain(deadline).min();
        }
    }

    /// Whether a waiting call may be granted, or refused, for no other reason than that time has passed.
    fn is_due(&self, now: Time) -> bool {
        self.wake.is_some_and(|wake| wake <= now) || !self.pauses.is_empty()
    }

    /// What happened, where it may let any call through.
    fn take_in(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Heartbeat { .. } | Event::Ask(_) | Event::Wake | Event::Learned(_) => {}
            Event::Cancel { session, call } => self.cancel(now, CallKey { session, call }),
            Event::Unused { attempt, again } => self.unused(now, attempt, again, actions),
            Event::Sent { attempt, latest } => self.sent(now, attempt, latest),
            Event::FirstByte { attempt, latest, observations } => {
                self.first_byte(now, Answer { attempt, latest, observations: &observations }, actions);
            }
            Event::Rejected { attempt, latest, observations, rejection, again } => {
                let answer = Answer { attempt, latest, observations: &observations };
                self.rejected(now, answer, rejection, again, actions);
            }
            Event::Settled { attempt, usage } => self.settled(now, attempt, usage),
            Event::Produced { attempt, output } => self.produced(now, attempt, output),
            Event::Done { attempt, end, usage } => {
                self.settle_tokens(now, attempt, end, usage);
                self.done(now, attempt, actions);
            }
            Event::Disconnected(session) => self.disconnected(session),
            Event::PodDeleted(session) => self.pod_deleted(now, session),
            Event::Pause { scope, length } => self.pause_by_hand(now, scope, length, actions),
            Event::Resume(scope) => self.resume_by_hand(now, &scope, actions),
            Event::Configure(config) => self.configure(now, config, actions),
            Event::UseStated(stated) => self.use_stated(now, &stated, actions),
            Event::PeriodBegun(period) => self.period_begun(now, period, actions),
            Event::Lease(until) => self.lease = until,
            Event::Committed(reserve) => self.committed(&reserve),
            Event::CheckpointRead(read) => self.checkpoint_read(now, read),
            Event::Checkpointed => self.checkpoint_stored(),
            Event::CheckpointFailed => self.checkpoint_failed(),
            Event::ResumeGrant(grant) => self.resume_grant(now, &grant, actions),
            Event::ResumeDone(session) => self.resume_done(now, session),
            Event::PredecessorNamed => self.predecessor_named(now),
        }
    }

    /// When to call [`Engine::handle`] with [`Event::Wake`], if nothing else happens before.
    pub fn next_wake(&self) -> Option<Time> {
        self.wake
    }

    /// The configuration in force.
    pub fn config(&self) -> &AccountConfig {
        &self.config
    }

    /// How many kinds of calls it keeps apart, by endpoint, model and allocation: bounded, whatever calls name.
    pub fn classes(&self) -> usize {
        self.lanes.classes()
    }

    /// What has been counted since the engine began.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What decides which limits count the call of an attempt that is granted and not over, as it is counted.
    pub fn class_of(&self, attempt: Attempt) -> Option<&CallClass> {
        let call = self.calls.get(&attempt.key())?;
        let granted = matches!(call.state, CallState::Granted(_)) && call.wanted.attempts == attempt.number;
        granted.then(|| self.lanes.class_of(call.wanted.lane))
    }

    /// A sign of life; returns whether calls stood aside for want of one.
    fn heartbeat(&mut self, session: SessionId, pulse: Pulse) -> bool {
        let entry = self.sessions.entry(session).or_default();
        entry.pulse = Some(pulse);
        let parked = !entry.parked.is_empty();
        if parked {
            self.unpark(session);
        }
        parked
    }

    /// Lets the calls of a session that stood aside stand where they stood.
    fn unpark(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        for key in std::mem::take(&mut entry.parked) {
            if let Some(Call { state: CallState::Waiting { position, parked }, .. }) =
                self.calls.get_mut(&key)
                && std::mem::replace(parked, false)
            {
                self.queue.put(*position, key);
            }
        }
    }

    /// The pulse on which a grant may rest now.
    fn fresh_pulse(&self, now: Time, session: SessionId) -> Option<Pulse> {
        let session = self.sessions.get(&session)?;
        if self.durability.has_ledger() && !session.durable {
            return None;
        }
        session.pulse.filter(|pulse| is_fresh(now, *pulse, self.config.validity))
    }

    /// The calls of a session that are not over.
    fn calls_of(&self, session: SessionId) -> impl Iterator<Item = (CallKey, &Call)> {
        self.calls.of_session(session)
    }

    fn weight_of(&self, consumer: &str) -> u32 {
        self.config.weights.get(consumer).copied().unwrap_or(1)
    }

    /// The lane of calls of this class.
    fn lane_of(&mut self, class: &CallClass, now: Time) -> LaneId {
        let lane = self.lanes.lane_of(class, now);
        self.share_copied();
        lane
    }

    /// A counter that began as a copy of another holds units of calls under way: what becomes of them
    /// has to be known there too.
    fn share_copied(&mut self) {
        let copied_counters = self.lanes.take_copied_counters();
        if copied_counters.is_empty() {
            return;
        }
        for call in self.calls.values_mut() {
            let CallState::Granted(grant) = &mut call.state else {
                continue;
            };
            for CopiedCounter { original, copy } in &copied_counters {
                let charge = grant.charges.iter().find(|charge| charge.counter == *original).copied();
                grant.charges.extend(charge.map(|charge| Charge { counter: *copy, ..charge }));
            }
        }
    }

    fn grant_of(&mut self, attempt: Attempt) -> Option<&mut Grant> {
        let call = self.calls.get_mut(&attempt.key())?;
        match &mut call.state {
            CallState::Granted(grant) if call.wanted.attempts == attempt.number => Some(grant),
            _ => None,
        }
    }
}
