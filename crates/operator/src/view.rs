//! What is kept of the objects that are watched. One that can't be read is kept as its mistakes: it
//! must not stop the watch of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::ResourceExt;
use kube::api::{DynamicObject, PartialObjectMeta};
use quotakeeper_api::quota::ApiQuotaStatus;
use quotakeeper_api::{compile, validate};
use quotakeeper_dialects::Profile;
use quotakeeper_wire::account::{DOCUMENT, LABEL};
use serde_json::{Value, json};

use crate::object_cache::key;
use crate::reconcile::{QuotaView, Stored};

/// On a document: the quota that it was compiled from, `namespace/name`.
pub const QUOTA: &str = "quotakeeper.dev/quota";
/// On a document: that quota's UID.
pub const QUOTA_UID: &str = "quotakeeper.dev/quota-uid";

/// A quota.
pub fn quota(object: DynamicObject) -> Option<QuotaView> {
    let name = key(&object);
    let metadata = &object.metadata;
    let document = json!({
        "apiVersion": "quotakeeper.dev/v1alpha1",
        "kind": "ApiQuota",
        "metadata": {"name": metadata.name, "namespace": metadata.namespace},
        "spec": object.data["spec"],
    });
    let generation = metadata.generation.unwrap_or(0);
    let quota = validate::quota(&document).map(|mut quota| {
        quota.metadata.generation = Some(generation);
        quota
    });
    let key = match &quota {
        Ok(quota) => Some(compile::key(quota)),
        Err(_) => raw_key(&object.data["spec"], &name),
    };
    let status: ApiQuotaStatus = serde_json::from_value(object.data["status"].clone()).unwrap_or_default();
    Some(QuotaView {
        uid: metadata.uid.clone().unwrap_or_default(),
        generation,
        created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        quota: Arc::new(quota),
        key,
        status: Arc::new(status),
    })
}

/// The account's key of a quota that is wrong elsewhere.
fn raw_key(spec: &Value, name: &str) -> Option<String> {
    let provider = spec["provider"]["name"].as_str()?;
    Some(format!("{provider}/{}", spec["account"]["id"].as_str().unwrap_or(name)))
}

/// A provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderView {
    /// Its profile, or why it can't be read.
    pub profile: Arc<Result<Profile, String>>,
    /// Labels, annotations and spec, as they are.
    pub raw: Arc<Value>,
}

/// A provider.
pub fn provider(object: DynamicObject) -> Option<ProviderView> {
    let spec = object.data["spec"].clone();
    let raw = json!({
        "metadata": {"labels": object.labels(), "annotations": object.annotations()},
        "spec": spec,
    });
    let profile = serde_json::from_value(spec).map_err(|error| error.to_string());
    Some(ProviderView { profile: Arc::new(profile), raw: Arc::new(raw) })
}

/// The labels of a namespace.
pub fn namespace(object: PartialObjectMeta<Namespace>) -> Option<BTreeMap<String, String>> {
    Some(object.labels().clone())
}

/// A document; `owner` is the UID that its owner should have.
pub fn document(map: ConfigMap, owner: Option<&str>) -> Option<Stored> {
    let annotation = |name: &str| map.annotations().get(name).cloned().unwrap_or_default();
    let owned = owner.is_none_or(|uid| map.owner_references().iter().any(|owner| owner.uid == uid));
    let labelled = map.labels().get(LABEL.0).is_some_and(|value| value == LABEL.1);
    Some(Stored {
        quota: annotation(QUOTA),
        uid: annotation(QUOTA_UID),
        json: map.data.as_ref().and_then(|data| data.get(DOCUMENT)).cloned().unwrap_or_default().into(),
        proper: owned && labelled,
    })
}

/// The entries of a Secret that are text.
pub fn secret(secret: Secret) -> Option<BTreeMap<String, String>> {
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
