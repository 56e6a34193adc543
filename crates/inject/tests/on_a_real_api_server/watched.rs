//! The cluster as watches see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_inject::policies::{self, Bounds, Policies};
use quotakeeper_inject::view::{Namespace, View};
use quotakeeper_kube_cache::{ObjectCache, Signal, undecoded, watch};
use serde::de::DeserializeOwned;

/// Quotas, providers, namespaces and LimitRanges, each kind watched once.
pub struct Watched {
    quotas: Arc<ObjectCache<Arc<Decoded<ApiQuota>>>>,
    providers: Arc<ObjectCache<Arc<Decoded<ApiProvider>>>>,
    namespaces: Arc<ObjectCache<BTreeMap<String, String>>>,
    limit_ranges: Arc<ObjectCache<Vec<Bounds>>>,
}

/// An object, equal only to itself.
struct Decoded<K>(K);

impl<K> PartialEq for Decoded<K> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

fn decoded<K: DeserializeOwned>(object: DynamicObject) -> Option<Arc<Decoded<K>>> {
    let value = serde_json::to_value(object).unwrap();
    Some(Arc::new(Decoded(serde_json::from_value(value).unwrap())))
}

impl Watched {
    pub fn start(client: Client) -> Arc<Watched> {
        let (signal, all) = (Signal::default(), Config::default());
        let api = undecoded::<ApiQuota>(client.clone());
        let (quotas, filling) = watch(api, all.clone(), "quotas", &signal, |object, _| decoded(object));
        tokio::spawn(filling);
        let api = undecoded::<ApiProvider>(client.clone());
        let (providers, filling) = watch(api, all.clone(), "providers", &signal, |object, _| decoded(object));
        tokio::spawn(filling);
        let api: Api<v1::LimitRange> = Api::all(client.clone());
        let bounds = |range: v1::LimitRange, _: Option<&_>| Some(policies::bounds(&range));
        let (limit_ranges, filling) = watch(api, all.clone(), "LimitRanges", &signal, bounds);
        tokio::spawn(filling);
        let api: Api<PartialObjectMeta<v1::Namespace>> = Api::all(client);
        let labels = |object: PartialObjectMeta<_>, _: Option<&_>| Some(object.labels().clone());
        let (namespaces, filling) = watch(api, all, "namespaces", &signal, labels);
        tokio::spawn(filling);
        Arc::new(Watched { quotas, providers, namespaces, limit_ranges })
    }
}

impl View for Watched {
    fn is_synced(&self) -> bool {
        let others = self.namespaces.is_synced() && self.limit_ranges.is_synced();
        self.quotas.is_synced() && self.providers.is_synced() && others
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        Some(Namespace { name: name.to_owned(), labels: self.namespaces.get(name)? })
    }

    fn policies(&self, namespace: &str) -> Policies {
        let here = |key: &str| key.split_once('/').is_some_and(|(found, _)| found == namespace);
        let bounds = self.limit_ranges.filter_map(|key, bounds| here(key).then(|| bounds.clone()));
        Policies { bounds: bounds.concat(), ..Policies::default() }
    }

    fn quotas(&self) -> Vec<Arc<ApiQuota>> {
        self.quotas.filter_map(|_, quota| Some(Arc::new(quota.0.clone())))
    }

    fn provider(&self, name: &str) -> Option<Profile> {
        let own = self.providers.get(name).map(|provider| provider.0.spec.profile.clone());
        own.or_else(|| catalogue::find(name).ok())
    }
}
