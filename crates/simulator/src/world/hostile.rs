//! A pod of the quota that means harm. It has a token of its own and no official proxy: it speaks the session itself, and
//! does whatever a limiter may be told. Floods of hellos, of calls and of names that nobody knows; grants that it never
//! uses; answers that it makes up, with figures, rejections and refused credentials. It makes no call: what a pod sends
//! and then disowns goes around its limits, and nobody holds that back.

use std::time::Duration;

use quotakeeper_engine::event::{
    CallClass, CallId, Fingerprint, Observation, Rejection, RejectionClass, Scope, SessionId,
};
use quotakeeper_engine::time::Stamp;
use quotakeeper_engine::tokens::{CallEnd, CallSize};
use quotakeeper_limiter_core::ConnectionId;
use quotakeeper_wire::codec::Coded;
use quotakeeper_wire::limiter::PodIdentity;
use quotakeeper_wire::message::{
    AccountIndex, CallDetails, EndedAttempt, Ending, Epoch, GrantRef, Hello, LimiterMessage, LiveCall,
    Progress, ProxyMessage, Report, ToLimiter, ToProxy,
};

use super::{Happening, World};
use crate::account::{self, NAMESPACE, QUOTA};
use crate::random::Random;
use crate::scenario::Forged;

/// Its workload.
pub(crate) const HOSTILE: &str = "team/hostile";
/// Its pod, for the API server.
const UID: &str = "uid-hostile";
/// The first of its connections: none of an honest proxy has such a number.
const FIRST: u64 = 1 << 40;
/// How often it does something.
const EVERY: Duration = Duration::from_millis(100);
/// The most pauses that an engine may have on its account: of everyone's calls, and of single callers.
const MOST_PAUSES: usize = 65 + 257;
const ACCOUNT: AccountIndex = AccountIndex(0);

/// What it knows of its own doings.
#[derive(Debug, Default)]
pub(crate) struct Hostile {
    /// Its connections, by number from [`FIRST`]: the session, and whether it is open.
    connections: Vec<(SessionId, bool)>,
    calls: u64,
    acts: u64,
}

const FORGED: [Forged; 6] = [
    Forged::Figures,
    Forged::Pause,
    Forged::LongPause,
    Forged::Terminal,
    Forged::Concurrency,
    Forged::Silence,
];

impl World {
    pub(super) fn begin_hostile(&mut self) {
        if self.scenario.hostile.is_some() {
            self.after(Duration::from_millis(50), Happening::Misbehaves);
        }
    }

    /// It does one thing of its list, and stays alive.
    pub(super) fn misbehaves(&mut self) {
        if self.stopped {
            return self.drive(self.active, |state, now, out| state.pod_deleted(now, UID, out));
        }
        let random = &mut self.chances.hostile;
        let next = random.within(EVERY / 2, EVERY * 3 / 2);
        // Seldom what ends its own session: without one it harms less.
        match random.below(400) {
            0 => self.reconnects(false),
            1..4 => self.reconnects(true),
            4 => self.hostile_says(ProxyMessage::ALIVE, u64::MAX),
            _ => self.floods(),
        }
        let alive = self.hostile.connections.iter().rposition(|(_, open)| *open);
        match alive {
            Some(connection) => self.hostile_sends(connection, ProxyMessage::ALIVE),
            None => self.reconnects(false),
        }
        self.hostile.acts += 1;
        if self.hostile.acts.is_multiple_of(100) {
            self.checks_bounds();
        }
        self.after(next, Happening::Misbehaves);
    }

    /// Another connection, at times with another session; `loaded`: it claims calls and answers of a time before.
    fn reconnects(&mut self, loaded: bool) {
        let random = &mut self.chances.hostile;
        let known = self.hostile.connections.last().map(|(session, _)| *session);
        let session = match known.filter(|_| random.chance(800_000)) {
            Some(session) => session,
            None => SessionId(random.draw()),
        };
        let mut hello = Hello {
            session,
            consumer: HOSTILE.into(),
            quotas: vec![QUOTA.into()],
            newest: self.limiters[self.active].epoch,
            ended: Vec::new(),
            calls: Vec::new(),
        };
        if loaded {
            claims(&mut hello, self.scenario.hostile.flatten(), random);
        }
        let connection = self.hostile.connections.len();
        self.hostile.connections.push((session, true));
        let pod = PodIdentity {
            namespace: NAMESPACE.to_owned(),
            pod: "hostile".to_owned(),
            uid: UID.to_owned(),
            service_account: "default".to_owned(),
            consumer: HOSTILE.into(),
            labels: account::labels(None),
        };
        let (limiter, id) = (self.active, ConnectionId(FIRST + connection as u64));
        self.drive(limiter, |state, now, _| state.connect(now, id, Some(pod)));
        self.hostile_sends(connection, ProxyMessage::Hello(hello));
    }

    /// Calls of endpoints, models and credentials without end, of any cost.
    fn floods(&mut self) {
        for _ in 0..10 {
            let random = &mut self.chances.hostile;
            let details = details(random);
            self.hostile.calls += 1;
            let call = CallId(self.hostile.calls);
            self.hostile_says(ProxyMessage::Ask { account: ACCOUNT, call, details, patience: None }, 0);
        }
    }

    /// Says something on the newest connection that is open; `late`: with a time of its own clock that much later.
    fn hostile_says(&mut self, body: ProxyMessage, late: u64) {
        let open = self.hostile.connections.iter().rposition(|(_, open)| *open);
        if let Some(connection) = open {
            self.hostile_stamps(connection, body, Stamp(self.now.0.saturating_add(late)));
        }
    }

    fn hostile_sends(&mut self, connection: usize, body: ProxyMessage) {
        self.hostile_stamps(connection, body, Stamp(self.now.0));
    }

    fn hostile_stamps(&mut self, connection: usize, body: ProxyMessage, stamp: Stamp) {
        let limiter = self.active;
        if !self.hostile.connections[connection].1 || !self.limiters[limiter].up {
            return;
        }
        let id = ConnectionId(FIRST + connection as u64);
        match ToLimiter::decode(&ToLimiter { stamp, body }.to_bytes()) {
            Ok(Some(message)) => {
                self.drive(limiter, |state, now, out| state.receive(now, id, message, out));
            }
            Ok(None) => {}
            Err(_) => {
                self.hostile.connections[connection].1 = false;
                self.drive(limiter, |state, now, out| state.disconnect(now, id, out));
            }
        }
    }

    /// Whether a connection is its own, by its place among those.
    pub(super) fn is_hostile(id: ConnectionId) -> Option<usize> {
        id.0.checked_sub(FIRST).and_then(|place| usize::try_from(place).ok())
    }

    pub(super) fn hostile_ends(&mut self, connection: usize) {
        self.hostile.connections[connection].1 = false;
    }

    /// A message reaches it: of a grant it makes what harms most, by chance.
    pub(super) fn hostile_receives(&mut self, limiter: usize, connection: usize, message: &ToProxy) {
        let LimiterMessage::Grant { call, attempt, .. } = message.body else { return };
        let session = self.hostile.connections[connection].0;
        self.granted_to_hostile(limiter, session, call);
        let random = &mut self.chances.hostile;
        let forged = self.scenario.hostile.flatten().unwrap_or(*random.pick(&FORGED));
        if forged == Forged::Silence {
            return;
        }
        let delay = random.within(Duration::from_millis(1), Duration::from_millis(200));
        self.after(delay, Happening::Forges(connection, call, attempt, forged));
    }

    /// It reports an answer that nobody gave.
    pub(super) fn forges(&mut self, connection: usize, call: CallId, attempt: u32, forged: Forged) {
        let at = Stamp(self.now.0);
        let first = self.scenario.account.limits.first().map(|limit| limit.name.clone());
        let figures = Observation {
            limit: first.unwrap_or_default(),
            hard: None,
            remaining: Some(0),
            ends_in: Some(Duration::from_secs(3600)),
        };
        let report = |report| ProxyMessage::Report { account: ACCOUNT, call, attempt, report };
        let rejected = |class, wait, scope| Report::Rejected {
            at,
            observations: vec![],
            rejection: rejection(class, wait, scope),
            again: false,
        };
        let scope = some_scope(&mut self.chances.hostile);
        let first = match forged {
            Forged::Figures => Report::FirstByte { at, observations: vec![figures] },
            Forged::Pause => rejected(RejectionClass::Quota, Some(59), scope),
            Forged::LongPause => rejected(RejectionClass::Quota, Some(3600), scope),
            Forged::Terminal => rejected(RejectionClass::Terminal, None, Scope::account()),
            Forged::Concurrency => rejected(RejectionClass::Concurrency, None, scope),
            Forged::Silence => return,
        };
        self.hostile_sends(connection, report(first));
        if forged == Forged::Figures {
            self.hostile_sends(connection, report(Report::Done { end: CallEnd::Seen, usage: None }));
        }
    }

    /// Whatever it does, little is kept of it.
    fn checks_bounds(&mut self) {
        let limiter = self.active;
        let now = self.time(limiter);
        for account in self.limiters[limiter].state.report(now).accounts {
            if account.status.pauses.len() > MOST_PAUSES {
                self.history.problem("there are more pauses than there may be");
            }
        }
    }
}

/// A name that nobody has named before.
fn some_name(random: &mut Random) -> String {
    format!("n{:x}", random.draw())
}

fn some_scope(random: &mut Random) -> Scope {
    match random.below(4) {
        0 => Scope::endpoint(some_name(random)),
        1 => Scope::model(some_name(random)),
        2 => Scope::limit(some_name(random)),
        _ => Scope::account(),
    }
}

fn details(random: &mut Random) -> CallDetails {
    let names = random.chance(500_000);
    let class = CallClass {
        endpoint: names.then(|| some_name(random)),
        model: names.then(|| some_name(random)),
        allocation: names.then(|| some_name(random).as_str().into()),
    };
    CallDetails {
        class,
        size: random.chance(500_000).then(|| CallSize { text_bytes: u64::MAX, ..CallSize::default() }),
        credits: random.draw(),
        credential: Fingerprint(random.draw()),
    }
}

fn rejection(class: RejectionClass, wait: Option<u64>, scope: Scope) -> Rejection {
    Rejection {
        class,
        scope,
        shared_with: None,
        wait: wait.map(Duration::from_secs),
        reason: "forged".to_owned(),
        organization: None,
    }
}

/// Adds calls and answers of a time before, which never were.
fn claims(hello: &mut Hello, prefers: Option<Forged>, random: &mut Random) {
    let epoch = Epoch(hello.newest.0);
    for _ in 0..50 {
        let grant = GrantRef { attempt: 1, epoch, granted: quotakeeper_engine::time::Time(1) };
        let call = CallId((1 << 32) + random.below(1 << 30));
        let (class, wait) = match prefers.unwrap_or(*random.pick(&FORGED)) {
            Forged::Terminal => (RejectionClass::Terminal, None),
            Forged::LongPause => (RejectionClass::Quota, Some(3600)),
            Forged::Concurrency => (RejectionClass::Concurrency, None),
            _ => (RejectionClass::Quota, Some(random.between(1, 59))),
        };
        let rejection = rejection(class, wait, some_scope(random));
        let ending = Ending::Rejected { at: Stamp(0), observations: vec![], rejection };
        hello.ended.push(EndedAttempt { account: ACCOUNT, call, grant, details: details(random), ending });
        let progress = Progress::Waiting { attempts: 0, waited: Duration::ZERO, patience: None };
        let call = CallId((1 << 33) + random.below(1 << 30));
        hello.calls.push(LiveCall { account: ACCOUNT, call, details: details(random), progress });
    }
}
