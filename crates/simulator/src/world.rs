//! The world: true time, one event after the other, from a seed.
//!
//! | room | holds |
//! |---|---|
//! | `proxies` | pods: their clients, their session, their stalls and deaths |
//! | `limiters` | limiter processes: what reaches their state, what they send, when they wake |
//! | `checkpoints` | the account's checkpoint in the Kubernetes API |
//! | `disk` | commits, crashes and restarts |
//! | `lease` | lease, standby and failover |
//! | `handover` | what a limiter that ends hands to the standby |
//! | `hostile` | a pod that means harm |
//! | `upstream` | from a proxy's wire to the provider and back |
//! | `others` | who uses the account past the proxies |
//! | `faults` | what breaks when |

mod checkpoints;
mod disk;
mod faults;
mod handover;
mod hostile;
mod lease;
mod limiters;
mod others;
mod proxies;
mod samples;
mod upstream;

use std::collections::BTreeSet;
use std::time::Duration;

use quotakeeper_engine::config::{AccountConfig, Unit};
use quotakeeper_engine::event::CallId;
use quotakeeper_limiter_core::lease::Held;
use quotakeeper_limiter_core::{DueRecord, Handover};
use quotakeeper_wire::message::{Epoch, ToLimiter, ToProxy};

use crate::agenda::Agenda;
use crate::clock::{Clock, Moment};
use crate::history::History;
use crate::network::Connection;
use crate::provider::{Answer, CallTokens, Provider};
use crate::random::Random;
use crate::report::Report;
use crate::scenario::{Forged, Scenario};
use checkpoints::{CheckpointAnswer, CheckpointRequest, CheckpointServer};
use hostile::Hostile;
use lease::Leasing;
use limiters::Limiter;
use proxies::Proxy;

/// How long the last reports take to reach the limiter through any stall.
const SETTLES: Duration = Duration::from_secs(30);

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A message reaches a limiter.
    Up(usize, Box<ToLimiter>),
    /// A message reaches a proxy.
    Down(usize, Box<ToProxy>),
    LimiterWakes(usize),
    ProxyWakes(usize),
    /// A proxy has a connection to the provider for a granted call.
    Ready(Flight),
    /// The request leaves the proxy.
    Leaves(Flight),
    /// The write has returned.
    Wrote(Flight),
    /// The provider counts the request.
    Counted(Flight),
    /// The provider has said the last of its answer; what it charged the call at its arrival, and when.
    Answered(Flight, Moment),
    /// The provider has produced so many parts of its answer to a call that it counted then …
    Produced {
        flight: Flight,
        part: u64,
        counted: Moment,
    },
    /// … and the proxy has read them.
    Grows(Flight, u64),
    /// The answer's first byte reaches the proxy.
    FirstByte(Flight, Box<Answer>),
    /// The answer's last byte does.
    LastByte(Flight),
    HangsUp(usize, CallId),
    /// Calls come, by the workload's plan.
    Works,
    /// Others use the account: one call, after which others follow, or so many at once.
    OthersCall,
    OthersBurst,
    OthersArrive,
    OthersUseTokens,
    /// All pods call at once.
    Bursts(u64),
    /// A pod wants something again.
    Returns(usize),
    /// A node is lost, with half of the pods.
    NodeLost,
    ProxyStalls,
    LimiterStalls,
    ProxyCrashes,
    ProxyStarts(usize),
    /// A pod is known to be dead.
    PodGone(usize),
    Connects(usize),
    ConnectionBreaks,
    ProxyNotices(usize),
    LimiterNotices(usize),
    Partitions,
    LimiterCrashes {
        again: bool,
    },
    LimiterRestarts(usize),
    CommitStored(usize, Vec<DueRecord>),
    CommitEnds {
        limiter: usize,
        stored: bool,
    },
    /// A request about the checkpoint reaches the API server, …
    CheckpointArrives(Box<CheckpointRequest>),
    /// … and its answer a limiter.
    CheckpointAnswered(usize, Box<CheckpointAnswer>),
    /// The account's document tells of the checkpoint with this number.
    CheckpointTold(u64),
    RequestsRenewal(usize),
    /// A renewal that was asked for then.
    RenewalArrives(usize, Moment),
    Renewed(usize, Moment, bool),
    Deposed(usize),
    StandbyLooks {
        again: bool,
    },
    /// The standby has read the lease, of this version.
    StandbySees(Box<Held>, u64),
    /// The standby's request for the lease of this version, asked for then, reaches the API server …
    TakeArrives(u64, Moment),
    /// … and its answer the standby: the last holder had this epoch.
    TakesOver(Epoch, Moment),
    CutsApiServer,
    HandsOver,
    HandoverArrives(usize, Box<Handover>),
    /// A limiter that ends gives the lease up.
    GivesUp(usize),
    FailsOver {
        again: bool,
    },
    Freezes(usize),
    AccountChanges(usize),
    ProviderChanges(usize),
    /// A pod that means harm does something, …
    Misbehaves,
    /// … and reports an answer that nobody gave.
    Forges(usize, CallId, u32, Forged),
    Samples,
    Stops,
}

/// One try of a call: a grant that is on its way to the provider and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) proxy: usize,
    pub(crate) call: CallId,
    /// Counts the grants that the proxy's client saw.
    pub(crate) try_number: u32,
    /// What the call looks like: its place among the scenario's shapes.
    pub(crate) class: usize,
    /// Its tokens; `None`: it costs none.
    pub(crate) tokens: Option<CallTokens>,
}

/// A stream of chance for each part, so that one does not move the others.
#[derive(Debug)]
pub(crate) struct Chances {
    pub(crate) network: Random,
    pub(crate) pods: Random,
    pub(crate) upstream: Random,
    pub(crate) faults: Random,
    pub(crate) work: Random,
    pub(crate) disk: Random,
    pub(crate) others: Random,
    pub(crate) hostile: Random,
}

/// A world in motion.
#[derive(Debug)]
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: Moment,
    agenda: Agenda<Happening>,
    chances: Chances,
    pub(crate) proxies: Vec<Proxy>,
    /// The living proxy of each pod.
    pub(crate) pods: Vec<usize>,
    pub(crate) limiters: Vec<Limiter>,
    /// The limiter that new connections reach.
    pub(crate) active: usize,
    leasing: Option<Leasing>,
    checkpoints: CheckpointServer,
    pub(crate) connections: Vec<Connection>,
    pub(crate) provider: Provider,
    /// Answers that the provider has given up because nobody was there any more.
    ended_early: BTreeSet<(usize, CallId, u32)>,
    pub(crate) history: History,
    hostile: Hostile,
    /// The workload's time is over.
    pub(crate) stopped: bool,
    /// Until when what is under way then may take to end.
    gives_up: Option<Moment>,
}

impl World {
    /// A scenario with a seed.
    pub fn new(scenario: Scenario, seed: u64) -> World {
        let mut random = Random::new(seed);
        let chances = Chances {
            network: random.fork(),
            pods: random.fork(),
            upstream: random.fork(),
            faults: random.fork(),
            work: random.fork(),
            disk: random.fork(),
            others: random.fork(),
            hostile: random.fork(),
        };
        let clock = Clock::new(Duration::from_secs(1_000_000), -scenario.clocks.provider);
        let mut world = World {
            provider: Provider::new(&scenario, clock),
            ended_early: BTreeSet::new(),
            history: History::new(&scenario),
            hostile: Hostile::default(),
            scenario,
            now: Moment(0),
            agenda: Agenda::new(),
            chances,
            proxies: Vec::new(),
            pods: Vec::new(),
            limiters: Vec::new(),
            active: 0,
            leasing: None,
            checkpoints: CheckpointServer::default(),
            connections: Vec::new(),
            stopped: false,
            gives_up: None,
        };
        world.begin_limiter();
        world.begin_pods();
        world.begin_others();
        world.begin_hostile();
        world.plan_faults();
        world
    }

    /// Lets it run until everything has come to its end, or should have.
    pub fn run(mut self) -> Report {
        let end = Moment(0) + self.scenario.length;
        self.at(end, Happening::Stops);
        while let Some((at, happening)) = self.agenda.next() {
            if self.gives_up.is_some_and(|gives_up| at > gives_up) || self.is_over() {
                break;
            }
            self.now = at;
            self.happens(happening);
        }
        Report::of(self)
    }

    fn stops(&mut self) {
        self.stopped = true;
        self.gives_up = Some(self.now + self.patience());
    }

    /// How long everything that is under way at the end may take to end.
    fn patience(&self) -> Duration {
        let AccountConfig { limits, sharing, .. } = &self.scenario.account;
        let of_allocations: Vec<_> = sharing.limits(limits).map(|limit| limit.config).collect();
        let windows: Duration = limits.iter().map(|limit| limit.window).sum();
        let answers = (self.scenario.upstream.thinks + self.scenario.upstream.streams) * 2;
        let calls = u32::try_from(self.history.under_way).unwrap_or(u32::MAX);
        let most = |unit| self.scenario.tokens.as_ref().map_or(1, |work| work.most(unit));
        let slowest = limits.iter().chain(&of_allocations).map(|limit| match limit.unit {
            Unit::ConcurrentRequests => answers.div_f64(limit.amount as f64),
            unit if unit.counts_tokens() => {
                // The most may be held until its answer has ended.
                let counted = limit.window + answers;
                counted.mul_f64(most(unit) as f64 / limit.amount as f64).min(counted)
            }
            _ => limit.window.div_f64(limit.amount as f64),
        });
        // Three times what it takes on a quiet day.
        slowest.max().unwrap_or_default() * calls * 3 + windows * 4 + answers * 10 + Duration::from_secs(120)
    }

    fn is_over(&self) -> bool {
        self.stopped
            && self.history.under_way == 0
            && self.now > self.history.last_end + SETTLES
            && self.now > Moment(0) + self.scenario.length + SETTLES
    }

    fn at(&mut self, at: Moment, happening: Happening) {
        self.agenda.add(at, happening);
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.agenda.add(self.now + delay, happening);
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Up(connection, message) => self.limiter_receives(connection, message),
            Happening::Down(connection, message) => self.proxy_receives(connection, message),
            Happening::LimiterWakes(limiter) => self.limiter_wakes(limiter),
            Happening::ProxyWakes(proxy) => self.proxy_wakes(proxy),
            Happening::Ready(flight) => self.ready(flight),
            Happening::Leaves(flight) => self.leaves(flight),
            Happening::Wrote(flight) => self.wrote(flight),
            Happening::Counted(flight) => self.counted(flight),
            Happening::Produced { flight, part, counted } => self.produced(flight, part, counted),
            Happening::Grows(flight, part) => self.grows(flight, part),
            Happening::Answered(flight, counted) => self.answered(flight, counted),
            Happening::FirstByte(flight, answer) => self.first_byte(flight, answer),
            Happening::LastByte(flight) => self.last_byte(flight),
            Happening::HangsUp(proxy, call) => self.hangs_up(proxy, call),
            Happening::Works => self.works(),
            Happening::OthersCall => self.others_call(),
            Happening::OthersBurst => self.others_burst(),
            Happening::OthersArrive => self.others_arrive(),
            Happening::OthersUseTokens => self.others_use_tokens(),
            Happening::Bursts(calls) => self.bursts(calls),
            Happening::Returns(pod) => self.returns(pod),
            Happening::NodeLost => self.node_lost(),
            Happening::ProxyStalls => self.proxy_stalls(),
            Happening::LimiterStalls => self.limiter_stalls(),
            Happening::ProxyCrashes => self.proxy_crashes(),
            Happening::ProxyStarts(pod) => self.proxy_starts(pod),
            Happening::PodGone(proxy) => self.pod_gone(proxy),
            Happening::Connects(proxy) => self.connects(proxy),
            Happening::ConnectionBreaks => self.connection_breaks(),
            Happening::ProxyNotices(connection) => self.proxy_notices(connection),
            Happening::LimiterNotices(connection) => self.limiter_notices(connection),
            Happening::Partitions => self.partitions(),
            Happening::LimiterCrashes { again } => self.limiter_crashes(again),
            Happening::LimiterRestarts(limiter) => self.limiter_restarts(limiter),
            Happening::CommitStored(limiter, records) => self.commit_stored(limiter, records),
            Happening::CommitEnds { limiter, stored } => self.commit_ends(limiter, stored),
            Happening::CheckpointArrives(request) => self.checkpoint_arrives(&request),
            Happening::CheckpointAnswered(limiter, answer) => self.checkpoint_answered(limiter, answer),
            Happening::CheckpointTold(number) => self.checkpoint_told(number),
            Happening::RequestsRenewal(limiter) => self.requests_renewal(limiter),
            Happening::RenewalArrives(limiter, asked) => self.renewal_arrives(limiter, asked),
            Happening::Renewed(limiter, asked, claims) => self.renewed(limiter, asked, claims),
            Happening::Deposed(limiter) => self.deposed(limiter),
            Happening::StandbyLooks { again } => self.standby_looks(again),
            Happening::StandbySees(held, version) => self.standby_sees(&held, version),
            Happening::TakeArrives(version, asked) => self.take_arrives(version, asked),
            Happening::TakesOver(last, asked) => self.takes_over(last, asked),
            Happening::CutsApiServer => self.cuts_api_server(),
            Happening::HandsOver => self.hands_over(),
            Happening::HandoverArrives(limiter, handover) => self.handover_arrives(limiter, *handover),
            Happening::GivesUp(limiter) => self.gives_up(limiter),
            Happening::FailsOver { again } => self.fails_over(again),
            Happening::Freezes(limiter) => self.freezes(limiter),
            Happening::AccountChanges(change) => self.account_changes(change),
            Happening::ProviderChanges(change) => self.provider_changes(change),
            Happening::Misbehaves => self.misbehaves(),
            Happening::Forges(at, call, attempt, forged) => self.forges(at, call, attempt, forged),
            Happening::Samples => self.samples(),
            Happening::Stops => self.stops(),
        }
    }

    /// A machine's clock: begun at some time, a little wrong.
    fn some_clock(&mut self) -> Clock {
        let random = &mut self.chances.faults;
        let origin = random.within(Duration::from_secs(10), Duration::from_secs(100_000));
        let most = self.scenario.clocks.drift.unsigned_abs();
        let gains = random.between(0, 2 * most) as i64 - most as i64;
        Clock::new(origin, gains)
    }
}
