//! What the ledger stores of an account, and what a restarted limiter knows from it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quotakeeper_engine::Snapshot;
use quotakeeper_engine::event::{Reserve, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::StatedUse;
use quotakeeper_wire::message::Epoch;
use quotakeeper_wire::name::AccountKey;
use serde::{Deserialize, Serialize};

use crate::learned::LearnedLimits;
use crate::state::OpenPeriod;

/// What the ledger stores of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was charged.
    pub snapshot: Snapshot,
    /// What might be granted beyond it.
    pub reserve: Reserve,
    /// The UIDs of the pods that the snapshot's sessions belong to. A pod that was deleted while no limiter
    /// ran is missing when the pods are listed.
    pub pods: BTreeMap<SessionId, String>,
    /// What people have stated of its use, by limit: it is applied once.
    pub stated: BTreeMap<String, StatedUse>,
    /// The days, weeks and months that are open, by limit.
    pub periods: BTreeMap<String, OpenPeriod>,
    /// What answers have told of its limits, where no tier is declared.
    pub learned: LearnedLimits,
}

/// A record that the ledger has to store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRecord {
    /// The account.
    pub account: AccountKey,
    /// What replaces the account's record.
    pub record: Record,
}

/// A ledger that began when others had granted already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostGrants {
    /// When the last of them had ended, on the clock of the ledger's times.
    pub until: Time,
    /// The same on the wall clock, by which it is known since when accounts are in force. An account that came into
    /// force later is one that no other limiter can have granted on, so it errs to the late side.
    pub until_wall: Timestamp,
}

/// What is known of the time before a limiter.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// What the ledger has of each account.
    pub records: BTreeMap<AccountKey, Record>,
    /// Accounts of which the ledger has something that this version can't read: what was granted on
    /// them is lost.
    pub unreadable: BTreeSet<AccountKey>,
    /// The limiter that began the ledger: times since then are times of this node's clock.
    pub since: Option<Epoch>,
    /// Until when limiters may have granted whose grants the ledger does not have; `None`: it has all.
    pub lost: Option<LostGrants>,
    /// The same of single accounts, whatever the ledger has.
    pub lost_accounts: BTreeMap<AccountKey, LostGrants>,
    /// The UIDs of pods that were deleted before the accounts of their records came into force.
    pub deleted_pods: BTreeSet<String>,
}

impl Recovered {
    /// The UIDs of all pods that sessions of the time before belong to.
    pub fn pods(&self) -> impl Iterator<Item = &String> {
        self.records.values().flat_map(|record| record.pods.values())
    }

    /// Remembers that a pod is deleted, for the accounts that are not in force yet.
    pub(crate) fn pod_deleted(&mut self, uid: &str) {
        if self.pods().any(|pod| pod == uid) {
            self.deleted_pods.insert(uid.to_owned());
        }
    }
}
