//! The built-in providers as `ApiProvider`s in the cluster.
//!
//! They are ours: what somebody changes of them is put back; what somebody adds beside it stays.
//! An own provider is another object, with `extends`.

use std::collections::BTreeMap;

use kube::api::{Api, ApiResource, DynamicObject};
use quotakeeper_api::names::{API_VERSION, CATALOGUE, CATALOGUE_BUILTIN, CATALOGUE_DIGEST, TIERS};
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_dialects::catalogue;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::cluster::Cluster;
use crate::view::ProviderView;

/// The providers that are not as they should be, by name.
pub fn due(present: &BTreeMap<String, ProviderView>) -> Vec<(&'static str, Value)> {
    let built_in = catalogue::names().into_iter().filter_map(|name| Some((name, object(name)?)));
    built_in
        .filter(|(name, wanted)| {
            let known = present.get(*name).map(|view| &*view.raw);
            known.is_none_or(|known| {
                let parts = ["metadata", "spec"];
                !parts.iter().all(|part| within(&wanted[part], &known[part]))
            })
        })
        .collect()
}

/// Applies them; whether all is done.
pub async fn run(cluster: &Cluster, present: &BTreeMap<String, ProviderView>) -> bool {
    let resource = ApiResource::erase::<ApiProvider>(&());
    let providers: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    let mut done = true;
    for (name, object) in due(present) {
        match cluster.apply("ApiProvider", &providers, name, &object).await {
            Ok(_) => info!(provider = name, "the built-in provider is applied"),
            Err(error) => {
                warn!(provider = name, %error, "the built-in provider can't be applied; trying on");
                done = false;
            }
        }
    }
    done
}

fn object(name: &str) -> Option<Value> {
    // The catalogue's tests read every profile.
    let profile = catalogue::find(name).ok()?;
    let resolved = profile.clone().resolve(|name| catalogue::find(name).ok()).ok()?;
    let tiers: Vec<&str> = resolved.tiers.iter().map(|tier| tier.name.as_str()).collect();
    let spec = serde_json::to_value(profile).ok()?;
    let text = spec.to_string();
    let hex: String =
        digest(&SHA256, text.as_bytes()).as_ref()[..8].iter().map(|it| format!("{it:02x}")).collect();
    Some(json!({
        "apiVersion": API_VERSION,
        "kind": "ApiProvider",
        "metadata": {
            "name": name,
            "labels": {CATALOGUE: CATALOGUE_BUILTIN},
            "annotations": {CATALOGUE_DIGEST: hex, TIERS: tiers.join(", ")},
        },
        "spec": spec,
    }))
}

/// Whether all of `wanted` is in `present`; lists are compared whole, as the API server applies them.
fn within(wanted: &Value, present: &Value) -> bool {
    match (wanted, present) {
        (Value::Object(wanted), Value::Object(present)) => wanted.iter().all(|(name, value)| {
            name == "name" || present.get(name).is_some_and(|other| within(value, other))
        }),
        (wanted, present) => wanted == present,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::view;

    fn applied() -> BTreeMap<String, ProviderView> {
        let objects = catalogue::names().into_iter().map(|name| {
            let object: DynamicObject = serde_json::from_value(object(name).unwrap()).unwrap();
            (name.to_owned(), view::provider(object, None).unwrap())
        });
        objects.collect()
    }

    fn changed(name: &str, change: impl Fn(&mut Value)) -> Vec<&'static str> {
        let mut present = applied();
        let mut raw = (*present[name].raw).clone();
        change(&mut raw);
        present.get_mut(name).unwrap().raw = raw.into();
        due(&present).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_was_applied_is_left_alone() {
        assert!(due(&applied()).is_empty());
        assert_eq!(due(&BTreeMap::new()).len(), catalogue::names().len());
    }

    #[test]
    fn all_tiers_are_in_the_annotation_that_kubectl_shows() {
        let tiers = object("openai").unwrap()["metadata"]["annotations"][TIERS].clone();
        assert_eq!(tiers, "free, tier-1, tier-2, tier-3, tier-4, tier-5");
    }

    #[test]
    fn a_change_is_put_back_and_an_addition_stays() {
        assert_eq!(changed("openai", |raw| raw["spec"]["hosts"] = json!(["example.com"])), ["openai"]);
        assert_eq!(changed("openai", |raw| raw["metadata"]["labels"] = json!({})), ["openai"]);
        assert!(changed("demo", |raw| raw["spec"]["organizationHeaders"] = json!(["x-org"])).is_empty());
        let other_version = |raw: &mut Value| raw["metadata"]["annotations"][CATALOGUE_DIGEST] = "0".into();
        assert_eq!(changed("hubspot", other_version), ["hubspot"]);
    }
}
