//! The events that an engine receives, and the actions that it returns.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::config::AccountConfig;
use crate::cost::{Amount, Costs, Demand};
use crate::name::{AllocationName, Consumer};
use crate::time::{Stamp, Time};
use crate::tokens::{CallEnd, TokenUsage};

pub use crate::callers::Callers;
pub use crate::scope::{Scope, Selector};

/// A proxy, across its reconnections: a number that it drew when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A call of a session; the proxy counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// One attempt of one call: what a grant is for, and what reports name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The proxy.
    pub session: SessionId,
    /// Its call.
    pub call: CallId,
    /// Counts the grants of this call, from 1. A report of an earlier attempt is ignored.
    pub number: u32,
}

/// The newest sign of life of a session, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The proxy's stamp. It rides in every grant (the echo), and the proxy writes only until
    /// D after it.
    pub stamp: Stamp,
    /// The latest time at which that stamp can have been taken, K(stamp).
    pub latest: Time,
}

/// What of a call decides which limits cover it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallClass {
    /// The profile's endpoint.
    pub endpoint: Option<String>,
    /// The model that the request names.
    pub model: Option<String>,
    /// The allocation of the pod that sends it, as the limiter knows; no proxy names it.
    pub allocation: Option<AllocationName>,
}

/// Distinguishes the credentials of an account's calls without revealing them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// A call that wants to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The proxy.
    pub session: SessionId,
    /// Its call.
    pub call: CallId,
    /// The workload that draws; calls of one consumer share one turn.
    pub consumer: Consumer,
    /// Which limits it draws on, and how much of each.
    pub demand: Demand,
    /// Whose credential it carries; 0: not known, or the account's only one.
    pub credential: Fingerprint,
    /// How long its client waits for the answer, from now on; `None`: as long as the queue allows.
    pub patience: Option<Duration>,
    /// How long it has waited already, at a limiter that is gone.
    pub waited: Duration,
    /// Attempts that were granted to it already, at a limiter that is gone; the next is one more.
    pub attempts: u32,
}

/// How a provider said no, as far as the engine has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// What kind of no.
    pub class: RejectionClass,
    /// Which calls it concerns.
    pub scope: Scope,
    /// A model whose limit the rejected one shares, by the provider's word: its calls are concerned too.
    pub shared_with: Option<String>,
    /// How long the provider asks to wait; `None`: it does not say.
    pub wait: Option<Duration>,
    /// The provider's own word for it, for people.
    pub reason: String,
    /// Distinguishes the organisation that the provider charges; `None`: it does not name it.
    pub organization: Option<Fingerprint>,
}

/// What a rejection means for the calls that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectionClass {
    /// The quota is used up: pause, and send the call again.
    Quota,
    /// Too many calls at the same time: a short pause, and send the call again.
    Concurrency,
    /// The provider is overloaded: a short pause; whether the call is repeated is the proxy's matter.
    Capacity,
    /// No later call will fare better until a person acts (billing, spend cap).
    Terminal,
}

/// What response headers say of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The limit's name.
    pub limit: String,
    /// The amount that the provider has in force.
    pub hard: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// When the window ends and all of it is back, counted from the answer's first byte. Only of a provider that
    /// says when its window ends.
    pub ends_in: Option<Duration>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of a session, with its stamp; comes before the message's own event.
    Heartbeat {
        /// The proxy.
        session: SessionId,
        /// Its stamp, on both clocks.
        pulse: Pulse,
    },
    /// A call wants to be sent.
    Ask(Ask),
    /// The client hung up, or the proxy gave up, before the call was granted.
    Cancel {
        /// The proxy.
        session: SessionId,
        /// Its call.
        call: CallId,
    },
    /// A grant that was not and will not be written.
    Unused {
        /// The attempt.
        attempt: Attempt,
        /// The call waits for another grant; otherwise it is over.
        again: bool,
    },
    /// The request was written at `latest` or before, on the limiter's clock.
    Sent {
        /// The attempt.
        attempt: Attempt,
        /// K(w), w taken after the write.
        latest: Time,
    },
    /// The answer began at `latest` or before: the provider has counted the call.
    FirstByte {
        /// The attempt.
        attempt: Attempt,
        /// K(f).
        latest: Time,
        /// What the answer's headers say.
        observations: Vec<Observation>,
    },
    /// The answer was a rejection. The first byte is in it: no [`Event::FirstByte`] comes as well.
    Rejected {
        /// The attempt.
        attempt: Attempt,
        /// K(f).
        latest: Time,
        /// What the answer's headers say.
        observations: Vec<Observation>,
        /// How the provider said no.
        rejection: Rejection,
        /// The call waits for another grant; otherwise it is over.
        again: bool,
    },
    /// What the call has really drawn is known: its charges are corrected. Comes before [`Event::Done`].
    Settled {
        /// The attempt.
        attempt: Attempt,
        /// What it has drawn of each unit. Slots are held until the end, however many it needed.
        usage: Costs,
    },
    /// So many tokens of output have been produced for the call until now. Repeated reports replace each other.
    Produced {
        /// The attempt.
        attempt: Attempt,
        /// Output tokens since the answer began.
        output: u64,
    },
    /// The call is over: its answer was read to the end, or given up.
    Done {
        /// The attempt.
        attempt: Attempt,
        /// Whether the provider may go on.
        end: CallEnd,
        /// What it has used in tokens; `None`: not known.
        usage: Option<TokenUsage>,
    },
    /// The session's connection is lost. Its waiting calls leave; it may come back.
    Disconnected(SessionId),
    /// The session's pod is dead: it holds nothing any more.
    PodDeleted(SessionId),
    /// A person pauses a part of the account.
    Pause {
        /// Which calls.
        scope: Scope,
        /// For how long.
        length: Duration,
    },
    /// A person ends the pauses of a scope.
    Resume(Scope),
    /// The quota or the profile changed.
    Configure(AccountConfig),
    /// The answer that is reported next tells other limits than were known: nothing is granted before that report.
    Learned(AccountConfig),
    /// A person says how much of a limit was used.
    UseStated(StatedUse),
    /// A calendar's period of a limit has begun, or is open when the limit comes into force.
    PeriodBegun(PeriodBegun),
    /// The right to grant ends at this time unless it is renewed.
    Lease(Time),
    /// The ledger has what [`crate::Engine::snapshot`] gave, and a reserve ahead of it.
    Committed(Reserve),
    /// The checkpoint of the time before the engine: what it grants is to be covered by checkpoints from now on.
    CheckpointRead(CheckpointRead),
    /// What [`crate::Engine::checkpoint`] gave last is stored.
    Checkpointed,
    /// Nobody knows whether it is stored.
    CheckpointFailed,
    /// A call that its proxy holds a grant for, named in a hello.
    ResumeGrant(ResumedGrant),
    /// The session has said hello and named all of its calls.
    ResumeDone(SessionId),
    /// All proxies that a predecessor without a ledger may have granted something have named their calls.
    PredecessorNamed,
    /// The time that [`crate::Engine::next_wake`] named has come.
    Wake,
}

/// How much of a limit the provider had counted, as a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedUse {
    /// The limit's name.
    pub limit: String,
    /// How much was used in the window until `at`, by all clients of the account; of each model, where the limit
    /// counts models apart.
    pub amount: u64,
    /// When that was so, on this engine's clock.
    pub at: Time,
}

/// The calendar's period of a limit that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodBegun {
    /// The limit's name.
    pub limit: String,
    /// What the provider has counted before this time belongs to an earlier period: the period's beginning on this
    /// engine's clock, less what the clocks may stand apart.
    pub begun: Time,
    /// When the next is expected to begin, for forecasts. Only its own event begins it.
    pub ends: Time,
}

/// What was found of an account's checkpoint when its engine began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointRead {
    /// This one.
    Found {
        /// What it holds.
        checkpoint: Checkpoint,
        /// How long it has been stored for, at least.
        age: Duration,
        /// Until when its block may be granted by the one that has stored it.
        granted_until: Time,
    },
    /// There was one, and it is lost: what the ledger does not have is not known.
    Lost,
    /// The one that the engine has begun with was not the newest, so that as little is known.
    RolledBack,
    /// There never was one.
    None,
}

/// A grant that a proxy holds when its connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedGrant {
    /// The attempt.
    pub attempt: Attempt,
    /// The workload that draws.
    pub consumer: Consumer,
    /// Which limits it draws on, and how much of each.
    pub demand: Demand,
    /// Whose credential it carries; 0: not known.
    pub credential: Fingerprint,
    /// When it was decided, on this engine's clock; `None`: on the clock of another node.
    pub granted: Option<Time>,
    /// How far it is.
    pub progress: GrantProgress,
    /// It has ended; how follows at once.
    pub over: bool,
}

/// How far a granted call is that a hello names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantProgress {
    /// Not written yet, as far as the proxy knew, or its result is reported next.
    Granted,
    /// Written at this time or before.
    Sent {
        /// K(w).
        latest: Time,
    },
    /// Its answer, no rejection, began at this time or before.
    Answered {
        /// K(f).
        latest: Time,
    },
}

/// What the ledger has charged ahead of need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reserve {
    /// When the snapshot was taken.
    pub as_of: Time,
    /// How much may be granted of each limit, by its name; nothing of one that is not named …
    pub amounts: BTreeMap<String, Amount>,
    /// … until this time.
    pub horizon: Time,
}

impl Reserve {
    /// Nothing is charged ahead of a snapshot that was taken at this time.
    pub fn nothing(as_of: Time) -> Reserve {
        Reserve { as_of, amounts: BTreeMap::new(), horizon: as_of }
    }

    /// What it has of this limit.
    pub fn of(&self, limit: &str) -> Amount {
        self.amounts.get(limit).copied().unwrap_or_default()
    }
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// Its turn would come after its client has given up.
    WaitTooLong,
    /// Its turn did not come in time.
    WaitExceeded,
    /// As many calls wait as may.
    QueueFull,
    /// The quota refuses instead of queueing.
    QuotaExceeded,
    /// It could not be granted by an account that is all its own.
    NeverFits,
    /// The provider refuses until a person acts.
    ProviderStopped,
    /// A budget is used up for longer than it may wait.
    BudgetExhausted,
}

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The call may be sent now, until D after the echo on the proxy's clock.
    Grant {
        /// The attempt that reports name.
        attempt: Attempt,
        /// The newest stamp of the session that the decision rests on.
        echo: Stamp,
    },
    /// The call will not be granted.
    Refuse {
        /// The proxy.
        session: SessionId,
        /// Its call.
        call: CallId,
        /// Why.
        reason: RefusalReason,
        /// When another try makes sense; `None`: not by waiting.
        retry_after: Option<Duration>,
        /// The provider's word, where it is the reason; of one that never fits or of a budget, the figures.
        words: Option<String>,
    },
    /// A scope is paused, or its pause has been prolonged.
    Paused {
        /// Which calls.
        scope: Scope,
        /// Whose.
        callers: Callers,
        /// Until when at the earliest.
        until: Time,
        /// The provider's word, or who paused.
        reason: String,
    },
    /// A scope's pause is over: a probe was accepted.
    Resumed {
        /// Which calls.
        scope: Scope,
        /// Whose.
        callers: Callers,
        /// How long it was paused.
        paused_for: Duration,
    },
}
