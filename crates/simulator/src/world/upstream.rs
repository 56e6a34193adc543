//! From a proxy's wire to the provider's count, and back.

use std::time::Duration;

use quotakeeper_engine::event::{CallClass, CallId};
use quotakeeper_engine::tokens::CallEnd;

use super::{Flight, Happening, World};
use crate::clock::Moment;
use crate::provider::Answer;
use crate::scenario::{Delivery, Pace, Workload};

impl World {
    /// The call that a flight belongs to, if it is still that try.
    fn in_flight(&mut self, flight: Flight) -> Option<&mut super::proxies::Call> {
        let proxy = &mut self.proxies[flight.proxy];
        if !proxy.alive {
            return None;
        }
        proxy.calls.get_mut(&flight.call).filter(|call| call.tries == flight.try_number)
    }

    /// Just before the write: is the grant still good?
    pub(super) fn ready(&mut self, flight: Flight) {
        if let Some(later) = self.stands_still(flight.proxy) {
            return self.at(later, Happening::Ready(flight));
        }
        if self.in_flight(flight).is_none() {
            return;
        }
        let stamp = self.stamp(flight.proxy);
        let may_write = self.proxies[flight.proxy].session.may_write(stamp, flight.call);
        self.pump(flight.proxy);
        if !may_write {
            return;
        }
        let now = self.now;
        if let Some(call) = self.in_flight(flight) {
            call.checked = now;
            call.writing = true;
        }
        let stalls = self.scenario.stalls;
        let random = &mut self.chances.pods;
        let mut gap = Duration::from_micros(10) + random.exponential(Duration::from_micros(20));
        if random.chance(stalls.before_write) {
            gap += random.magnitude(stalls.shortest, stalls.longest);
        }
        if self.scenario.upstream.delivery == Delivery::FromCheck {
            gap = gap.min(self.bound() / 2);
        }
        self.after(gap, Happening::Leaves(flight));
    }

    /// J: the least of the account's limits.
    fn bound(&self) -> Duration {
        self.scenario.account.limits.iter().map(|limit| limit.delivery).min().unwrap_or_default()
    }

    /// The request leaves the proxy.
    pub(super) fn leaves(&mut self, flight: Flight) {
        let guarded = self.scenario.upstream.delivery == Delivery::FromCheck;
        if let Some(later) = self.stands_still(flight.proxy).filter(|_| !guarded) {
            return self.at(later, Happening::Leaves(flight));
        }
        let now = self.now;
        let Some(call) = self.in_flight(flight) else {
            return;
        };
        call.left = now;
        let checked = call.checked;
        let bound = self.bound();
        let transit = self.transit(bound);
        let latest = match self.scenario.upstream.delivery {
            Delivery::FromCheck => checked + bound,
            Delivery::FromWire => now + bound,
            Delivery::Loose => Moment(u64::MAX),
        };
        let counted = (now + transit).min(latest).max(now);
        self.history.late_counts += u64::from(counted.since(now) > bound);
        self.at(counted, Happening::Counted(flight));
        self.after(Duration::from_micros(5), Happening::Wrote(flight));
    }

    fn transit(&mut self, bound: Duration) -> Duration {
        let upstream = &self.scenario.upstream;
        let random = &mut self.chances.upstream;
        if upstream.adverse {
            return if random.chance(500_000) { Duration::from_micros(1) } else { bound };
        }
        let mut transit = upstream.transit.mul_f64(0.7) + random.exponential(upstream.transit.mul_f64(0.3));
        if random.chance(upstream.retransmissions) {
            transit += Duration::from_millis(match random.below(100) {
                0..80 => 200,
                80..95 => 600,
                _ => 1400,
            });
        }
        transit
    }

    /// The write has returned: this is what the proxy knows of it.
    pub(super) fn wrote(&mut self, flight: Flight) {
        if let Some(later) = self.stands_still(flight.proxy) {
            return self.at(later, Happening::Wrote(flight));
        }
        let Some(call) = self.in_flight(flight) else {
            return;
        };
        call.writing = false;
        let stamp = self.stamp(flight.proxy);
        self.proxies[flight.proxy].session.wrote(stamp, flight.call);
        self.pump(flight.proxy);
    }

    /// The provider counts the request, whatever has become of the proxy that sent it.
    pub(super) fn counted(&mut self, flight: Flight) {
        let id = self.proxies[flight.proxy].id;
        self.history.counted(id, flight.call);
        let class = self.class_of(flight);
        let workload = &self.scenario.pods[self.proxies[flight.proxy].pod];
        let answer = self.provider.arrives(self.now, (id, flight.call), &class, flight.tokens, workload);
        let answer = Box::new(answer);
        let rejected = answer.rejection.is_some();
        let upstream = &self.scenario.upstream;
        let random = &mut self.chances.upstream;
        let way_back = if upstream.adverse {
            Duration::from_micros(1)
        } else {
            upstream.transit.mul_f64(0.7) + random.exponential(upstream.transit.mul_f64(0.3))
        };
        let thinks = if rejected {
            Duration::from_millis(1)
        } else {
            upstream.thinks.mul_f64(random.between(600, 1400) as f64 / 1000.0)
        };
        let streams = upstream.streams.mul_f64(random.between(500, 1500) as f64 / 1000.0);
        self.after(thinks + way_back, Happening::FirstByte(flight, answer));
        if !rejected {
            let streams = self.paced(flight).unwrap_or(streams);
            self.streams(flight, thinks, streams, way_back);
        }
    }

    /// What a call is to those who count it.
    fn class_of(&self, flight: Flight) -> CallClass {
        let workload = &self.scenario.pods[self.proxies[flight.proxy].pod];
        let allocation = self.scenario.allocation_of(workload).cloned();
        CallClass { allocation, ..self.scenario.shapes[flight.class].clone() }
    }

    /// How long an answer takes whose tokens say so.
    fn paced(&mut self, flight: Flight) -> Option<Duration> {
        let (tokens, work) = flight.tokens.zip(self.scenario.tokens.as_ref())?;
        let Pace::TokensPerSecond(speed, most) = work.pace else { return None };
        let one = tokens.usage.output / tokens.size.choices();
        let luck = self.chances.upstream.between(100 - work.uneven, 100 + work.uneven) as f64 / 100.0;
        Some(Duration::from_secs_f64(one as f64 / speed as f64 * luck).min(most))
    }

    /// The provider produces an answer, and the client may leave meanwhile.
    fn streams(&mut self, flight: Flight, thinks: Duration, streams: Duration, way_back: Duration) {
        let counted = self.now;
        for part in 1..flight.tokens.map_or(0, |tokens| tokens.parts) {
            let parts = flight.tokens.map_or(1, |tokens| tokens.parts);
            let at = thinks + streams.mul_f64(part as f64 / parts as f64);
            self.after(at, Happening::Produced { flight, part, counted });
            self.after(at + way_back, Happening::Grows(flight, part));
        }
        let late = self.scenario.tokens.as_ref().is_some_and(|work| work.provider.settles_late);
        let settles = if late { self.bound().mul_f64(0.9) } else { Duration::ZERO };
        self.after(thinks + streams + settles, Happening::Answered(flight, counted));
        self.after(thinks + streams + way_back, Happening::LastByte(flight));
        let Workload { leaves, leaves_within: within, .. } = self.scenario.workload;
        if leaves > 0 && self.chances.upstream.chance(leaves) {
            let leaves = self.chances.upstream.within(Duration::ZERO, (thinks + streams).min(within));
            self.after(leaves, Happening::HangsUp(flight.proxy, flight.call));
        }
    }

    /// Whether the provider produces nothing more, because nobody is there any more.
    fn is_left(&mut self, flight: Flight) -> bool {
        let stops = self.scenario.tokens.as_ref().is_some_and(|work| work.provider.stops);
        stops && self.in_flight(flight).is_none()
    }

    /// The provider has produced so many parts of an answer, or sees that nobody is there any more.
    pub(super) fn produced(&mut self, flight: Flight, part: u64, counted: Moment) {
        let Some(tokens) = flight.tokens.filter(|_| !self.ended_early.contains(&key(flight))) else { return };
        if self.is_left(flight) {
            self.answered(Flight { tokens: Some(tokens.until(part - 1)), ..flight }, counted);
            self.ended_early.insert(key(flight));
            return;
        }
        let class = self.class_of(flight);
        self.provider.produced(self.now, &class, &tokens, part);
    }

    /// The proxy has read so many parts of an answer.
    pub(super) fn grows(&mut self, flight: Flight, part: u64) {
        if let Some(later) = self.stands_still(flight.proxy) {
            return self.at(later, Happening::Grows(flight, part));
        }
        if let Some(tokens) = flight.tokens.filter(|_| self.in_flight(flight).is_some()) {
            self.proxies[flight.proxy].session.produced(flight.call, tokens.output_of(part));
            self.pump(flight.proxy);
        }
    }

    pub(super) fn answered(&mut self, flight: Flight, counted: Moment) {
        if !self.ended_early.remove(&key(flight)) {
            let class = self.class_of(flight);
            let workload = &self.scenario.pods[self.proxies[flight.proxy].pod];
            self.provider.answered(self.now, counted, &class, flight.tokens, workload);
        }
    }

    pub(super) fn first_byte(&mut self, flight: Flight, answer: Box<Answer>) {
        if let Some(later) = self.stands_still(flight.proxy) {
            return self.at(later, Happening::FirstByte(flight, answer));
        }
        let now = self.now;
        let bound = self.bound();
        let Some(call) = self.in_flight(flight) else {
            return;
        };
        call.writing = false;
        let hold = call.left.since(call.granted) + now.since(call.left).min(bound);
        self.history.held(hold);
        let stamp = self.stamp(flight.proxy);
        let session = &mut self.proxies[flight.proxy].session;
        let Answer { rejection, observations } = *answer;
        match rejection {
            Some(rejection) => session.rejected(stamp, flight.call, observations, rejection, true),
            None => session.first_byte(stamp, flight.call, observations),
        }
        self.pump(flight.proxy);
    }

    pub(super) fn last_byte(&mut self, flight: Flight) {
        if let Some(later) = self.stands_still(flight.proxy) {
            return self.at(later, Happening::LastByte(flight));
        }
        if self.in_flight(flight).is_none() {
            return;
        }
        let stamp = self.stamp(flight.proxy);
        let proxy = &mut self.proxies[flight.proxy];
        proxy.session.done(stamp, flight.call, CallEnd::Seen, flight.tokens.map(|tokens| tokens.usage));
        let pod = proxy.pod;
        if let Some(call) = proxy.calls.remove(&flight.call) {
            self.history.completed(self.now, pod, call.asked);
        }
        self.pump(flight.proxy);
        self.next_call(flight.proxy);
    }
}

/// A try of a call.
fn key(flight: Flight) -> (usize, CallId, u32) {
    (flight.proxy, flight.call, flight.try_number)
}
