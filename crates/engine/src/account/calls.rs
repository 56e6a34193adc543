//! Asks and refusals, and everything that ends a call.

use std::time::Duration;

use super::lanes::TooLarge;
use super::{Call, CallState, Engine, Named, Wanted};
use crate::callers::Caller;
use crate::config::OnExceeded;
use crate::cost::NumberedCosts;
use crate::event::{Action, Ask, RefusalReason, SessionId};
use crate::name::Consumer;
use crate::patience::longest_wait;
use crate::queue::{Arrival, CallKey, LaneId};
use crate::time::Time;
use crate::tokens::CallEnd;

/// The most calls of a session that are not over, whether they wait or hold grants.
const MOST_CALLS: usize = 16_384;
/// When a session with so many calls may ask again.
const BUSY: Duration = Duration::from_secs(1);

/// The answer to a call that is not granted.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) reason: RefusalReason,
    /// When another try makes sense; `None`: not by waiting.
    pub(super) retry_after: Option<Duration>,
    /// The provider's word, where it is the reason, or the figures.
    pub(super) words: Option<String>,
}

/// What is known of a call that asks.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// So far.
    attempts: u32,
    /// Its grant was lost, and what that held is free.
    lost: bool,
}

/// A call that is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused<'a> {
    key: CallKey,
    consumer: &'a Consumer,
    lane: LaneId,
}

impl<'a> Refused<'a> {
    pub(super) fn of(key: CallKey, wanted: &'a Wanted) -> Refused<'a> {
        Refused { key, consumer: &wanted.consumer, lane: wanted.lane }
    }
}

impl From<RefusalReason> for Refusal {
    fn from(reason: RefusalReason) -> Refusal {
        Refusal { reason, retry_after: None, words: None }
    }
}

impl Refusal {
    pub(super) fn too_large(too_large: &TooLarge) -> Refusal {
        Refusal { words: Some(too_large.to_string()), ..Refusal::from(RefusalReason::NeverFits) }
    }

    pub(super) fn until(reason: RefusalReason, retry_after: Duration) -> Refusal {
        Refusal { reason, retry_after: Some(retry_after), words: None }
    }
}

impl Engine {
    /// A call that wants to be granted. Returns whether it, or another, may be granted now: not where it waits behind
    /// others of its lane, and they wait for something else than calls.
    pub(super) fn ask(&mut self, now: Time, ask: Ask, actions: &mut Vec<Action>) -> bool {
        let key = CallKey { session: ask.session, call: ask.call };
        let Some(Known { attempts, lost }) = self.forget_lost_grant(now, key, ask.attempts) else {
            return false;
        };
        self.ask_about_figures(now, Some(&ask.consumer), actions);
        let session = self.sessions.entry(ask.session).or_default();
        if session.calls >= MOST_CALLS {
            self.refuse_too_many(now, key, &ask, actions);
            return lost;
        }
        let returns = !session.returned;
        if returns {
            session.named.insert(key, Named::Waits);
        }
        let lane = self.lane_of(&ask.demand.class, now);
        let (costs, estimate) = self.costs_of(&ask.consumer, &ask.demand);
        let costs = self.costs_numbers.number(costs);
        self.only_credential.seen(ask.credential);
        let waited =
            if returns && self.config.queue.max_absence.is_none() { Duration::ZERO } else { ask.waited };
        let allowed = self.patience(ask.patience, waited);
        if let Some(refusal) = self.refusal_on_arrival(now, lane, &costs, &ask, allowed) {
            self.count_refusal(now, Refused { key, consumer: &ask.consumer, lane }, refusal, actions);
            return lost;
        }
        let wanted = Wanted {
            consumer: ask.consumer,
            lane,
            credential: ask.credential,
            costs,
            estimate,
            asked: now - ask.waited,
            deadline: now + allowed,
            attempts,
        };
        self.insert_waiting(key, wanted, ask.attempts > 0);
        // Where figures are doubted, a call of another workload may have them undone.
        lost || self.figures.are_doubted() || !self.waits_behind_another(now, key, lane)
    }

    /// Whether another call of the lane has its turn before, and is there to take it.
    fn waits_behind_another(&self, now: Time, key: CallKey, lane: LaneId) -> bool {
        let first = self.queue.head(lane).map(|head| head.call);
        first.is_some_and(|first| first != key && self.fresh_pulse(now, first.session).is_some())
    }

    /// The session has as many calls as one may have; proxies bound theirs before.
    fn refuse_too_many(&mut self, now: Time, key: CallKey, ask: &Ask, actions: &mut Vec<Action>) {
        let lane = self.lane_of(&ask.demand.class, now);
        let refusal = Refusal::until(RefusalReason::QueueFull, BUSY);
        self.count_refusal(now, Refused { key, consumer: &ask.consumer, lane }, refusal, actions);
    }

    /// How long a call may wait from now on that has waited in the queue for so long.
    fn patience(&self, client: Option<Duration>, waited: Duration) -> Duration {
        let longest = self.config.queue.max_wait.saturating_sub(waited);
        client.map_or(longest, |client| longest.min(longest_wait(client)))
    }

    /// An ask for a call that holds a grant says that the grant was lost with a connection.
    /// Returns what is known of the call, or `None` if it waits already.
    fn forget_lost_grant(&mut self, now: Time, key: CallKey, attempts: u32) -> Option<Known> {
        let Some(call) = self.calls.get(&key) else {
            return Some(Known { attempts, lost: false });
        };
        if matches!(call.state, CallState::Waiting { .. }) {
            return None;
        }
        let known = call.wanted.attempts;
        let lost = key.attempt(known);
        if attempts < known {
            self.take_back(now, lost);
        } else {
            self.free_slots(now, lost);
        }
        self.end(key);
        Some(Known { attempts: attempts.max(known), lost: true })
    }

    fn refusal_on_arrival(
        &mut self,
        now: Time,
        lane: LaneId,
        costs: &NumberedCosts,
        ask: &Ask,
        allowed: Duration,
    ) -> Option<Refusal> {
        if !self.enforces() {
            return None;
        }
        let caller = Caller { consumer: &ask.consumer, credential: ask.credential };
        if let Some(stopped) = self.stopped(now, lane, caller) {
            return Some(stopped);
        }
        if let Some(too_large) = self.never_fits(lane, costs, now) {
            return Some(Refusal::too_large(&too_large));
        }
        if self.config.queue.max_budget_wait.is_some()
            && let Some(spent) = self.budget_refusal(now, lane, costs, allowed, 0)
        {
            return Some(spent);
        }
        // As if all that wait came before it: mostly that is soon enough, and known without looking.
        let full = self.queue_is_full(lane, &ask.consumer);
        if !full
            && self.config.on_exceeded == OnExceeded::Queue
            && (self.waits_however_long()
                || self.wait_behind(now, (lane, caller), costs, self.lanes.waiting() as u64) <= allowed)
        {
            return None;
        }
        let ahead = self.ahead_of(lane, caller);
        if let Some(spent) = self.budget_refusal(now, lane, costs, allowed, ahead) {
            return Some(spent);
        }
        let wait = self.wait_behind(now, (lane, caller), costs, ahead);
        let reason = if full {
            RefusalReason::QueueFull
        } else if self.config.on_exceeded == OnExceeded::Reject && !wait.is_zero() {
            RefusalReason::QuotaExceeded
        } else if wait > allowed {
            RefusalReason::WaitTooLong
        } else {
            return None;
        };
        Some(Refusal::until(reason, wait))
    }

    pub(super) fn enforces(&self) -> bool {
        self.config.mode == crate::config::Mode::Enforce
    }

    /// Whether a consumer finds no place in the queue. One that has less than its share of the places always does, so
    /// that whoever fills them keeps nobody else out: n consumers have at most 1 + ln n times as many.
    fn queue_is_full(&self, lane: LaneId, consumer: &str) -> bool {
        let places = self.config.queue.max_calls;
        self.lanes.waiting() >= places && self.queue.has_its_share(self.lanes.group(lane), consumer, places)
    }

    /// Puts a call, new or sent back, in the queue.
    pub(super) fn insert_waiting(&mut self, key: CallKey, mut wanted: Wanted, again: bool) {
        let weight = self.weight_of(&wanted.consumer);
        let Wanted { lane, deadline, ref costs, ref consumer, .. } = wanted;
        let turns = self.lanes.turns(lane, costs);
        let group = self.lanes.group(lane);
        let arrival = Arrival { lane, group, consumer, weight, turns, deadline, again };
        let position = self.queue.push(arrival, key);
        self.lanes.call_waits(lane, costs);
        wanted.consumer = self.queue.name_of(position);
        let state = CallState::Waiting { position, parked: false };
        self.insert(key, Call { wanted, alarm: deadline, state });
    }

    pub(super) fn insert(&mut self, key: CallKey, call: Call) {
        let alarm = call.alarm;
        if matches!(call.state, CallState::Granted(_)) {
            self.queue.call_begins(self.lanes.group(call.wanted.lane), &call.wanted.consumer);
        }
        if self.calls.insert(key, call) {
            let session = self.sessions.entry(key.session).or_default();
            session.calls += 1;
            if !session.durable {
                self.durability.session_is_new(key.session);
            }
        }
        self.ring_at(key, alarm);
    }

    fn remove(&mut self, key: CallKey) -> Option<Box<Call>> {
        let mut call = self.calls.remove(&key);
        if let Some(call) = &mut call
            && let CallState::Granted(grant) = &mut call.state
        {
            self.durability.ended();
            if let Some(running) = grant.running.take() {
                self.estimates.lost(running);
            }
            if let Some(turns) = grant.turns.take() {
                self.queue.turns_taken(
                    self.lanes.group(call.wanted.lane),
                    &call.wanted.consumer,
                    turns,
                    turns,
                );
            }
            self.queue.call_ended(self.lanes.group(call.wanted.lane), &call.wanted.consumer);
        }
        let calls = &self.calls;
        self.deadlines.changed(key, |key| calls.get(&key).map(|call| call.alarm));
        call
    }

    /// Looks at a call again at the time of its alarm, which is new.
    pub(super) fn ring_at(&mut self, key: CallKey, at: Time) {
        let calls = &self.calls;
        self.deadlines.set(at, key, calls.len(), |key| calls.get(&key).map(|call| call.alarm));
    }

    /// Takes a waiting call out of the queue, but not off the books.
    pub(super) fn leave_queue(&mut self, key: CallKey) {
        let Some(call) = self.calls.get(&key) else {
            return;
        };
        let CallState::Waiting { position, parked } = call.state else {
            return;
        };
        if !parked {
            self.queue.remove(position);
        }
        self.queue.waits_no_longer(position);
        self.lanes.call_leaves(call.wanted.lane, &call.wanted.costs);
    }

    /// Forgets a call. What it has charged stays charged.
    pub(super) fn end(&mut self, key: CallKey) -> Option<Box<Call>> {
        self.leave_queue(key);
        let call = self.remove(key)?;
        if let Some(session) = self.sessions.get_mut(&key.session) {
            session.calls -= 1;
        }
        Some(call)
    }

    pub(super) fn cancel(&mut self, now: Time, key: CallKey) {
        let Some(call) = self.calls.get(&key) else {
            return;
        };
        if matches!(call.state, CallState::Granted(_)) {
            // The two crossed: a proxy does not write a grant for a call that it has given up.
            self.take_back(now, key.attempt(call.wanted.attempts));
            self.end(key);
        } else if let Some(call) = self.end(key) {
            self.count_hang_up(now, &call.wanted);
        }
    }

    pub(super) fn refuse(&mut self, now: Time, key: CallKey, refusal: Refusal, actions: &mut Vec<Action>) {
        if let Some(call) = self.end(key) {
            self.count_refusal(now, Refused::of(key, &call.wanted), refusal, actions);
        }
    }

    /// Refuses a call that is not, or no longer, among the account's calls.
    pub(super) fn count_refusal(
        &mut self,
        now: Time,
        refused: Refused<'_>,
        refusal: Refusal,
        actions: &mut Vec<Action>,
    ) {
        self.totals.refused += 1;
        let Refused { key, consumer, lane } = refused;
        let model = self.lanes.class_of(lane).model.as_deref();
        self.usage_by_workload.refused(now, consumer, model);
        let (CallKey { session, call }, Refusal { reason, retry_after, words }) = (key, refusal);
        actions.push(Action::Refuse { session, call, reason, retry_after, words });
    }

    /// Refuses calls whose deadline has come, and forgets calls that no proxy ended.
    pub(super) fn ring_alarms(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some((_, key)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            let calls = &self.calls;
            self.deadlines.pop(|key| calls.get(&key).map(|call| call.alarm));
            let Some(call) = self.calls.get(&key) else {
                continue;
            };
            if matches!(call.state, CallState::Granted(_)) {
                self.count_usage(now, key.attempt(call.wanted.attempts), CallEnd::Lost, None);
                self.end(key);
                continue;
            }
            let wanted = call.wanted.clone();
            let wait = self.forecast(now, wanted.lane, &wanted.costs, wanted.caller());
            self.refuse(now, key, Refusal::until(RefusalReason::WaitExceeded, wait), actions);
        }
    }

    /// The connection is lost. Waiting calls are asked again in the next hello; granted ones may
    /// be on their way to the provider.
    pub(super) fn disconnected(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get_mut(&session) else {
            return;
        };
        entry.pulse = None;
        entry.parked.clear();
        entry.named.clear();
        entry.returned = false;
        let waiting = |call: &Call| matches!(call.state, CallState::Waiting { .. });
        let waiting: Vec<CallKey> =
            self.calls_of(session).filter(|(_, call)| waiting(call)).map(|(key, _)| key).collect();
        for key in waiting {
            self.end(key);
        }
    }

    /// The pod is dead: its slots are free. What it may have sent stays charged.
    pub(super) fn pod_deleted(&mut self, now: Time, session: SessionId) {
        self.disconnected(session);
        if self.recovery.session_died(session) {
            self.durability.ended();
        }
        if self.sessions.remove(&session).is_some_and(|known| known.in_snapshot) {
            self.durability.ended();
        }
        let calls: Vec<CallKey> = self.calls_of(session).map(|(key, _)| key).collect();
        for key in calls {
            if let Some(call) = self.calls.get(&key) {
                let attempt = key.attempt(call.wanted.attempts);
                self.count_usage(now, attempt, CallEnd::Lost, None);
                self.free_slots(now, attempt);
            }
            self.remove(key);
        }
        self.calls.forget_session(session);
    }
}
