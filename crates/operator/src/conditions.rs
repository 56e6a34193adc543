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
    pub const WITH_FIXED_SENTENCES: [&str; 3] = [ACCEPTED, PROGRAMMED, READY];
}

/// The reasons of conditions. Those of a refused quota are [`crate::reconcile::Reason`].
pub mod reasons {
    /// `Accepted`: nothing is left out.
    pub const ACCEPTED: &str = "Accepted";
    /// `Accepted`: this version does not enforce all of the tier's limits.
    pub const PARTLY_ENFORCED: &str = "PartlyEnforced";
    /// `Programmed`: the limiter enforces it.
    pub const PROGRAMMED: &str = "Programmed";
    /// `Programmed`: the quota is refused.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// `Programmed`: its document can't be written.
    pub const NOT_WRITTEN: &str = "NotWritten";
    /// `Programmed`: the limiter has not applied it yet.
    pub const PENDING: &str = "Pending";
    /// `Programmed`: the limiter can't apply it.
    pub const REFUSED: &str = "Refused";
    /// `Programmed`: the limiter does not report.
    pub const LIMITER_UNAVAILABLE: &str = "LimiterUnavailable";
    /// `LimiterAvailable`: it reports.
    pub const CONNECTED: &str = "Connected";
    /// `LimiterAvailable`: it has not reported to this leader yet.
    pub const CONNECTING: &str = "Connecting";
    /// `LimiterAvailable`: it has stopped reporting.
    pub const NOT_REPORTING: &str = "NotReporting";
    /// Any condition that rests on the limiter's report: there is none.
    pub const UNKNOWN: &str = "Unknown";
    /// `ProviderAvailable`: nothing says otherwise.
    pub const AVAILABLE: &str = "Available";
    /// `ProviderAvailable`: it says that it is overloaded.
    pub const OVERLOADED: &str = "Overloaded";
    /// `ProviderAvailable`: it refuses calls until a person acts.
    pub const STOPPED: &str = "Stopped";
    /// `LimitsInSync`: no response contradicts the declared limits.
    pub const IN_SYNC: &str = "InSync";
    /// `LimitsInSync`: no tier is declared, and answers tell the limits.
    pub const TIER_LEARNED: &str = "TierLearned";
    /// `LimitsInSync`: no tier is declared, and no answer has told the limits.
    pub const TIER_UNKNOWN: &str = "TierUnknown";
    /// `LimitsInSync`: the provider reports lower limits.
    pub const LOWER_LIMITS: &str = "LowerLimits";
    /// `Throttled`, `Ready`: every call passes, whatever the limits.
    pub const GATE_OPEN: &str = "GateOpen";
    /// `Throttled`: the quota's calls pass.
    pub const DISABLED: &str = "Disabled";
    /// `Throttled`: the provider refuses calls until a person acts.
    pub const PROVIDER_STOPPED: &str = "ProviderStopped";
    /// `Throttled`: the provider is overloaded.
    pub const PROVIDER_OVERLOADED: &str = "ProviderOverloaded";
    /// `Throttled`: the provider has rejected calls.
    pub const PROVIDER_PAUSED: &str = "ProviderPaused";
    /// `Throttled`: a budget is used up.
    pub const BUDGET_EXHAUSTED: &str = "BudgetExhausted";
    /// `Throttled`: a limit is closed, because it is not known what was used of it.
    pub const USAGE_UNKNOWN: &str = "UsageUnknown";
    /// `UsageKnown`: the account is new, so nothing is assumed to be used.
    pub const NEW_ACCOUNT: &str = "NewAccount";
    /// `UsageKnown`: all use counts that the limiter's ledger has.
    pub const RECORDED: &str = "Recorded";
    /// `UsageKnown`: nothing is assumed any more.
    pub const LEARNED: &str = "Learned";
    /// `UsageKnown`: the limiter's ledger was lost.
    pub const LEDGER_LOST: &str = "LedgerLost";
    /// `UsageKnown`: it is not recorded whether the account is new.
    pub const NOT_RECORDED: &str = "NotRecorded";
    /// `Throttled`: calls wait for their turn.
    pub const QUEUEING: &str = "Queueing";
    /// `Throttled`: no call waits for long.
    pub const NOT_THROTTLED: &str = "NotThrottled";
    /// `Ready`: accepted and enforced.
    pub const READY: &str = "Ready";
}

/// The condition of a type.
pub fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition of a type, if it has this reason.
pub fn with_reason<'c>(conditions: &'c [Condition], type_: &str, reason: &str) -> Option<&'c Condition> {
    find(conditions, type_).filter(|condition| condition.reason == reason)
}
