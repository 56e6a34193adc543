//! The views of the objects that are watched. An object that can't be decoded becomes a view with its
//! mistakes, and admission goes on with its last good state: it must not stop the watch of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::ResourceExt;
use kube::api::{DynamicObject, PartialObjectMeta};
use quotakeeper_api::names::{
    ACCOUNT_DOCUMENT, API_VERSION, CONFIG, CONFIG_ACCOUNT, PAUSED_UNTIL, QUOTA, QUOTA_UID, RESUMED_AT,
};
use quotakeeper_api::quota::ApiQuotaStatus;
use quotakeeper_api::{compile, validate};
use quotakeeper_dialects::Profile;
use quotakeeper_kube_cache::key;
use quotakeeper_wire::name::AccountKey;
use serde_json::{Value, json};

use crate::reconcile::{QuotaView, StoredDocument};
use crate::records::AccountRecord;

/// The entry of a record that names its account.
const RECORD_ACCOUNT: &str = "account";
/// The entry of a record that is not of the time at which its account came into force, and its value.
const RECORD_SINCE: &str = "since";
const RECORD_UNKNOWN: &str = "unknown";
/// The entry of a record with the number of the newest checkpoint when its quota was deleted.
const RECORD_CHECKPOINT: &str = "checkpoint";
/// The entry of a record since when no quota has the account.
const RECORD_ENDED: &str = "ended";

/// A quota.
pub fn quota(object: DynamicObject, before: Option<&QuotaView>) -> Option<QuotaView> {
    let name = key(&object);
    let metadata = &object.metadata;
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": "ApiQuota",
        "metadata": {"name": metadata.name, "namespace": metadata.namespace},
        "spec": object.data["spec"],
    });
    let generation = metadata.generation.unwrap_or(0);
    // Others may be large.
    let by_hand = [PAUSED_UNTIL, RESUMED_AT].into_iter();
    let by_hand = by_hand.filter_map(|name| Some((name.to_owned(), object.annotations().get(name)?.clone())));
    let by_hand: BTreeMap<String, String> = by_hand.collect();
    let quota = validate::quota(&document).map(|mut quota| {
        quota.metadata.generation = Some(generation);
        quota.metadata.annotations = Some(by_hand).filter(|annotations| !annotations.is_empty());
        Arc::new(quota)
    });
    let quota = quota.map_err(Arc::new);
    let decoded = match &quota {
        Ok(quota) => Some(Arc::clone(quota)),
        Err(_) => {
            let decoded = serde_json::from_value(document).ok().map(Arc::new);
            decoded.or_else(|| before?.decoded.clone())
        }
    };
    let key = match &quota {
        Ok(quota) => Some(compile::key(quota)),
        Err(_) => raw_key(&object.data["spec"], &name),
    };
    let status: ApiQuotaStatus = serde_json::from_value(object.data["status"].clone()).unwrap_or_default();
    Some(QuotaView {
        uid: metadata.uid.clone().unwrap_or_default(),
        generation,
        created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: metadata.deletion_timestamp.is_some(),
        quota,
        decoded,
        key,
        status: Arc::new(status),
    })
}

/// The account's key of a quota that is wrong elsewhere.
fn raw_key(spec: &Value, name: &str) -> Option<AccountKey> {
    let provider = spec["provider"]["name"].as_str()?;
    let id = spec["account"]["id"].as_str().unwrap_or(name);
    Some(format!("{provider}/{id}").into())
}

/// A provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderView {
    /// Its profile, or why it can't be decoded.
    pub profile: Arc<Result<Profile, String>>,
    /// Its profile, else the last one that could be decoded: what admission goes by.
    pub decoded: Option<Arc<Profile>>,
    /// Labels, annotations and spec, as they are.
    pub raw: Arc<Value>,
}

/// A provider.
pub fn provider(object: DynamicObject, before: Option<&ProviderView>) -> Option<ProviderView> {
    let spec = object.data["spec"].clone();
    let raw = json!({
        "metadata": {"labels": object.labels(), "annotations": object.annotations()},
        "spec": spec,
    });
    let profile: Result<Profile, String> = serde_json::from_value(spec).map_err(|error| error.to_string());
    let decoded = match &profile {
        Ok(profile) => Some(Arc::new(profile.clone())),
        Err(_) => before.and_then(|before| before.decoded.clone()),
    };
    Some(ProviderView { profile: Arc::new(profile), decoded, raw: Arc::new(raw) })
}

/// The labels of a namespace.
pub fn namespace(object: PartialObjectMeta<Namespace>) -> Option<BTreeMap<String, String>> {
    Some(object.labels().clone())
}

/// A document; `owner` is the UID that its owner should have.
pub fn document(map: ConfigMap, owner: Option<&str>) -> Option<StoredDocument> {
    let annotation = |name: &str| map.annotations().get(name).cloned().unwrap_or_default();
    let owned = owner.is_none_or(|uid| map.owner_references().iter().any(|owner| owner.uid == uid));
    let labelled = map.labels().get(CONFIG).is_some_and(|value| value == CONFIG_ACCOUNT);
    let json = map.data.as_ref().and_then(|data| data.get(ACCOUNT_DOCUMENT)).cloned().unwrap_or_default();
    Some(StoredDocument {
        quota: annotation(QUOTA),
        uid: annotation(QUOTA_UID),
        checkpoint: checkpoint_of(&json),
        json: json.into(),
        proper: owned && labelled,
    })
}

/// The number of the checkpoint that an account's document tells of.
pub fn checkpoint_of(json: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Told {
        checkpoint: Option<u64>,
    }
    serde_json::from_str::<Told>(json).ok()?.checkpoint
}

/// The record of an account; `owner` is the UID that its owner should have.
pub fn record(map: &ConfigMap, owner: Option<&str>) -> Option<AccountRecord> {
    let data = map.data.as_ref()?;
    let known = data.get(RECORD_SINCE).is_none_or(|since| since != RECORD_UNKNOWN);
    let created = map.metadata.creation_timestamp.as_ref().map(|time| time.0);
    Some(AccountRecord {
        key: data.get(RECORD_ACCOUNT)?.as_str().into(),
        since: created.filter(|_| known),
        ended: data.get(RECORD_ENDED).and_then(|ended| ended.parse().ok()),
        checkpoint: data.get(RECORD_CHECKPOINT).and_then(|number| number.parse().ok()),
        proper: owner.is_none_or(|uid| map.owner_references().iter().any(|owner| owner.uid == uid)),
    })
}

/// The data of a record's ConfigMap. Its creation says since when the account is in force.
pub fn record_data(record: &AccountRecord) -> BTreeMap<&'static str, String> {
    let mut data = BTreeMap::from([(RECORD_ACCOUNT, record.key.to_string())]);
    if record.since.is_none() {
        data.insert(RECORD_SINCE, RECORD_UNKNOWN.to_owned());
    }
    data.extend(record.ended.map(|ended| (RECORD_ENDED, ended.to_string())));
    data.extend(record.checkpoint.map(|number| (RECORD_CHECKPOINT, number.to_string())));
    data
}

/// The entries of a Secret that are text.
pub fn secret(
    secret: Secret,
    _before: Option<&BTreeMap<String, String>>,
) -> Option<BTreeMap<String, String>> {
    let entries = secret.data.unwrap_or_default().into_iter();
    Some(entries.filter_map(|(name, value)| Some((name, String::from_utf8(value.0).ok()?))).collect())
}

/// The webhooks of a configuration by name, with the CAs in PEM by which the API server knows them.
pub fn webhooks(configuration: MutatingWebhookConfiguration) -> Option<BTreeMap<String, String>> {
    let webhooks = configuration.webhooks.unwrap_or_default().into_iter();
    let bundle = |bundle: k8s_openapi::ByteString| String::from_utf8(bundle.0).unwrap_or_default();
    Some(
        webhooks
            .map(|hook| (hook.name, hook.client_config.ca_bundle.map(bundle).unwrap_or_default()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn quota_with(spec: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "ApiQuota",
            "metadata": {"name": "openai", "namespace": "gtm", "uid": "u"}, "spec": spec,
        }))
        .unwrap()
    }

    fn tier(view: &QuotaView) -> Option<String> {
        view.decoded.as_ref()?.spec.provider.tier.clone()
    }

    #[test]
    fn admission_goes_on_with_the_last_quota_that_could_be_decoded() {
        let good =
            quota(quota_with(json!({"provider": {"name": "openai", "tier": "tier-1"}})), None).unwrap();
        assert!(good.quota.is_ok());
        // Wrong for this version, but decodable.
        let wrong = json!({"provider": {"name": "openai", "tier": "tier-2"}, "sharePercent": 0});
        let wrong = quota(quota_with(wrong), Some(&good)).unwrap();
        assert!(wrong.quota.is_err());
        assert_eq!(tier(&wrong).as_deref(), Some("tier-2"));
        // Of another version, which names the provider differently.
        let later = quota(quota_with(json!({"provider": "openai"})), Some(&wrong)).unwrap();
        assert!(later.quota.is_err());
        assert_eq!(tier(&later).as_deref(), Some("tier-2"));
        assert!(quota(quota_with(json!({"provider": "openai"})), None).unwrap().decoded.is_none());
    }

    #[test]
    fn admission_goes_on_with_the_last_provider_that_could_be_decoded() {
        let object = |spec: Value| -> DynamicObject {
            let metadata = json!({"name": "crm"});
            serde_json::from_value(json!({
                "apiVersion": API_VERSION, "kind": "ApiProvider", "metadata": metadata, "spec": spec,
            }))
            .unwrap()
        };
        let good = provider(object(json!({"hosts": ["crm.example"]})), None).unwrap();
        let later = provider(object(json!({"hosts": "crm.example"})), Some(&good)).unwrap();
        assert!(later.profile.is_err());
        assert_eq!(later.decoded, good.decoded);
        assert!(good.decoded.is_some());
    }
}
