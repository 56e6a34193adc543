//! Pods: their clients, the proxy's side of the session, stalls and deaths.

use std::collections::BTreeMap;

use quotakeeper_engine::event::{CallClass, CallId, SessionId};
use quotakeeper_engine::time::Stamp;
use quotakeeper_engine::tokens::{CallSize, TokenUsage};
use quotakeeper_wire::message::{AccountIndex, CallDetails, ToProxy};
use quotakeeper_wire::proxy::{Identity, Session, SessionEvent};
use std::time::Duration;

use super::{Flight, Happening, World};
use crate::account::QUOTA;
use crate::clock::{Clock, Moment};
use crate::provider::CallTokens;
use crate::random::Random;
use crate::scenario::{Arrivals, Hidden, Outputs, Pace, TokenWork};

const ACCOUNT: AccountIndex = AccountIndex(0);

/// One proxy, from its start to its death.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) pod: usize,
    pub(crate) id: SessionId,
    pub(crate) clock: Clock,
    pub(crate) session: Session,
    pub(crate) alive: bool,
    pub(crate) stalled_until: Moment,
    pub(crate) connection: Option<usize>,
    wakes_at: Moment,
    pub(crate) calls: BTreeMap<CallId, Call>,
    /// Calls that its clients still want to make, where they have a plan.
    left: u64,
}

/// What a proxy's client knows of its call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its place among the scenario's.
    class: usize,
    tokens: Option<CallTokens>,
    pub(crate) asked: Moment,
    /// Grants that it saw.
    pub(crate) tries: u32,
    pub(crate) granted: Moment,
    /// When it was decided to write it.
    pub(crate) checked: Moment,
    pub(crate) left: Moment,
    /// The answer may still come.
    pub(crate) writing: bool,
}

impl World {
    pub(super) fn begin_pods(&mut self) {
        for pod in 0..self.scenario.pods.len() {
            self.pods.push(usize::MAX);
            let wait = self.chances.pods.within(Duration::ZERO, Duration::from_millis(10));
            self.after(wait, Happening::ProxyStarts(pod));
        }
        if matches!(self.scenario.workload.arrivals, Arrivals::Bursts | Arrivals::Percent(_)) {
            self.after(Duration::from_millis(20), Happening::Works);
        }
    }

    pub(super) fn proxy_starts(&mut self, pod: usize) {
        let index = self.proxies.len();
        let id = SessionId(self.chances.pods.draw());
        let clock = self.some_clock();
        let identity = Identity {
            session: id,
            consumer: self.scenario.pods[pod].as_str().into(),
            quotas: vec![QUOTA.into()],
            max_calls: 100_000,
        };
        self.proxies.push(Proxy {
            pod,
            id,
            clock,
            session: Session::new(identity),
            alive: true,
            stalled_until: self.now,
            connection: None,
            wakes_at: Moment(u64::MAX),
            calls: BTreeMap::new(),
            left: match self.scenario.workload.arrivals {
                Arrivals::Jobs(calls, _) => calls,
                _ => 0,
            },
        });
        self.pods[pod] = index;
        self.connects(index);
        let at_once = match self.scenario.workload.arrivals {
            Arrivals::Backlog(waiting) => waiting,
            Arrivals::Jobs(_, at_once) => at_once,
            _ => 0,
        };
        for _ in 0..at_once {
            self.ask(index);
        }
    }

    /// Whether a pod wants nothing now.
    fn is_away(&self, pod: usize) -> bool {
        let since = self.now.since(Moment(0));
        let away = self.scenario.workload.away.filter(|away| pod < away.pods);
        away.is_some_and(|away| (away.from..away.to).contains(&since))
    }

    /// A pod that was away wants as much as before.
    pub(super) fn returns(&mut self, pod: usize) {
        let proxy = self.pods[pod];
        if let Arrivals::Backlog(waiting) = self.scenario.workload.arrivals
            && proxy != usize::MAX
            && self.proxies[proxy].alive
        {
            (0..waiting).for_each(|_| self.ask(proxy));
        }
    }

    pub(super) fn stamp(&self, proxy: usize) -> Stamp {
        Stamp(self.proxies[proxy].clock.read(self.now))
    }

    /// Whether a proxy does nothing now; what it would have done happens when it goes on.
    pub(super) fn stands_still(&self, proxy: usize) -> Option<Moment> {
        let until = self.proxies[proxy].stalled_until;
        (until > self.now).then_some(until)
    }

    /// A client wants to make a call.
    pub(super) fn ask(&mut self, proxy: usize) {
        if self.stopped && !matches!(self.scenario.workload.arrivals, Arrivals::Jobs(..)) {
            return;
        }
        if self.is_away(self.proxies[proxy].pod) {
            return;
        }
        let now = self.stamp(proxy);
        let workload = self.scenario.workload;
        if matches!(workload.arrivals, Arrivals::Jobs(..)) {
            let left = &mut self.proxies[proxy].left;
            if *left == 0 {
                return;
            }
            *left -= 1;
        }
        let (class, reported) = self.some_shape();
        let tokens = self.some_tokens(class, proxy);
        let details = CallDetails { size: tokens.map(|tokens| tokens.size), ..reported.into() };
        let session = &mut self.proxies[proxy].session;
        let asked = session.ask(now, ACCOUNT, details, workload.patience);
        let Ok(call) = asked else {
            self.history.not_taken += 1;
            return;
        };
        let record = Call {
            class,
            tokens,
            asked: self.now,
            tries: 0,
            granted: self.now,
            checked: self.now,
            left: self.now,
            writing: false,
        };
        self.proxies[proxy].calls.insert(call, record);
        self.history.asked();
        if self.chances.work.chance(workload.hang_ups) {
            let patience = self.chances.work.exponential(workload.hang_up_after);
            self.after(patience, Happening::HangsUp(proxy, call));
        }
        self.pump(proxy);
    }

    /// What a call looks like, by its place among the scenario's shapes, and what the proxy can tell.
    fn some_shape(&mut self) -> (usize, CallClass) {
        let Hidden { per_million, seen_later } = self.scenario.hidden;
        let shapes = self.scenario.shapes.len() as u64;
        let work = &mut self.chances.work;
        if per_million > 0 && work.chance(per_million) {
            let class = work.below(shapes) as usize;
            return (class, CallClass { model: None, ..self.scenario.shapes[class].clone() });
        }
        let seen = if seen_later {
            let (passed, all) = (self.now.since(Moment(0)), self.scenario.length.mul_f64(0.8));
            ((passed.as_secs_f64() / all.as_secs_f64() * shapes as f64) as u64 + 1).min(shapes)
        } else {
            shapes
        };
        let class = work.below(seen) as usize;
        (class, self.scenario.shapes[class].clone())
    }

    /// What a call of this shape says of its tokens, and what it uses.
    fn some_tokens(&mut self, class: usize, proxy: usize) -> Option<CallTokens> {
        let work = self.scenario.tokens.as_ref()?;
        let TokenWork { text_bytes, bytes_per_token, max_output, choices, outputs, pace, parts, .. } = work;
        let workload = &self.scenario.pods[self.proxies[proxy].pod];
        let chances = &mut self.chances.work;
        let times = outputs.large.filter(|(shape, _)| *shape == class).map_or(1, |(_, times)| times);
        let text_bytes = chances.between(text_bytes.0, text_bytes.1) * times;
        let max_output = chances.between(max_output.0, max_output.1);
        let mut output = 0;
        for _ in 0..*choices {
            output += some_output(chances, outputs, self.now, workload).min(max_output);
        }
        let allows = outputs.over_reserves.as_ref().filter(|(by, _)| by == workload);
        let max_output = Some(max_output * allows.map_or(1, |(_, times)| *times));
        let size = CallSize { text_bytes, max_output, choices: *choices, ..CallSize::default() };
        let input = text_bytes / bytes_per_token;
        let usage = TokenUsage { input, output, exact: true, ..TokenUsage::default() };
        let parts = match *pace {
            Pace::Any => *parts,
            // Often enough for what is told of it never to be old.
            Pace::TokensPerSecond(speed, _) => {
                (output / u64::from(*choices).max(1) / speed).clamp(2, (*parts).max(2))
            }
        };
        Some(CallTokens { size, usage, parts })
    }

    /// All pods call at once.
    pub(super) fn bursts(&mut self, calls: u64) {
        for pod in 0..self.pods.len() {
            let proxy = self.pods[pod];
            let asks = proxy != usize::MAX && self.proxies[proxy].alive;
            for _ in (0..calls).filter(|_| asks) {
                self.ask(proxy);
            }
        }
    }

    /// Half of the pods die at once.
    pub(super) fn node_lost(&mut self) {
        for pod in (0..self.pods.len()).step_by(2) {
            self.dies(pod);
        }
    }

    pub(super) fn works(&mut self) {
        if self.stopped {
            return;
        }
        let Some(limit) = self.scenario.account.limits.first() else {
            return;
        };
        let (amount, window) = (limit.amount, limit.window);
        match self.scenario.workload.arrivals {
            Arrivals::Bursts => {
                let calls = amount * self.chances.work.between(30, 180) / 100;
                for _ in 0..calls {
                    self.ask_somewhere();
                }
                let pause = window / 5 + self.chances.work.exponential(window);
                self.after(pause, Happening::Works);
            }
            Arrivals::Percent(percent) => {
                self.ask_somewhere();
                let mean = window.mul_f64(100.0 / (amount as f64 * percent as f64));
                let pause = self.chances.work.exponential(mean);
                self.after(pause, Happening::Works);
            }
            Arrivals::Backlog(_) | Arrivals::Jobs(..) => {}
        }
    }

    fn ask_somewhere(&mut self) {
        let pod = self.chances.work.below(self.pods.len() as u64) as usize;
        let proxy = self.pods[pod];
        if proxy != usize::MAX && self.proxies[proxy].alive && self.stands_still(proxy).is_none() {
            self.ask(proxy);
        }
    }

    /// Sends what the session has to say, each message with its own stamp, and sets the alarm.
    pub(super) fn pump(&mut self, proxy: usize) {
        let Some(connection) = self.proxies[proxy].connection else {
            return;
        };
        loop {
            let stamp = self.stamp(proxy);
            let Some(message) = self.proxies[proxy].session.next_message(stamp) else {
                break;
            };
            let delay = self.scenario.network.delay(&mut self.chances.network);
            let arrives = self.connections[connection].up(self.now, delay);
            self.at(arrives, Happening::Up(connection, Box::new(message)));
        }
        let entry = &mut self.proxies[proxy];
        if let Some(wake) = entry.session.next_wake() {
            let at = entry.clock.when(wake.0).max(self.now);
            if at < entry.wakes_at || entry.wakes_at <= self.now {
                entry.wakes_at = at;
                self.at(at, Happening::ProxyWakes(proxy));
            }
        }
    }

    pub(super) fn proxy_wakes(&mut self, proxy: usize) {
        if !self.proxies[proxy].alive || self.proxies[proxy].wakes_at > self.now {
            return;
        }
        if let Some(later) = self.stands_still(proxy) {
            self.proxies[proxy].wakes_at = later;
            return self.at(later, Happening::ProxyWakes(proxy));
        }
        self.proxies[proxy].wakes_at = Moment(u64::MAX);
        let stamp = self.stamp(proxy);
        self.proxies[proxy].session.wake(stamp);
        self.pump(proxy);
    }

    pub(super) fn proxy_receives(&mut self, connection: usize, message: Box<ToProxy>) {
        let Some(proxy) = self.reaches_proxy(connection) else {
            return;
        };
        if let Some(later) = self.stands_still(proxy) {
            return self.at(later, Happening::Down(connection, message));
        }
        let stamp = self.stamp(proxy);
        match self.proxies[proxy].session.receive(stamp, *message) {
            Some(SessionEvent::Granted { call }) => self.granted(proxy, call),
            Some(SessionEvent::Refused { call, .. }) => {
                self.proxies[proxy].calls.remove(&call);
                self.history.refused(self.now);
                self.next_call(proxy);
            }
            Some(SessionEvent::Account { .. } | SessionEvent::Outlook { .. }) | None => {}
        }
        self.pump(proxy);
    }

    fn reaches_proxy(&self, connection: usize) -> Option<usize> {
        let entry = &self.connections[connection];
        let proxy = entry.proxy;
        let current = self.proxies[proxy].connection == Some(connection);
        (entry.open_at_proxy && !entry.cut && current && self.proxies[proxy].alive).then_some(proxy)
    }

    fn granted(&mut self, proxy: usize, call: CallId) {
        let stalls = self.scenario.stalls;
        let mut wait = Duration::from_micros(10) + self.chances.pods.exponential(Duration::from_micros(20));
        if self.chances.pods.chance(stalls.before_check) {
            wait += self.chances.pods.magnitude(stalls.shortest, stalls.longest);
        }
        let now = self.now;
        let Some(record) = self.proxies[proxy].calls.get_mut(&call) else {
            self.history.problem("a grant for a call that is over was announced");
            return;
        };
        record.tries += 1;
        record.granted = now;
        let first = record.tries == 1;
        let Call { tries: try_number, class, tokens, .. } = *record;
        let flight = Flight { proxy, call, try_number, class, tokens };
        self.after(wait, Happening::Ready(flight));
        if first && matches!(self.scenario.workload.arrivals, Arrivals::Backlog(_)) {
            self.ask(proxy);
        }
    }

    /// A client whose call is over makes its next one, where it has a plan.
    pub(super) fn next_call(&mut self, proxy: usize) {
        if matches!(self.scenario.workload.arrivals, Arrivals::Jobs(..)) && self.proxies[proxy].alive {
            self.ask(proxy);
        }
    }

    pub(super) fn hangs_up(&mut self, proxy: usize, call: CallId) {
        if !self.proxies[proxy].alive {
            return;
        }
        if let Some(later) = self.stands_still(proxy) {
            return self.at(later, Happening::HangsUp(proxy, call));
        }
        let Some(record) = self.proxies[proxy].calls.get(&call) else {
            return;
        };
        if record.writing {
            // It is noticed when the write has returned.
            return self.after(Duration::from_millis(1), Happening::HangsUp(proxy, call));
        }
        let stamp = self.stamp(proxy);
        self.proxies[proxy].session.cancel(stamp, call);
        self.proxies[proxy].calls.remove(&call);
        self.history.hung_up(self.now);
        self.pump(proxy);
        self.next_call(proxy);
    }

    pub(super) fn proxy_stalls(&mut self) {
        let stalls = self.scenario.stalls;
        if self.stopped {
            return;
        }
        let pod = self.chances.faults.below(self.pods.len() as u64) as usize;
        let length = self.chances.faults.magnitude(stalls.shortest, stalls.longest);
        let proxy = self.pods[pod];
        if proxy != usize::MAX && self.stands_still(proxy).is_none() {
            self.proxies[proxy].stalled_until = self.now + length;
        }
        // The mean is of one proxy.
        let every = stalls.proxy_every / u32::try_from(self.pods.len()).unwrap_or(1);
        let next = self.chances.faults.exponential(every);
        self.after(next, Happening::ProxyStalls);
    }

    pub(super) fn proxy_crashes(&mut self) {
        if self.stopped {
            return;
        }
        let pod = self.chances.faults.below(self.pods.len() as u64) as usize;
        self.dies(pod);
        let next = self.chances.faults.exponential(self.scenario.faults.proxy_crash);
        self.after(next, Happening::ProxyCrashes);
    }

    /// A pod dies, and another follows.
    fn dies(&mut self, pod: usize) {
        let proxy = self.pods[pod];
        if proxy != usize::MAX && self.proxies[proxy].alive {
            self.proxies[proxy].alive = false;
            let lost = std::mem::take(&mut self.proxies[proxy].calls).len() as u64;
            self.history.died(self.now, lost);
            if let Some(connection) = self.proxies[proxy].connection {
                let notices = self.chances.faults.within(Duration::from_millis(5), Duration::from_secs(1));
                self.after(notices, Happening::LimiterNotices(connection));
            }
            self.after(Duration::from_secs(2), Happening::PodGone(proxy));
            self.after(Duration::from_secs(1), Happening::ProxyStarts(pod));
        }
    }
}

/// The output of one completion.
fn some_output(chances: &mut Random, outputs: &Outputs, now: Moment, workload: &str) -> u64 {
    let mut output = chances.exponential(Duration::from_nanos(outputs.mean)).as_nanos() as u64;
    if outputs.long_per_million > 0 && chances.chance(outputs.long_per_million) {
        output = outputs.long;
    }
    if outputs.none_per_million > 0 && chances.chance(outputs.none_per_million) {
        output = 0;
    }
    let grown = outputs.grows.as_ref().filter(|growth| now >= Moment(0) + growth.at);
    let of_workload = grown.filter(|growth| growth.workload.as_ref().is_none_or(|by| by == workload));
    output * of_workload.map_or(1, |growth| growth.times)
}
