//! The messages of a session, in both directions.
//!
//! A session belongs to one proxy and serves all accounts that its pod draws on. Messages of
//! one direction keep their order while a connection lasts; a lost connection loses any suffix
//! of them, and [`Hello`] repeats what the limiter must know of the time before.

use std::time::Duration;

use quotakeeper_engine::cost::{Amount, Costs, Demand};
use quotakeeper_engine::event::{
    CallClass, CallId, Fingerprint, Observation, RefusalReason, Rejection, Scope, SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};
use serde::{Deserialize, Serialize};

use crate::name::{Consumer, QuotaName};

/// The number of a limiter incarnation: it grows with each takeover and each restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// An account of a session: an index into [`Hello::quotas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountIndex(pub u32);

/// From a proxy: every message carries the proxy's time, read just before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToLimiter {
    /// The proxy's clock.
    pub stamp: Stamp,
    pub body: ProxyMessage,
}

/// A message of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyMessage {
    /// First on every connection.
    Hello(Hello),
    /// The proxy is alive, and some of its answers have grown.
    Heartbeat {
        /// Calls whose answers have grown since the last heartbeat.
        produced: Vec<Produced>,
    },
    /// A call wants to be sent.
    Ask {
        /// Which account it draws on.
        account: AccountIndex,
        /// The proxy's number for it.
        call: CallId,
        details: CallDetails,
        /// How long its client still waits for the answer.
        patience: Option<Duration>,
    },
    /// The call, not granted yet as far as the proxy knows, is not wanted any more.
    Cancel { account: AccountIndex, call: CallId },
    /// What became of a grant.
    Report { account: AccountIndex, call: CallId, attempt: u32, report: Report },
    /// Something that the workload's author should know. Repeated after each hello, since a connection may lose it.
    Notice { account: AccountIndex, notice: Notice },
    /// Asks how one more call would fare. The limiter answers [`LimiterMessage::Outlook`], or not at all when it is
    /// asked too often.
    Look {
        account: AccountIndex,
        /// The proxy's number for it.
        look: u64,
        class: CallClass,
    },
}

impl ProxyMessage {
    /// Nothing else was due; the proxy is alive.
    pub const ALIVE: ProxyMessage = ProxyMessage::Heartbeat { produced: Vec::new() };
}

/// How far the answer of a call has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub account: AccountIndex,
    pub call: CallId,
    /// Counts the call's grants.
    pub attempt: u32,
    /// Output tokens since the answer began.
    pub output: u64,
}

/// Something that the author of a workload should know, as one proxy has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    /// What was seen first, for people: never a header or a part of a body.
    pub detail: String,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NoticeKind {
    /// A request does not say which model it calls.
    UnreadableRequest,
    /// A client does not trust the proxy's CA.
    DistrustedCa,
    /// No call has come through the proxy in its first minute.
    NoCalls,
    /// What calls cost is not known: their answers do not say it.
    UnknownCost,
    /// An answer names another account than the quota's: its figures and rejections are ignored.
    AnotherOrganization,
    /// A kind that a later version knows.
    #[serde(other)]
    Unknown,
}

/// What a proxy knows of a call before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallDetails {
    /// What decides which limits cover it.
    pub class: CallClass,
    /// What its costs are estimated from; `None`: not known. Limits that count calls need none.
    pub size: Option<CallSize>,
    /// What it costs in the provider's own units; if its answer tells that, what is held until then.
    pub credits: u64,
    /// Of its credential, by the key of the welcome; 0: not known.
    pub credential: Fingerprint,
}

impl From<CallClass> for CallDetails {
    fn from(class: CallClass) -> CallDetails {
        CallDetails { class, ..CallDetails::default() }
    }
}

impl CallDetails {
    /// What the call draws: of limits that count calls, one each; of tokens, what its size says.
    pub fn demand(self) -> Demand {
        let costs = Costs { credits: Amount(self.credits), ..Costs::default() };
        Demand { size: self.size, costs, ..self.class.into() }
    }
}

/// What became of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was not written and never will be. With `again`, the call waits for another.
    Unused {
        /// The call still wants to be sent.
        again: bool,
    },
    /// It was written before this time of the proxy's clock.
    Sent {
        /// w, read after the write returned.
        written: Stamp,
    },
    /// Its answer began.
    FirstByte {
        /// f, read after the first byte.
        at: Stamp,
        /// Limits' states from its headers.
        observations: Vec<Observation>,
    },
    /// Its answer is a rejection.
    Rejected {
        /// f, read after the first byte.
        at: Stamp,
        /// Limits' states from its headers.
        observations: Vec<Observation>,
        /// The provider's rejection.
        rejection: Rejection,
        /// The call waits for another grant.
        again: bool,
    },
    /// It is over: read to the end, or given up.
    Done {
        /// Whether the provider may go on.
        end: CallEnd,
        /// What it has used; `None`: not known.
        usage: Option<TokenUsage>,
    },
}

/// The proxy's identity, and the state of its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The proxy's own number, the same on every connection.
    pub session: SessionId,
    /// The workload that the pod belongs to.
    pub consumer: Consumer,
    /// The quotas that it draws on, as people name them; messages refer to them by index.
    pub quotas: Vec<QuotaName>,
    /// The newest limiter incarnation that it has received from.
    pub newest: Epoch,
    /// Attempts that have ended while their last report may not have arrived. They come before
    /// `calls`, which may name the same call again.
    pub ended: Vec<EndedAttempt>,
    /// Every call that is not over.
    pub calls: Vec<LiveCall>,
}

/// An attempt that is over, reported again because the first report may have been lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAttempt {
    pub account: AccountIndex,
    pub call: CallId,
    /// The grant that it used.
    pub grant: GrantRef,
    pub details: CallDetails,
    pub ending: Ending,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was never written.
    Unused,
    /// It was written, and given up before an answer began.
    Sent {
        /// When at the latest.
        written: Stamp,
    },
    /// Its answer was read, or given up.
    Answered {
        /// When the answer began, at the latest.
        at: Stamp,
        /// Whether the provider may go on.
        end: CallEnd,
        /// What it has used; `None`: not known.
        usage: Option<TokenUsage>,
    },
    /// Its answer was a rejection.
    Rejected {
        /// When the answer began, at the latest.
        at: Stamp,
        /// Limits' states from its headers.
        observations: Vec<Observation>,
        /// The provider's rejection.
        rejection: Rejection,
    },
}

/// A call that is not over when a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCall {
    pub account: AccountIndex,
    pub call: CallId,
    pub details: CallDetails,
    pub progress: Progress,
}

/// How far a call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for a grant.
    Waiting {
        /// Grants that it has had.
        attempts: u32,
        /// How long it has waited.
        waited: Duration,
        /// How long its client still waits.
        patience: Option<Duration>,
    },
    /// It holds a grant and is not yet written.
    Granted(GrantRef),
    /// It was written.
    Sent {
        /// The grant that it used.
        grant: GrantRef,
        /// When at the latest.
        written: Stamp,
    },
    /// Its answer has begun.
    Answered {
        /// The grant that it used.
        grant: GrantRef,
        /// When at the latest.
        at: Stamp,
    },
}

/// From the limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToProxy {
    /// The incarnation that sent it. A proxy ignores all but the newest that it has received from.
    pub epoch: Epoch,
    pub body: LimiterMessage,
}

/// A message of the limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimiterMessage {
    /// Answers [`Hello`].
    Welcome {
        /// The validity of grants (D), for all accounts.
        validity: Duration,
        /// The longest silence of a live proxy.
        heartbeat: Duration,
        /// The key of the credentials' fingerprints; `None`: none are wanted.
        fingerprint_key: Option<FingerprintKey>,
    },
    /// A change of an account of the session. After the welcome: the state of each account, then the pauses in
    /// force.
    Account {
        /// An index into [`Hello::quotas`].
        account: AccountIndex,
        /// What has changed.
        update: AccountUpdate,
    },
    /// The call may be written while the proxy's clock shows at most echo + D.
    Grant {
        account: AccountIndex,
        call: CallId,
        /// Counts the call's grants; reports name it.
        attempt: u32,
        /// A stamp of this proxy.
        echo: Stamp,
        /// When it was decided, on the limiter's clock. Opaque to the proxy: its hello repeats it, and a
        /// restarted limiter sees by it whether its ledger can have the grant.
        granted: Time,
    },
    /// The call will not be granted.
    Refuse {
        account: AccountIndex,
        call: CallId,
        reason: RefusalReason,
        /// When another try makes sense.
        retry_after: Option<Duration>,
        /// The provider's word, where it is the reason.
        words: Option<String>,
    },
    /// Answers [`ProxyMessage::Look`].
    Outlook {
        account: AccountIndex,
        look: u64,
        /// An [`Outlook`](quotakeeper_engine::Outlook) as JSON.
        document: String,
    },
}

/// A change of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountUpdate {
    /// Its configuration came into force, changed, or went.
    State(AccountState),
    /// A part of its calls is paused.
    Paused {
        /// The calls that are held.
        scope: Scope,
        /// For how long at least, from now.
        remaining: Duration,
        /// The provider's reason, or who paused.
        reason: String,
    },
    /// A pause is over.
    Resumed {
        /// The calls that were held.
        scope: Scope,
        /// How long they were held.
        paused_for: Duration,
    },
}

/// The key of fingerprints, random for each installation: what a fingerprint was made of can't be guessed without it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FingerprintKey(pub [u8; 32]);

/// Without the key, which no log may hold.
impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey(..)")
    }
}

/// A grant as a proxy names it to a limiter that may be a later incarnation than the one that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRef {
    /// Counts the call's grants, from 1.
    pub attempt: u32,
    /// The incarnation that decided it.
    pub epoch: Epoch,
    /// When it was decided, on the clock of that incarnation.
    pub granted: Time,
}

/// How an account stands, as far as its proxies are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It is in force.
    InForce {
        /// The [`CompiledAccount`](crate::account::CompiledAccount) as JSON.
        document: String,
    },
    /// There is no such account for this pod, now: calls wait until there is.
    Absent {
        /// Why, as a sentence for people.
        reason: String,
    },
}
