//! What a proxy tells the programs of its own pod: what is used and left of its quotas, and how one more call would fare.

use std::time::Duration;

use quotakeeper_engine::config::{NANODOLLARS, Unit};
use quotakeeper_engine::{HeldBy, LimitStatus, Outlook, PauseStatus, Turn, WaitingClass};
use serde::{Deserialize, Serialize, Serializer};

use crate::name::QuotaName;

/// The path at the address of base URLs, for `GET`. With `?quota=NAMESPACE/NAME` or `?provider=NAME`, those alone; with
/// `&model=NAME` or `&endpoint=NAME`, for a call of that model or endpoint.
pub const PATH: &str = "/.quotakeeper/headroom";
/// The variable by which a program finds it.
pub const VARIABLE: &str = "QUOTAKEEPER_HEADROOM_URL";

/// The answer: the quotas that the pod draws on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Headroom {
    /// In the order of the pod's annotation.
    pub quotas: Vec<QuotaHeadroom>,
}

/// What is left of one quota, for the pod that asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaHeadroom {
    /// `namespace/name`.
    pub quota: QuotaName,
    /// The provider's name.
    pub provider: String,
    /// Why nothing is known of it, as a sentence without its end; then the rest is missing. Calls wait, as they always do
    /// where nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// The limits that the call would draw on.
    #[serde(default)]
    pub limits: Vec<LimitHeadroom>,
    /// What holds calls, beside limits.
    #[serde(default)]
    pub pauses: Vec<PauseHeadroom>,
    /// One more call, if it asked now.
    #[serde(default)]
    pub next: TurnHeadroom,
    /// Why one more call would be refused at once; none: it would pass, or wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Calls of the pod's workload that wait.
    #[serde(default)]
    pub waiting_calls: u64,
    /// Those that stand in the queue, by what they draw on.
    #[serde(default)]
    pub waiting: Vec<WaitingHeadroom>,
    /// Waiting calls of all workloads.
    #[serde(default)]
    pub all_waiting_calls: u64,
}

/// A limit, in its own unit; of `Dollars`, in dollars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitHeadroom {
    /// Its name.
    pub name: String,
    /// The model, where models are counted apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it counts.
    pub unit: Unit,
    /// What may be used in a window.
    #[serde(serialize_with = "whole")]
    pub amount: f64,
    /// What is used, with what is held for calls under way.
    #[serde(serialize_with = "whole")]
    pub used: f64,
    /// What is left.
    #[serde(serialize_with = "whole")]
    pub remaining: f64,
    /// When all of it is free again, if nothing more is drawn, in seconds.
    pub resets_in_seconds: f64,
}

/// A pause that holds calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseHeadroom {
    /// The provider's reason, or who paused.
    pub reason: String,
    /// How much longer at least, in seconds.
    pub remaining_seconds: f64,
    /// The provider refuses until a person acts.
    pub stopped: bool,
}

/// When a call would be granted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnHeadroom {
    /// Waiting calls whose turns come before.
    pub ahead: u64,
    /// About how long it would wait, in seconds.
    pub wait_seconds: f64,
    /// What it would wait for the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
}

/// Calls of the pod's workload that wait for the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingHeadroom {
    /// Their endpoint, where limits or pauses tell endpoints apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Their model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many they are.
    pub calls: u64,
    /// How long the one that is next has waited, in seconds.
    pub waited_seconds: f64,
    /// The turn of that one.
    #[serde(flatten)]
    pub turn: TurnHeadroom,
}

impl QuotaHeadroom {
    /// A quota of which nothing is known, and why.
    pub fn unavailable(quota: QuotaName, provider: &str, why: String) -> QuotaHeadroom {
        QuotaHeadroom { quota, provider: provider.to_owned(), unavailable: Some(why), ..Default::default() }
    }

    /// What the limiter has said of a quota.
    pub fn of(quota: QuotaName, provider: &str, outlook: Outlook) -> QuotaHeadroom {
        let Outlook { limits, pauses, next, refused, waiting_calls, waiting, all_waiting_calls } = outlook;
        QuotaHeadroom {
            quota,
            provider: provider.to_owned(),
            unavailable: None,
            limits: limits.into_iter().map(LimitHeadroom::from).collect(),
            pauses: pauses.into_iter().map(PauseHeadroom::from).collect(),
            next: next.into(),
            refused,
            waiting_calls,
            waiting: waiting.into_iter().map(WaitingHeadroom::from).collect(),
            all_waiting_calls,
        }
    }
}

impl From<LimitStatus> for LimitHeadroom {
    fn from(limit: LimitStatus) -> LimitHeadroom {
        let scale = if limit.unit == Unit::Dollars { NANODOLLARS as f64 } else { 1.0 };
        let shown = |units: u64| units as f64 / scale;
        LimitHeadroom {
            unit: limit.unit,
            amount: shown(limit.amount),
            used: shown(limit.used),
            remaining: shown(limit.amount.saturating_sub(limit.used)),
            resets_in_seconds: seconds(limit.resets_in),
            name: limit.name,
            model: limit.model,
        }
    }
}

impl From<PauseStatus> for PauseHeadroom {
    fn from(pause: PauseStatus) -> PauseHeadroom {
        PauseHeadroom {
            reason: pause.reason,
            remaining_seconds: seconds(pause.remaining),
            stopped: pause.stopped,
        }
    }
}

impl From<Turn> for TurnHeadroom {
    fn from(turn: Turn) -> TurnHeadroom {
        TurnHeadroom { ahead: turn.ahead, wait_seconds: seconds(turn.wait), held_by: turn.held_by }
    }
}

impl From<WaitingClass> for WaitingHeadroom {
    fn from(class: WaitingClass) -> WaitingHeadroom {
        let WaitingClass { endpoint, model, calls, waited, turn } = class;
        WaitingHeadroom { endpoint, model, calls, waited_seconds: seconds(waited), turn: turn.into() }
    }
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Whole numbers without a fraction.
fn whole<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && *number >= 0.0 && *number < 9e15 {
        return serializer.serialize_u64(*number as u64);
    }
    serializer.serialize_f64(*number)
}
