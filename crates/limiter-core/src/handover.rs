//! What an active limiter hands to the one that follows it by plan: its ledger as of its last grant, and its clock.
//!
//! Whoever hands over grants nothing more under its epoch. So its successor goes on like a limiter that restarts with its
//! ledger: nothing is presumed used, and what is under way is known. That holds only if no other limiter has granted in
//! between, which the epoch in the Lease shows: it must still be the predecessor's when the successor takes it.
//!
//! The times in it are of the predecessor's clock. The successor lets its own clock show, when it receives the handover,
//! what that one showed when it was sent. So it shows no time earlier than the predecessor's clock would have: a call that
//! may have been counted until then has been counted when it shows that, and windows end no sooner.

use std::collections::{BTreeMap, BTreeSet};

use quotakeeper_engine::time::Time;
use quotakeeper_wire::message::Epoch;
use quotakeeper_wire::name::AccountKey;
use serde::{Deserialize, Serialize};

use crate::mutant::{self, Mutant};
use crate::record::{LostGrants, Record, Recovered};
use crate::state::LimiterState;

/// What a successor needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The epoch of the limiter that hands over.
    pub epoch: Epoch,
    /// What its clock showed when it was sent, and not before its last grant.
    pub sent: Time,
    /// The limiter since which all times are of this clock.
    pub since: Epoch,
    /// What limiters before have granted that is in no record.
    pub lost: Option<LostGrants>,
    /// What was charged on each account.
    pub records: BTreeMap<AccountKey, Record>,
    /// Accounts of which something was stored that could not be read.
    pub unreadable: BTreeSet<AccountKey>,
    /// The UIDs of pods that were deleted before the accounts of their records came into force.
    pub deleted_pods: BTreeSet<String>,
}

impl Handover {
    /// What a limiter begins with that takes the Lease from a limiter of `last`, the epoch in it; `None`: another has
    /// granted since, and this is of no use.
    pub fn recovered(self, last: Epoch) -> Option<Recovered> {
        if self.epoch != last && !mutant::active(Mutant::StaleHandover) {
            return None;
        }
        let mut records = self.records;
        if mutant::active(Mutant::HandoverForgetsCalls) {
            records.values_mut().for_each(forget_calls);
        }
        Some(Recovered {
            records,
            unreadable: self.unreadable,
            since: Some(self.since),
            lost: self.lost,
            lost_accounts: BTreeMap::new(),
            deleted_pods: self.deleted_pods,
        })
    }
}

fn forget_calls(record: &mut Record) {
    record.snapshot.calls.clear();
    for counter in &mut record.snapshot.counters {
        counter.units.retain(|unit| unit.counted);
    }
}

impl LimiterState {
    /// What a successor needs. After this the limiter must grant nothing more: it is not to be driven any further.
    pub fn hand_over(&mut self, now: Time) -> Handover {
        let due = self.closing_records(now);
        let Recovered { mut records, unreadable, since, lost, lost_accounts: _, deleted_pods } =
            self.recovered.clone();
        records.extend(due.into_iter().map(|due| (due.account, due.record)));
        let epoch = self.epoch();
        Handover { epoch, sent: now, since: since.unwrap_or(epoch), lost, records, unreadable, deleted_pods }
    }
}
