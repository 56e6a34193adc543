//! Everything that the operator watches, on every replica.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::Config;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_wire::account::LABEL;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::certificates::Entries;
use crate::cluster::Cluster;
use crate::object_cache::{ObjectCache, Signal, fill};
use crate::pods::{self, PodView};
use crate::reconcile::{Inputs, QuotaView, Stored};
use crate::view::{self, ProviderView};
use crate::{LIMITER_SECRET, WEBHOOK_CONFIGURATION, WEBHOOK_SECRET};

/// What is known of the cluster.
#[derive(Debug)]
pub struct Caches {
    /// Notifies when what is in force may have changed.
    pub configured: Signal,
    /// Notifies when a certificate, or who trusts it, has changed.
    pub trusted: Signal,
    /// Notifies when pods come, change or go.
    pub peopled: Signal,
    /// All pods that have not ended.
    pub pods: Arc<ObjectCache<PodView>>,
    /// All quotas.
    pub quotas: Arc<ObjectCache<QuotaView>>,
    /// All providers.
    pub providers: Arc<ObjectCache<ProviderView>>,
    /// The labels of all namespaces.
    pub namespaces: Arc<ObjectCache<BTreeMap<String, String>>>,
    /// The documents for the limiter.
    pub documents: Arc<ObjectCache<Stored>>,
    /// The limiter's certificate.
    pub limiter_secret: Arc<ObjectCache<Entries>>,
    /// The webhook's.
    pub webhook_secret: Arc<ObjectCache<Entries>>,
    /// Who trusts it.
    pub webhooks: Arc<ObjectCache<BTreeMap<String, String>>>,
}

impl Caches {
    /// Begins to watch; the tasks end with `tasks`.
    pub fn watch(cluster: &Cluster, tasks: &mut JoinSet<()>) -> Caches {
        let (configured, trusted, peopled) = (Signal::default(), Signal::default(), Signal::default());
        let client = &cluster.client;
        let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
        let ours = Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        let owner = cluster.owner.as_ref().map(|owner| owner.uid.clone());
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &cluster.namespace);
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let pods: Api<PartialObjectMeta<Pod>> = Api::all(client.clone());
        // Of ended pods there can be many; one that ends is told as deleted.
        let living = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        Caches {
            pods: whole(pods, living, "pods", &peopled, tasks, pods::view),
            quotas: custom::<ApiQuota, _>(client, "quotas", &configured, tasks, view::quota),
            providers: custom::<ApiProvider, _>(client, "providers", &configured, tasks, view::provider),
            namespaces: whole(
                namespaces,
                Config::default(),
                "namespaces",
                &configured,
                tasks,
                view::namespace,
            ),
            documents: whole(maps, ours, "documents", &configured, tasks, move |map| {
                view::document(map, owner.as_deref())
            }),
            limiter_secret: whole(
                secrets.clone(),
                named(LIMITER_SECRET),
                "the limiter's certificate",
                &trusted,
                tasks,
                view::secret,
            ),
            webhook_secret: whole(
                secrets,
                named(WEBHOOK_SECRET),
                "the webhook's certificate",
                &trusted,
                tasks,
                view::secret,
            ),
            webhooks: whole(
                webhooks,
                named(WEBHOOK_CONFIGURATION),
                "the webhook's configuration",
                &trusted,
                tasks,
                view::webhooks,
            ),
            configured,
            trusted,
            peopled,
        }
    }

    /// All that decides what is in force; none before it is known.
    pub fn inputs(&self) -> Option<Inputs> {
        let providers = self.providers.all()?.into_iter();
        Some(Inputs {
            quotas: self.quotas.all()?,
            providers: providers.map(|(name, provider)| (name, provider.profile)).collect(),
            namespaces: self.namespaces.all()?,
            stored: self.unprefixed(self.documents.all()?),
        })
    }

    /// What is not known yet, for people.
    pub fn missing(&self) -> Vec<&'static str> {
        let caches = [
            (self.quotas.synced(), self.quotas.what()),
            (self.providers.synced(), self.providers.what()),
            (self.namespaces.synced(), self.namespaces.what()),
            (self.documents.synced(), self.documents.what()),
            (self.webhook_secret.synced(), self.webhook_secret.what()),
            (self.webhooks.synced(), self.webhooks.what()),
        ];
        caches.into_iter().filter(|(synced, _)| !synced).map(|(_, what)| what).collect()
    }

    /// Documents by the names of their ConfigMaps alone: all are in one namespace.
    fn unprefixed(&self, documents: BTreeMap<String, Stored>) -> BTreeMap<String, Stored> {
        let named =
            |(key, stored): (String, Stored)| (key.rsplit('/').next().unwrap_or(&key).to_owned(), stored);
        documents.into_iter().map(named).collect()
    }
}

/// A custom resource, undecoded: one that can't be read must not stop the watch.
fn custom<K, T>(
    client: &Client,
    what: &'static str,
    signal: &Signal,
    tasks: &mut JoinSet<()>,
    view: impl Fn(DynamicObject) -> Option<T> + Send + 'static,
) -> Arc<ObjectCache<T>>
where
    K: Resource<DynamicType = ()>,
    T: Clone + PartialEq + Send + 'static,
{
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    whole(api, Config::default(), what, signal, tasks, view)
}

fn whole<K, T>(
    api: Api<K>,
    config: Config,
    what: &'static str,
    signal: &Signal,
    tasks: &mut JoinSet<()>,
    view: impl Fn(K) -> Option<T> + Send + 'static,
) -> Arc<ObjectCache<T>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Clone + PartialEq + Send + 'static,
{
    let cache = Arc::new(ObjectCache::new(what, signal.clone()));
    tasks.spawn(fill(Arc::clone(&cache), watcher(api, config).default_backoff(), view));
    cache
}
