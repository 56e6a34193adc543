//! The compiled account: a quota and its provider, as the limiter and the proxies read it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quotakeeper_dialects::calendar::Calendar;
use quotakeeper_dialects::profile::{Period, Profile};
use quotakeeper_engine::config::{AccountConfig, CalendarPeriod, PeriodKind};
use quotakeeper_engine::name::AllocationName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::allocation::AllocationPods;
use crate::name::{AccountKey, QuotaName};
use crate::tier::UndeclaredTier;

/// The format that this version writes. A reader refuses newer ones.
pub const FORMAT: u32 = 1;

/// Whose pods may draw on an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Admitted {
    /// Those of every namespace.
    #[default]
    Everyone,
    /// Those of these namespaces.
    Namespaces(BTreeSet<String>),
}

impl Admitted {
    /// Whether pods of `namespace` may draw.
    pub fn admits(&self, namespace: &str) -> bool {
        match self {
            Admitted::Everyone => true,
            Admitted::Namespaces(names) => names.contains(namespace),
        }
    }
}

/// How much of a limit the provider had counted, as a person states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatedUse {
    /// The limit's name.
    pub limit: String,
    /// Units that all clients of the account had used in the window until `at`.
    pub amount: u64,
    /// When that was so.
    pub at: Timestamp,
}

/// One account, ready to be enforced: one JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompiledAccount {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The quota's generation that this was compiled from.
    pub generation: u64,
    /// The account's key.
    pub key: AccountKey,
    /// The quota.
    pub quota: QuotaName,
    /// The tier in force.
    pub tier: String,
    /// What the engine enforces.
    pub engine: AccountConfig,
    /// The tiers that the account may have, where the quota declares none; `tier` and `engine` are as in the lowest.
    /// Proxies are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeclared: Option<UndeclaredTier>,
    /// Limits of the tier that this version does not enforce, by name, with their unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<String>,
    /// What a person should know of the limits, as sentences. Proxies are not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The account as its provider's answers name it; `None`: answers are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Whose pods may draw on it.
    #[serde(default)]
    pub admitted: Admitted,
    /// Whose pods draw on which of its allocations; of several the first. Proxies are not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<AllocationPods>,
    /// When the account first came into force in this installation; `None`: not known. Proxies are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_since: Option<Timestamp>,
    /// The number of the newest checkpoint of its long windows that anybody has reported; `None`: there was none. One
    /// with a lower number was rolled back. Proxies are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// How much of its limits was used, as a person states. Proxies are not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<StatedUse>,
    /// Until when a person has paused its calls; `None`: nobody has. Proxies are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// When a person last had its calls go on, whatever the provider had said before. Proxies are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// The provider's dialect, for the proxy.
    pub profile: Profile,
}

/// The calendar of a limit's period; none: this version does not know its zone.
pub fn calendar(period: &CalendarPeriod) -> Option<Calendar> {
    let kind = match period.kind {
        PeriodKind::Day => Period::Day,
        PeriodKind::Week => Period::Week,
        PeriodKind::Month => Period::Month,
    };
    Calendar::new(kind, &period.time_zone).ok()
}

/// Why a document is not an account that can be enforced.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Not JSON, or not of this class.
    #[error("the account does not read: {0}; compile it again from its quota")]
    Unreadable(#[from] serde_json::Error),
    /// Written by a later version.
    #[error(
        "the account has format {found}, this version reads up to {FORMAT}; upgrade this program before the one that wrote it"
    )]
    Newer {
        /// The document's format.
        found: u32,
    },
    /// It reads, but an engine cannot work with it.
    #[error("the account {key} cannot be enforced: {problems}; correct its quota")]
    Unworkable {
        /// The account's key.
        key: AccountKey,
        /// All that is wrong.
        problems: String,
    },
}

/// What every format has, whatever else it holds.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl CompiledAccount {
    /// The provider's name: the first part of the key.
    pub fn provider(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }

    /// The allocation of a pod of this namespace with these labels: the first that selects it.
    pub fn allocation_of(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<&AllocationName> {
        let first = self.allocations.iter().find(|pods| pods.selects(namespace, labels))?;
        Some(&first.allocation)
    }

    /// Reads an account, and refuses one that this version does not understand entirely.
    ///
    /// # Errors
    /// [`LoadError`], a sentence with what to do.
    pub fn load(json: &str) -> Result<CompiledAccount, LoadError> {
        // The format first: a newer document may have a class that does not read at all.
        let Versioned { format } = serde_json::from_str(json)?;
        if format > FORMAT {
            return Err(LoadError::Newer { found: format });
        }
        let account: CompiledAccount = serde_json::from_str(json)?;
        let problems = account.engine.problems();
        if !problems.is_empty() {
            return Err(LoadError::Unworkable { key: account.key, problems: problems.join("; ") });
        }
        Ok(account)
    }
}
