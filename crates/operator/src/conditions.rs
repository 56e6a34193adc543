//! The types and reasons of a quota's conditions: what programs compare. The messages stand where each
//! condition is decided.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// `status` of a condition that holds.
pub const TRUE: &str = "True";
/// `status` of a condition that doesn't hold.
pub const FALSE: &str = "False";
/// `status` of a condition that is not known at present.
pub const UNKNOWN: &str = "Unknown";

/// The types of conditions.
pub mod types {
    /// The quota is compiled into an account.
    pub const ACCEPTED: &str = "Accepted";
    /// The limiter enforces this generation.
    pub const PROGRAMMED: &str = "Programmed";
    /// The limiter reports to the operator.
    pub const LIMITER_AVAILABLE: &str = "LimiterAvailable";
    /// The provider answers calls.
    pub const PROVIDER_AVAILABLE: &str = "ProviderAvailable";
    /// The provider reports no lower limits than are declared.
    pub const LIMITS_IN_SYNC: &str = "LimitsInSync";
    /// What had been used of the limits before this limiter began is known.
    pub const USAGE_KNOWN: &str = "UsageKnown";
    /// Calls wait, and why.
    pub const THROTTLED: &str = "Throttled";
    /// The quota is accepted and enforced.
    pub const READY: &str = "Ready";

    /// The conditions whose messages are compared too. The messages of the others hold figures that change all the
    /// time.
    pub const WITH_FIXED_SENTENCES: [&str; 4] = [ACCEPTED, PROGRAMMED, LIMITER_AVAILABLE, READY];
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $word;)+

        /// All of them, each with what it says of which condition.
        pub const ALL: &[(&str, &str)] = &[$(($word, concat!($($doc),+)),)+];
    };
}

/// The reasons of conditions. Those of a refused quota are [`crate::reconcile::Reason`].
pub mod reasons {
    reasons! {
        /// `Accepted`: nothing is left out.
        ACCEPTED = "Accepted";
        /// `Accepted`: this version does not enforce all of the tier's limits.
        PARTLY_ENFORCED = "PartlyEnforced";
        /// `Programmed`: the limiter enforces it.
        PROGRAMMED = "Programmed";
        /// `Programmed`: the quota is refused.
        NOT_ACCEPTED = "NotAccepted";
        /// `Programmed`: its document can't be written.
        NOT_WRITTEN = "NotWritten";
        /// `Programmed`: the limiter has not applied it yet.
        PENDING = "Pending";
        /// `Programmed`: the limiter can't apply it.
        REFUSED = "Refused";
        /// `Programmed`: the limiter does not report.
        LIMITER_UNAVAILABLE = "LimiterUnavailable";
        /// `LimiterAvailable`: it reports.
        CONNECTED = "Connected";
        /// `LimiterAvailable`: it has not reported to this leader yet.
        CONNECTING = "Connecting";
        /// `LimiterAvailable`: it has stopped reporting.
        NOT_REPORTING = "NotReporting";
        /// `LimiterAvailable`: its pod is being replaced, as in an upgrade, and does not report yet.
        BEING_REPLACED = "BeingReplaced";
        /// Any condition that rests on the limiter's report: there is none.
        UNKNOWN = "Unknown";
        /// `ProviderAvailable`: nothing says otherwise.
        AVAILABLE = "Available";
        /// `ProviderAvailable`: it says that it is overloaded.
        OVERLOADED = "Overloaded";
        /// `ProviderAvailable`: it refuses calls until a person acts.
        STOPPED = "Stopped";
        /// `LimitsInSync`: no response contradicts the declared limits.
        IN_SYNC = "InSync";
        /// `LimitsInSync`: no tier is declared, and answers tell the limits.
        TIER_LEARNED = "TierLearned";
        /// `LimitsInSync`: no tier is declared, and no answer has told the limits.
        TIER_UNKNOWN = "TierUnknown";
        /// `LimitsInSync`: the provider reports lower limits.
        LOWER_LIMITS = "LowerLimits";
        /// `Throttled`, `Ready`: every call passes, whatever the limits.
        GATE_OPEN = "GateOpen";
        /// `Throttled`: the quota's calls pass.
        DISABLED = "Disabled";
        /// `Throttled`: a person has paused the quota's calls.
        PAUSED_BY_HAND = "PausedByHand";
        /// `Throttled`: the provider refuses calls until a person acts.
        PROVIDER_STOPPED = "ProviderStopped";
        /// `Throttled`: the provider is overloaded.
        PROVIDER_OVERLOADED = "ProviderOverloaded";
        /// `Throttled`: the provider has rejected calls.
        PROVIDER_PAUSED = "ProviderPaused";
        /// `Throttled`: a budget is used up.
        BUDGET_EXHAUSTED = "BudgetExhausted";
        /// `Throttled`: what counts in windows of an hour or more can't be stored; calls that draw on them wait, or will.
        CHECKPOINTS_UNAVAILABLE = "CheckpointsUnavailable";
        /// `Throttled`: a limit is closed, because it is not known what was used of it.
        USAGE_UNKNOWN = "UsageUnknown";
        /// `UsageKnown`: the account is new, so nothing is assumed to be used.
        NEW_ACCOUNT = "NewAccount";
        /// `UsageKnown`: all use counts that the limiter's ledger has.
        RECORDED = "Recorded";
        /// `UsageKnown`: the limiter's ledger was lost, and its checkpoint has all use of windows of an hour or more.
        CHECKPOINTED = "Checkpointed";
        /// `UsageKnown`: nothing is assumed any more.
        LEARNED = "Learned";
        /// `UsageKnown`: the limiter's ledger was lost.
        LEDGER_LOST = "LedgerLost";
        /// `UsageKnown`: the limiter's ledger was lost, and its checkpoint is missing or was rolled back.
        CHECKPOINT_LOST = "CheckpointLost";
        /// `UsageKnown`: it is not recorded whether the account is new.
        NOT_RECORDED = "NotRecorded";
        /// `Throttled`: calls wait for their turn.
        QUEUEING = "Queueing";
        /// `Throttled`: no call waits for long.
        NOT_THROTTLED = "NotThrottled";
        /// `Ready`: accepted and enforced.
        READY = "Ready";
    }
}

/// The condition of a type.
pub fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition of a type, if it has this reason.
pub fn with_reason<'c>(conditions: &'c [Condition], type_: &str, reason: &str) -> Option<&'c Condition> {
    find(conditions, type_).filter(|condition| condition.reason == reason)
}
