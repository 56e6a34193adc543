//! The records of accounts: since when each is in force in this installation. By them a limiter whose ledger is lost
//! tells an account that is new from one on which limiters before it have granted.
//!
//! A record is a ConfigMap beside the account's document, named by the account's key. The API server dates it, so that
//! no clock of a node matters. It outlives its quota, so that deleting a quota and applying it again forgets nothing,
//! and goes 40 days later, when nothing counts any more. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quotakeeper_api::names::{ACCOUNT_PREFIX, CHECKPOINT_PREFIX, RECORD_PREFIX};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::AccountKey;

use crate::reconcile::{DesiredState, ObservedState};

/// How long a record outlives its quota: longer than any window of a month.
const OUTLIVES: SignedDuration = SignedDuration::from_hours(40 * 24);

/// The record of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The account's key.
    pub key: AccountKey,
    /// Since when the account is in force; `None`: since a time before records were kept, or under another key.
    pub since: Option<Timestamp>,
    /// Since when no quota has it.
    pub ended: Option<Timestamp>,
    /// The number of its newest checkpoint when its last quota was deleted: while it has a quota its document tells.
    pub checkpoint: Option<u64>,
    /// Its labels and owner are as they should be.
    pub proper: bool,
}

/// What has to be written of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordChanges {
    /// Records of accounts that come into force, by the name of their ConfigMap: before the accounts' documents.
    pub first: BTreeMap<String, AccountRecord>,
    /// Records to be written again: those of accounts that lose their quota before their documents are removed.
    pub again: BTreeMap<String, AccountRecord>,
    /// Records whose time is over.
    pub over: Vec<String>,
    /// When the next one's time is over.
    pub next: Option<Timestamp>,
}

/// The name of the ConfigMap that holds the record of the account with this document.
pub fn record_name(document_name: &str) -> String {
    format!("{RECORD_PREFIX}{}", document_name.strip_prefix(ACCOUNT_PREFIX).unwrap_or(document_name))
}

/// The name of the ConfigMap that holds the document of the account with this record.
pub fn account_name(record_name: &str) -> String {
    format!("{ACCOUNT_PREFIX}{}", record_name.strip_prefix(RECORD_PREFIX).unwrap_or(record_name))
}

/// The name of the ConfigMap in which the limiter stores what counts in long windows of the account with this record.
pub fn checkpoint_name(record_name: &str) -> String {
    format!("{CHECKPOINT_PREFIX}{}", record_name.strip_prefix(RECORD_PREFIX).unwrap_or(record_name))
}

/// What has to be written so that the records fit what is to be in force.
pub fn changes(observed: &ObservedState, desired: &DesiredState, now: Timestamp) -> RecordChanges {
    let mut changes = RecordChanges::default();
    for (document_name, document) in &desired.documents {
        let name = record_name(document_name);
        match observed.records.get(&name) {
            None => {
                let Ok(account) = CompiledAccount::load(&document.json) else { continue };
                // In force without a record, or moved here from another key: it is not new.
                let known = observed.stored.iter().all(|(stored_name, stored)| {
                    stored_name != document_name && stored.quota != document.quota
                });
                let record = AccountRecord {
                    key: account.key,
                    since: known.then_some(now),
                    ended: None,
                    checkpoint: None,
                    proper: true,
                };
                changes.first.insert(name, record);
            }
            Some(record) if record.ended.is_some() || !record.proper => {
                changes.again.insert(name, AccountRecord { ended: None, proper: true, ..record.clone() });
            }
            Some(_) => {}
        }
    }
    let in_force: Vec<String> = desired.documents.keys().map(|name| record_name(name)).collect();
    for (name, record) in observed.records.iter().filter(|(name, _)| !in_force.contains(name)) {
        let end = record.ended.unwrap_or(now).saturating_add(OUTLIVES).unwrap_or(Timestamp::MAX);
        if end <= now {
            changes.over.push(name.clone());
            continue;
        }
        changes.next = Some(changes.next.map_or(end, |next| next.min(end)));
        let stored = observed.stored.get(&account_name(name)).and_then(|stored| stored.checkpoint);
        let checkpoint = record.checkpoint.max(stored);
        if record.ended.is_none() || !record.proper || checkpoint != record.checkpoint {
            let ended = record.ended.or(Some(now));
            let record = AccountRecord { ended, checkpoint, proper: true, ..record.clone() };
            changes.again.insert(name.clone(), record);
        }
    }
    changes
}

#[cfg(test)]
mod tests;
