//! What a world is made of: plain values, written by [`crate::stories`].

mod tokens;

use std::time::Duration;

use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::event::{CallClass, Scope};
use quotakeeper_engine::name::AllocationName;

use crate::network::Network;
pub(crate) use tokens::PICODOLLARS;
pub use tokens::{Growth, Outputs, Pace, Prices, TokenProvider, TokenWork};

/// One world, complete but for its seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The account as the limiter knows it at the beginning.
    pub account: AccountConfig,
    /// The first limit's amounts in the provider's tiers, the lowest first, where the quota declares none: the limiter
    /// is told these, and what `account` says of that limit is known to the provider alone. Empty: it is declared.
    pub tiers: Vec<u64>,
    /// The workload of each pod, by name.
    pub pods: Vec<String>,
    /// What calls look like; each is as likely.
    pub shapes: Vec<CallClass>,
    /// Calls whose model the proxy cannot tell.
    pub hidden: Hidden,
    /// What calls say of their tokens, and use; `None`: they cost none.
    pub tokens: Option<TokenWork>,
    /// What the pods want.
    pub workload: Workload,
    /// How long they want it. Afterwards nothing new begins and nothing more breaks, and everything has
    /// to come to its end.
    pub length: Duration,
    /// How wrong clocks are.
    pub clocks: Clocks,
    /// Between proxies and limiters.
    pub network: Network,
    /// Between proxies and the provider, and the provider.
    pub upstream: Upstream,
    /// Processes that stand still.
    pub stalls: Stalls,
    /// What dies, and how often.
    pub faults: Faults,
    /// The disk of the limiter's ledger; `None`: it keeps none, and begins with an unknown past.
    pub disk: Option<Disk>,
    /// It is recorded that the account comes into force when the world begins, and the first ledger is empty. Otherwise
    /// that is not known, and the first ledger shows that the account is unused.
    pub recorded: bool,
    /// What counts in windows of an hour or more is stored in the Kubernetes API too; `None`: it is not.
    pub checkpoints: Option<Checkpoints>,
    /// How the right to grant is passed on; `None`: there is one limiter.
    pub lease: Option<Lease>,
    /// Changes of the account in mid-flight.
    pub changes: Vec<Change>,
    /// A pod of another workload means harm: it makes up whatever a limiter may be told, of its grants this or anything.
    pub hostile: Option<Option<Forged>>,
    /// What has to hold.
    pub expects: Expects,
}

impl Scenario {
    /// The allocation on which a workload draws: `team/web-1` on `web`, where the account has one of that name.
    pub(crate) fn allocation_of(&self, workload: &str) -> Option<&AllocationName> {
        let name = workload.rsplit('/').next()?.split('-').next()?;
        let mut names = self.account.sharing.allocations.iter().map(|allocation| &allocation.name);
        names.find(|known| **known == *name)
    }
}

/// Calls whose model the proxy cannot tell; the provider counts by it all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hidden {
    /// So many of a million calls.
    pub per_million: u64,
    /// The others name one model at the beginning, and one after the other the rest of them.
    pub seen_later: bool,
}

/// What the pods want.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How calls come.
    pub arrivals: Arrivals,
    /// How long clients wait for their answer, if they say so.
    pub patience: Option<Duration>,
    /// Clients that hang up before they have their answer, in a million calls …
    pub hang_ups: u64,
    /// … and after how long, on average.
    pub hang_up_after: Duration,
    /// Clients that hang up while their answer is under way, in a million calls.
    pub leaves: u64,
    /// They leave within this time of the call's arrival at the provider.
    pub leaves_within: Duration,
    /// All pods call at once with so many calls each, once, at this time.
    pub burst_at: Option<(Duration, u64)>,
    /// Pods that want nothing for a while.
    pub away: Option<Away>,
}

/// Pods that want nothing for a while; what they have asked for before is still made.
#[derive(Clone, Copy, Debug)]
pub struct Away {
    /// The first so many.
    pub pods: usize,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
}

/// How calls come.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// So many calls of each pod wait at any time.
    Backlog(u64),
    /// Now and then about a window's worth of calls at once.
    Bursts,
    /// Evenly at random, at this part of the first limit's rate.
    Percent(u64),
    /// So many calls of each pod, as many of them at a time as the second number says.
    Jobs(u64, u64),
}

/// How wrong clocks are.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The most that a clock gains or loses, in billionths.
    pub drift: i64,
    /// The limiter's gains all of it and the provider's loses `provider`.
    pub adverse: bool,
    /// What the provider's clock loses, in billionths.
    pub provider: i64,
}

/// Until when a request is counted at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// J after it was decided to write it.
    FromCheck,
    /// J after the wire: what the rule promises to bear. Writes may come long after the check.
    FromWire,
    /// Whenever it arrives.
    Loose,
}

/// Between proxies and the provider, and the provider.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// From the wire to the provider's count, on average.
    pub transit: Duration,
    /// Transits that meet retransmissions, in a million.
    pub retransmissions: u64,
    /// Transits are either nothing or all of J.
    pub adverse: bool,
    /// Until when a request is counted at the latest.
    pub delivery: Delivery,
    /// How long the provider thinks before its answer begins, on average.
    pub thinks: Duration,
    /// How long its answer takes, on average.
    pub streams: Duration,
    /// When it rejects calls whatever they have used.
    pub closed: Vec<Closed>,
    /// It allows only this part of the first limit, and rejects what goes beyond.
    pub allows_percent: Option<u64>,
    /// Others use the account as well, and answers say where the first limit stands.
    pub shared: Option<Shared>,
}

/// An account that others use as well. The provider rejects what goes beyond the first limit, and says in each answer
/// how much of it remains.
#[derive(Clone, Debug)]
pub struct Shared {
    /// How much others use.
    pub others: Others,
    /// How long before the world the first of the provider's fixed windows began.
    pub phase: Duration,
    /// What answers say.
    pub headers: Headers,
}

/// Use of the account past Quotakeeper.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Evenly at random, at this part of the first limit's rate.
    pub percent: u64,
    /// At once, this part of the first limit …
    pub burst_percent: u64,
    /// … this often on average; zero: never.
    pub bursts_every: Duration,
}

/// How answers say where a limit stands.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// How the reset is written.
    pub reset: Reset,
    /// How it is rounded to whole seconds.
    pub rounding: Rounding,
    /// What the provider's calendar is ahead of the true one, in seconds.
    pub clock_ahead: i64,
    /// The reset that is told is so much later than the true one.
    pub reset_is_late_by: Duration,
}

impl Headers {
    /// Whether they say when a fixed window ends.
    pub(crate) fn tells_ends(&self, window: Duration) -> bool {
        self.reset != Reset::Untold && self.reset_is_late_by < window
    }
}

/// How a reset is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Not at all.
    Untold,
    /// Seconds from now.
    Seconds,
    /// Seconds since 1970.
    Epoch,
}

/// How a time is rounded to whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Never later than the true one.
    Down,
    /// Within half a second.
    Nearest,
    /// Never earlier.
    Up,
}

/// A time in which the provider rejects calls.
#[derive(Clone, Debug)]
pub struct Closed {
    /// From when.
    pub from: Duration,
    /// For how long.
    pub length: Duration,
    /// Which calls.
    pub scope: Scope,
    /// Whether rejections say how long it still lasts.
    pub says_when: bool,
    /// Only the calls of this workload, with rejections that nobody else has seen: they claim an hour.
    pub claimed_by: Option<String>,
}

/// Processes that stand still.
#[derive(Clone, Copy, Debug)]
pub struct Stalls {
    /// A proxy, this often on average; zero: never.
    pub proxy_every: Duration,
    /// The limiter, this often on average; zero: never.
    pub limiter_every: Duration,
    /// The limiter after it has decided a batch of grants and before it sends them, in a million.
    pub after_decision: u64,
    /// A proxy between a grant's arrival and the check, in a million grants.
    pub before_check: u64,
    /// A proxy between the check and the write, in a million grants.
    pub before_write: u64,
    /// For this long at least …
    pub shortest: Duration,
    /// … and at most.
    pub longest: Duration,
}

/// What dies, and how often on average; zero: never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A proxy, which is followed by another.
    pub proxy_crash: Duration,
    /// The limiter's process, which restarts on its node.
    pub limiter_crash: Duration,
    /// A limiter that has restarted dies again before all proxies are back, in a million restarts.
    pub limiter_crash_again: u64,
    /// A limiter that restarts has lost its ledger, in a million restarts.
    pub ledger_loss: u64,
    /// The limiter's process, once, at this time.
    pub limiter_crash_at: Option<Duration>,
    /// The limiter's node stands still for longer than its lease, or dies.
    pub failover: Duration,
    /// The same, once, at this time.
    pub failover_at: Option<Duration>,
    /// A connection between a proxy and the limiter.
    pub connection_loss: Duration,
    /// A proxy's way to the limiter, for a while.
    pub partition: Duration,
    /// The node of half of the pods, once, at this time; they come back elsewhere.
    pub node_loss_at: Option<Duration>,
    /// The first pod finds a limiter that follows another only so much later.
    pub late_hello: Duration,
}

/// The disk of a limiter's ledger.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// How long a commit takes, on average, and a millisecond more; zero: no time at all.
    pub takes: Duration,
    /// Commits that fail, in a million.
    pub fails: u64,
}

impl Disk {
    /// A disk that takes no time and never fails.
    pub const PERFECT: Disk = Disk { takes: Duration::ZERO, fails: 0 };
}

/// What becomes of checkpoints, in a million.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checkpoints {
    /// Requests that take longer than anybody waits for them.
    pub late: u64,
    /// Requests that fail.
    pub fails: u64,
    /// Lost ledgers with which the checkpoint is lost too …
    pub deleted: u64,
    /// … or an older one is put in its place.
    pub rolled_back: u64,
}

/// How the right to grant is passed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    /// A standby takes over when it was not renewed for so long.
    pub length: Duration,
    /// It is renewed this often.
    pub every: Duration,
    /// Proxies find the new limiter within this time.
    pub moves_within: Duration,
    /// Requests to the API server that take up to 8 s each way, in a million.
    pub late: u64,
    /// Connections that lead to a limiter that another has followed, where there is one, in a million.
    pub strays: u64,
    /// A limiter that stands still for longer than its lease finds that its clock has stood still too.
    pub clock_stops: bool,
    /// The API server is cut off from the active limiter, from the standby or from both, this often on average; zero:
    /// never.
    pub cut_every: Duration,
    /// The active limiter is told to end, this often on average; zero: never.
    pub handover: Duration,
    /// Of each step of a handover those that fail, in a million.
    pub handover_cut: u64,
    /// What a limiter goes on granting that can't renew it: this percentage, …
    pub offline_percent: u32,
    /// … for so long after the last renewal.
    pub offline_for: Duration,
}

/// A change of the account in mid-flight.
#[derive(Clone, Debug)]
pub struct Change {
    /// When the limiter gets it.
    pub at: Duration,
    /// When the provider changes its mind.
    pub provider_at: Duration,
    /// The account from then on.
    pub account: AccountConfig,
}

/// What calls that came later than the promise covers may bring with them: each of them one call over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Excused {
    /// Nothing.
    #[default]
    Nothing,
    /// More than the bucket holds; a log remembers them in time.
    Bucket,
    /// Any kind.
    All,
}

/// What a pod that means harm makes of a grant: mostly an answer that nobody gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// Nothing is left of the limit.
    Figures,
    /// A rejection that names a time of less than a minute.
    Pause,
    /// One that names an hour.
    LongPause,
    /// The credential is refused until a person acts.
    Terminal,
    /// The provider takes no more at the same time.
    Concurrency,
    /// None at all: the call is never sent, and never heard of again.
    Silence,
}

/// What has to hold at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expects {
    /// Which calls over the quota there may be.
    pub excused: Excused,
    /// Used of the first limit, in hundredths of a point below the ceiling at most.
    pub below_ceiling_at_most: Option<u64>,
    /// Jain's index over workloads (by weight), in millionths at least.
    pub fair_at_least: Option<u64>,
    /// Rejections by the provider that have to happen at least: a pause that was never tried
    /// proves nothing.
    pub rejections_at_least: u64,
    /// The most calls that may be refused.
    pub refused_at_most: u64,
    /// Used of the first limit by all, in hundredths of a percent at least.
    pub used_at_least: Option<u64>,
    /// Of limits of tokens, the most that may count at any instant by the provider's bucket, in percent: what is held is
    /// learned, and running calls exceed a limit unseen. `None`: nothing may be over.
    pub tokens_peak_at_most: Option<u64>,
    /// Used of the limits of tokens by the provider's count, in hundredths of a percent at least.
    pub tokens_used_at_least: Option<u64>,
    /// The same in each window after the first two, in percent at least.
    pub worst_window_at_least: Option<u64>,
    /// Rejections by the provider in 10,000 calls that came to it, at most.
    pub rejected_at_most: Option<u64>,
    /// The fewest calls that may be refused.
    pub refused_at_least: u64,
    /// The longest that a call may take from ask to answer.
    pub longest_wait_at_most: Option<Duration>,
    /// What each workload gets of its fair share of the first limit, in percent at least.
    pub share_at_least: Option<u64>,
    /// What allocations use.
    pub parts: &'static [Part],
}

/// What an allocation uses in a time, of what is used most: of the first limit of tokens, else of the first limit.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The allocation's name.
    pub allocation: &'static str,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
    /// From and to, in percent of what the limit allows in that time.
    pub percent: (u64, u64),
}
