//! The engine of one account: what it holds, and the order in which an event is worked off.
//!
//! | room | holds |
//! |---|---|
//! | `calls` | asks, refusals, and what ends a call |
//! | `reports` | what became of grants: written, answered, rejected |
//! | `dispatch` | who is granted next, and when to look again |
//! | `lanes` | which limits and pauses cover a call, and their counters |
//! | `forecast` | how long a call would wait |
//! | `observe` | what response headers change |
//! | `configure` | a changed quota or profile |
//! | `ledger` | snapshots, and how far ahead of them grants may run |
//! | `restore` | restart, takeover, reconnected proxies |
//! | `status` | what people are shown |

mod calls;
mod configure;
mod dispatch;
mod forecast;
mod lanes;
mod ledger;
mod observe;
mod reports;
mod restore;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use ledger::{CallSnapshot, PauseSnapshot, Snapshot};
pub use status::{ConsumerWait, LimitStatus, PauseStatus, Status};

use crate::alarms::Alarms;
use crate::clock::is_fresh;
use crate::config::AccountConfig;
use crate::event::{Action, Attempt, CallClass, CallId, Event, Pulse, Scope, SessionId};
use crate::pause::Pause;
use crate::queue::{CallKey, LaneId, Place, Queue};
use crate::time::Time;
use crate::units::UnitKey;
use lanes::{CounterId, Lanes};

/// The engine of one account. See the crate's documentation for how it is driven.
#[derive(Debug)]
pub struct Engine {
    config: AccountConfig,
    lanes: Lanes,
    queue: Queue,
    calls: BTreeMap<CallKey, Call>,
    /// When to look at a call again: a waiting one's deadline, or the end of the longest call.
    deadlines: Alarms<CallKey>,
    sessions: BTreeMap<SessionId, Session>,
    pauses: BTreeMap<Scope, Pause>,
    lease: Time,
    /// What the ledger has charged ahead; without one, grants need none.
    ahead: Option<Precharge>,
    granted_since_snapshot: u64,
    /// A call or a session that the newest snapshot has is over.
    over_since_snapshot: bool,
    /// An answer has told something of the past that no snapshot has yet.
    learned_since_snapshot: bool,
    /// Sessions of the time before a restart that have not yet said what they hold.
    awaited: BTreeSet<SessionId>,
    /// How many calls they may have been granted from the reserve; zero where no limit has slots.
    unheard: u64,
    /// The same as of the newest snapshot, whose reserve is for these too.
    unheard_in_snapshot: u64,
    /// One of them has died before it did: what it was granted from the reserve nobody will say.
    died_unheard: bool,
    /// The commit that this engine was restarted from: what was granted before is in it.
    restored: Option<Time>,
    wake: Option<Time>,
    /// In the last round of grants room was kept for a call of an unknown model.
    kept_room: bool,
    totals: Totals,
}

/// Calls that were counted in another way than the rule's bounds say, and other totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Grants made.
    pub granted: u64,
    /// Grants that were not written.
    pub unused: u64,
    /// Calls written later than their bound: the promise did not cover them.
    pub breaches: u64,
    /// Rejections for quota or concurrency.
    pub rejected: u64,
    /// Calls refused.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Precharge {
    left: u64,
    /// Half of the way to the horizon: time for the next commit.
    renew: Time,
    horizon: Time,
}

#[derive(Debug, Default)]
struct Session {
    pulse: Option<Pulse>,
    /// Waiting calls that stand aside until the session is heard again.
    parked: Vec<CallKey>,
    /// How many calls are not over.
    calls: usize,
    /// It has said hello to this engine, and named its calls.
    returned: bool,
    /// Calls named since the connection began, and the last that was said of each.
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
    consumer: Arc<str>,
    lane: LaneId,
    asked: Time,
    deadline: Time,
    /// Attempts that were granted.
    attempts: u32,
}

#[derive(Debug)]
enum CallState {
    Waiting { place: Place, parked: bool },
    Granted(Grant),
}

#[derive(Debug)]
struct Grant {
    at: Time,
    units: Vec<Charge>,
    answered: bool,
}

/// What a grant charged to one limit.
#[derive(Clone, Copy, Debug)]
struct Charge {
    counter: CounterId,
    unit: UnitKey,
    /// Units in the log and charges so far, just after this one: what the provider can have
    /// counted of ours when it answers is at most the one plus what the other has grown by.
    logged: u64,
    charged: u64,
}

impl Engine {
    /// An engine of an account on which nothing was ever drawn.
    pub fn new(config: AccountConfig, now: Time) -> Engine {
        Engine::with_lanes(config.clone(), Lanes::new(&config, lanes::InitialState::Fresh, now))
    }

    /// An engine of an account whose past is unknown: what was used of each window before `now` is
    /// taken to be all of it, leaving at the limit's own rate. One call at once asks the provider.
    pub fn after_unknown_past(config: AccountConfig, now: Time) -> Engine {
        let start = lanes::InitialState::UnknownPast { since: now };
        Engine::with_lanes(config.clone(), Lanes::new(&config, start, now))
    }

    fn with_lanes(config: AccountConfig, lanes: Lanes) -> Engine {
        Engine {
            config,
            lanes,
            queue: Queue::default(),
            calls: BTreeMap::new(),
            deadlines: Alarms::default(),
            sessions: BTreeMap::new(),
            pauses: BTreeMap::new(),
            lease: Time::NEVER,
            ahead: None,
            granted_since_snapshot: 0,
            over_since_snapshot: false,
            learned_since_snapshot: false,
            awaited: BTreeSet::new(),
            unheard: 0,
            unheard_in_snapshot: 0,
            died_unheard: false,
            restored: None,
            wake: None,
            kept_room: false,
            totals: Totals::default(),
        }
    }

    /// Takes in what happened and appends what is to be done. `now` never goes back, and is read
    /// after what happened was received.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Heartbeat { session, pulse } => {
                let unparked = self.alive(session, pulse);
                // Nobody's turn has come by it: what is waited for is known.
                let early = self.wake.is_none_or(|wake| now < wake);
                if early && !unparked && !self.kept_room && self.pauses.is_empty() {
                    return;
                }
            }
            Event::Ask(ask) => self.ask(now, ask, actions),
            Event::Cancel { session, call } => self.cancel(now, (session, call)),
            Event::Unused { attempt, again } => self.unused(now, attempt, again, actions),
            Event::Sent { attempt, latest } => self.sent(now, attempt, latest),
            Event::FirstByte { attempt, latest, observations } => {
                self.first_byte(now, attempt, latest, &observations, actions);
            }
            Event::Rejected { attempt, latest, observations, rejection, again } => {
                self.rejected(now, attempt, latest, &observations, (rejection, again), actions);
            }
            Event::Done(attempt) => self.done(now, attempt, actions),
            Event::Disconnected(session) => self.disconnected(session),
            Event::PodDeleted(session) => self.gone(now, session),
            Event::Pause { scope, length } => self.pause_by_hand(now, scope, length, actions),
            Event::Resume(scope) => self.resume_by_hand(now, &scope, actions),
            Event::Configure(config) => self.configure(now, config, actions),
            Event::Lease(until) => self.lease = until,
            Event::Committed(reserve) => self.committed(reserve),
            Event::ResumeGrant { attempt, consumer, class, granted, progress } => {
                self.held(now, (attempt, granted), &consumer, class, progress, actions);
            }
            Event::ResumeDone(session) => self.returned(now, session),
            Event::Wake => {}
        }
        self.ring_alarms(now, actions);
        self.dispatch(now, actions);
    }

    /// When to call [`Engine::handle`] with [`Event::Wake`], if nothing else happens before.
    pub fn next_wake(&self) -> Option<Time> {
        self.wake
    }

    /// The configuration in force.
    pub fn config(&self) -> &AccountConfig {
        &self.config
    }

    /// What has been counted since the engine began.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// A sign of life; returns whether calls stood aside for want of one.
    fn alive(&mut self, session: SessionId, pulse: Pulse) -> bool {
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
            if let Some(Call { state: CallState::Waiting { place, parked }, .. }) = self.calls.get_mut(&key)
                && std::mem::replace(parked, false)
            {
                self.queue.put(*place, key);
            }
        }
    }

    /// The pulse on which a grant may rest now.
    fn fresh_pulse(&self, now: Time, session: SessionId) -> Option<Pulse> {
        let session = self.sessions.get(&session)?;
        if self.ahead.is_some() && !session.durable {
            return None;
        }
        session.pulse.filter(|pulse| is_fresh(now, *pulse, self.config.validity))
    }

    /// The calls of a session that are not over.
    fn calls_of(&self, session: SessionId) -> impl Iterator<Item = (CallKey, &Call)> {
        let all = (session, CallId(0))..=(session, CallId(u64::MAX));
        self.calls.range(all).map(|(key, call)| (*key, call))
    }

    fn weight_of(&self, consumer: &str) -> u32 {
        self.config.weights.get(consumer).copied().unwrap_or(1)
    }

    /// The lane of calls of this class.
    fn lane_of(&mut self, class: &CallClass, now: Time) -> LaneId {
        let lane = self.lanes.lane_of(&self.config, class, now);
        self.share_inherited();
        lane
    }

    /// A counter that began as a copy of another holds units of calls under way: what becomes of them
    /// has to be known there too.
    fn share_inherited(&mut self) {
        let copied_counters = self.lanes.take_copied_counters();
        if copied_counters.is_empty() {
            return;
        }
        for call in self.calls.values_mut() {
            let CallState::Granted(grant) = &mut call.state else {
                continue;
            };
            for (copied, copy) in &copied_counters {
                let charge = grant.units.iter().find(|charge| charge.counter == *copied).copied();
                grant.units.extend(charge.map(|charge| Charge { counter: *copy, ..charge }));
            }
        }
    }

    fn grant_of(&mut self, attempt: Attempt) -> Option<&mut Grant> {
        let call = self.calls.get_mut(&(attempt.session, attempt.call))?;
        match &mut call.state {
            CallState::Granted(grant) if call.wanted.attempts == attempt.number => Some(grant),
            _ => None,
        }
    }
}
