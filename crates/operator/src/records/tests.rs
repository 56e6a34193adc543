//! A record's life: a quota comes, goes, comes again; months pass.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use quotakeeper_api::quota::{ApiQuotaStatus, CheckpointStatus};
use quotakeeper_wire::account::CompiledAccount;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::{DesiredState, StoredDocument, document_name, plan};
use crate::view;

const DAY: i64 = 86_400;

/// A cluster whose operator has settled after each change. Times are days.
#[derive(Default)]
struct Cluster {
    observed: ObservedState,
}

impl Cluster {
    fn apply(&mut self, day: i64, spec: Value) -> Option<CompiledAccount> {
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "crm", "namespace": "gtm", "generation": day + 1, "uid": format!("uid-{day}")},
            "spec": spec,
        });
        let view = view::quota(serde_json::from_value(object).unwrap(), None).unwrap();
        self.observed.quotas.insert("gtm/crm".to_owned(), view);
        self.settle(day)
    }

    /// The status of the quota tells of the checkpoint with this number of an account.
    fn tell(&mut self, day: i64, account: &str, number: i64) -> Option<u64> {
        let view = self.observed.quotas.get_mut("gtm/crm").unwrap();
        let checkpoint = Some(CheckpointStatus { account: account.to_owned(), number });
        view.status = Arc::new(ApiQuotaStatus { checkpoint, ..ApiQuotaStatus::default() });
        self.settle(day).unwrap().checkpoint
    }

    fn delete(&mut self, day: i64) {
        self.observed.quotas.clear();
        self.settle(day);
    }

    /// What the operator does until nothing is left to do; the account that is in force then.
    fn settle(&mut self, day: i64) -> Option<CompiledAccount> {
        let now = at(day);
        let RecordChanges { first, again, over, .. } = changes(&self.observed, &plan(&self.observed), now);
        self.observed.records.extend(first.into_iter().chain(again));
        over.iter().for_each(|name| drop(self.observed.records.remove(name)));
        let desired: DesiredState = plan(&self.observed);
        let settled = changes(&self.observed, &desired, now);
        assert_eq!(RecordChanges { next: None, ..settled }, RecordChanges::default());
        let stored = desired.documents.iter().map(|(name, document)| {
            let (quota, uid, json) =
                (document.quota.clone(), document.uid.clone(), Arc::clone(&document.json));
            let checkpoint = view::checkpoint_of(&json);
            (name.clone(), StoredDocument { quota, uid, json, checkpoint, proper: true })
        });
        self.observed.stored = stored.collect();
        self.observed.stored.values().map(|stored| CompiledAccount::load(&stored.json).unwrap()).next()
    }

    fn records(&self) -> usize {
        self.observed.records.len()
    }
}

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
}

fn hubspot() -> Value {
    json!({"provider": {"name": "hubspot", "tier": "free"}})
}

#[test]
fn a_record_outlives_its_quota_by_forty_days() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.apply(0, hubspot()).unwrap().in_force_since, Some(at(0)));
    cluster.delete(10);
    assert_eq!(cluster.records(), 1);
    assert_eq!(cluster.apply(11, hubspot()).unwrap().in_force_since, Some(at(0)), "delete and apply");
    cluster.delete(20);
    cluster.settle(59);
    assert_eq!(cluster.records(), 1);
    let next = changes(&cluster.observed, &plan(&cluster.observed), at(59)).next;
    assert_eq!(next, Some(at(60)), "the operator wakes by itself");
    cluster.settle(60);
    assert_eq!(cluster.records(), 0);
    assert_eq!(cluster.apply(61, hubspot()).unwrap().in_force_since, Some(at(61)));
}

/// A quota that is applied again has no status, and one that is restored from a backup an older one.
#[test]
fn the_number_of_the_newest_checkpoint_is_never_forgotten() {
    let mut cluster = Cluster::default();
    cluster.apply(0, hubspot());
    assert_eq!(cluster.tell(1, "hubspot/gtm/crm", 7), Some(7));
    assert_eq!(cluster.tell(1, "hubspot/gtm/crm", 5), Some(7));
    assert_eq!(cluster.apply(2, hubspot()).unwrap().checkpoint, Some(7), "replaced before anybody saw it go");
    cluster.delete(3);
    assert_eq!(cluster.apply(4, hubspot()).unwrap().checkpoint, Some(7), "deleted and applied again");
    cluster.observed.stored.clear();
    assert_eq!(cluster.settle(4).unwrap().checkpoint, Some(7));
    let refused = json!({"provider": {"name": "hubspot", "tier": "no-such-tier"}});
    let mut refuse = |number| {
        let spec = refused.clone();
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": "crm", "namespace": "gtm", "generation": 9, "uid": "uid-4"},
            "spec": spec, "status": {"checkpoint": {"account": "hubspot/gtm/crm", "number": number}},
        });
        let view = view::quota(serde_json::from_value(object).unwrap(), None).unwrap();
        cluster.observed.quotas.insert("gtm/crm".to_owned(), view);
        cluster.settle(5).unwrap()
    };
    let in_force = refuse(9);
    assert_eq!((in_force.generation, in_force.checkpoint), (5, Some(9)), "also of what stays in force");
    let record = cluster.observed.records.values().next().unwrap();
    let data = view::record_data(record);
    let map =
        serde_json::from_value(json!({"metadata": {"creationTimestamp": at(0).to_string()}, "data": data}));
    assert_eq!(view::record(&map.unwrap(), None).as_ref(), Some(record), "read as it was written");
}

#[test]
fn the_checkpoint_of_another_account_is_none_of_this_one() {
    let mut cluster = Cluster::default();
    cluster.apply(0, hubspot());
    assert_eq!(cluster.tell(1, "hubspot/portal-1", 7), None);
}

/// Its limits were charged under another key, of which the new one's ledger knows nothing.
#[test]
fn an_account_that_gets_an_id_later_is_not_new() {
    let mut cluster = Cluster::default();
    cluster.apply(0, hubspot());
    let mut spec = hubspot();
    spec["account"] = json!({"id": "portal-1"});
    let moved = cluster.apply(1, spec.clone()).unwrap();
    assert_eq!((moved.key.as_str(), moved.in_force_since), ("hubspot/portal-1", None));
    assert_eq!(cluster.apply(2, spec).unwrap().in_force_since, None, "it stays unknown");
}

#[test]
fn an_account_of_an_earlier_version_is_not_new() {
    let mut cluster = Cluster::default();
    cluster.apply(0, hubspot());
    cluster.observed.records.clear();
    assert_eq!(cluster.settle(1).unwrap().in_force_since, None);
    let record = cluster.observed.records.values().next().unwrap();
    let data = view::record_data(record);
    let map =
        serde_json::from_value(json!({"metadata": {"creationTimestamp": at(1).to_string()}, "data": data}));
    assert_eq!(view::record(&map.unwrap(), None).as_ref(), Some(record), "read as it was written");
}

#[test]
fn a_record_is_named_like_its_account() {
    let record = record_name(&document_name("hubspot/gtm/hubspot"));
    assert_eq!(record, "quotakeeper-record-12b2925426ab432e636c9e9cc703478c");
    let checkpoint = quotakeeper_api::names::of_account(CHECKPOINT_PREFIX, "hubspot/gtm/hubspot");
    assert_eq!(checkpoint_name(&record), checkpoint);
}
