//! The records of accounts in the cluster: written before an account's first document, kept after its last.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams};
use quotakeeper_api::names::{CONFIG, CONFIG_RECORD};
use serde_json::json;
use tracing::{info, warn};

use crate::cluster::{Cluster, OwnObject, WriteError};
use crate::reconcile::{ObservedState, plan};
use crate::records::{AccountRecord, RecordChanges, account_name, changes, checkpoint_name, record_name};
use crate::view;

/// The records that this replica has written and that its watch may not have reported yet.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<String, AccountRecord>);

/// What became of the records.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// The accounts that must not come into force, or whose document must stay, because their record could not be
    /// written: by the name of their document the quota and why.
    pub(super) failed: BTreeMap<String, (String, String)>,
    /// When the next record's time is over.
    pub(super) next: Option<Timestamp>,
}

impl Records {
    /// Writes what is missing, and adds it to what is observed.
    pub(super) async fn write(&mut self, cluster: &Cluster, observed: &mut ObservedState) -> Recorded {
        self.0.retain(|name, _| !observed.records.contains_key(name));
        observed.records.extend(self.0.clone());
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let desired = plan(observed);
        let RecordChanges { first, again, over, next } = changes(observed, &desired, Timestamp::now());
        let mut failed = BTreeMap::new();
        for (document_name, document) in &desired.documents {
            let name = record_name(document_name);
            let Some(record) = first.get(&name) else { continue };
            match apply(cluster, &name, record).await {
                Ok(written) => {
                    info!(account = %record.key, since = ?written.since, "it is recorded since when the account is in force");
                    self.0.insert(name.clone(), written.clone());
                    observed.records.insert(name, written);
                }
                Err(error) => {
                    warn!(account = %record.key, %error, "the account's record can't be written; trying on");
                    failed.insert(document_name.clone(), (document.quota.clone(), error.to_string()));
                }
            }
        }
        for (name, record) in again {
            match apply(cluster, &name, &record).await {
                Ok(written) => drop(observed.records.insert(name, written)),
                Err(error) => {
                    warn!(account = %record.key, %error, "the account's record can't be written; trying on");
                    let document_name = account_name(&name);
                    let left = observed.stored.get(&document_name).filter(|_| record.ended.is_some());
                    let left = left.map(|left| (document_name, (left.quota.clone(), error.to_string())));
                    failed.extend(left);
                }
            }
        }
        for name in over {
            let checkpoint = checkpoint_name(&name);
            match cluster.write("ConfigMap", maps.delete(&checkpoint, &DeleteParams::default())).await {
                Ok(_) => info!(checkpoint, "the checkpoint of an account without a quota is removed"),
                Err(error) if error.is_missing() => {}
                Err(error) => {
                    // The record stays, so that it is tried again.
                    warn!(checkpoint, %error, "the checkpoint can't be removed; trying on");
                    continue;
                }
            }
            match cluster.write("ConfigMap", maps.delete(&name, &DeleteParams::default())).await {
                Ok(_) => info!(record = name, "the record of an account without a quota is removed"),
                Err(error) if error.is_missing() => {}
                Err(error) => warn!(record = name, %error, "the record can't be removed; trying on"),
            }
        }
        Recorded { failed, next }
    }
}

async fn apply(cluster: &Cluster, name: &str, record: &AccountRecord) -> Result<AccountRecord, WriteError> {
    let own = OwnObject {
        labels: &[(CONFIG, CONFIG_RECORD)],
        annotations: &[],
        content: json!({"data": view::record_data(record)}),
    };
    let written: ConfigMap = cluster.apply_own("ConfigMap", name, own).await?;
    let owner = cluster.owner.as_ref().map(|owner| owner.uid.as_str());
    Ok(view::record(&written, owner).unwrap_or_else(|| record.clone()))
}
