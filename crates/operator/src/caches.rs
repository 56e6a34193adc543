//! Everything that the operator watches, on every replica: each kind of object once. Reconciling,
//! admission and Events all read these caches.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, Pod, ResourceQuota, Secret};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::watcher::Config;
use kube::{Client, Resource};
use quotakeeper_api::names::{
    CONFIG, CONFIG_ACCOUNT, CONFIG_RECORD, LIMITER_CA_SECRET, LIMITER_SECRET, WEBHOOK_CONFIGURATION,
    WEBHOOK_SECRET,
};
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_inject::policies::{self, Bounds, Policies};
use quotakeeper_kube_cache::{ObjectCache, Signal, undecoded, watch};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::certificates::Entries;
use crate::cluster::Cluster;
use crate::pods::{self, PodView};
use crate::reconcile::{ObservedState, QuotaView, StoredDocument};
use crate::records::AccountRecord;
use crate::view::{self, ProviderView};

/// What is known of the cluster.
#[derive(Debug)]
pub struct Caches {
    /// Notifies when what is in force may have changed.
    pub configured: Signal,
    /// Notifies when a certificate, or who trusts it, has changed.
    pub trusted: Signal,
    /// Notifies when pods are created, changed or deleted.
    pub peopled: Signal,
    /// All pods that have not ended, and of the limiter also those that are being deleted.
    pub pods: Arc<ObjectCache<PodView>>,
    /// All quotas.
    pub quotas: Arc<ObjectCache<QuotaView>>,
    /// All providers.
    pub providers: Arc<ObjectCache<ProviderView>>,
    /// The labels of all namespaces.
    pub namespaces: Arc<ObjectCache<BTreeMap<String, String>>>,
    /// The documents for the limiter.
    pub documents: Arc<ObjectCache<StoredDocument>>,
    /// The records of accounts.
    pub records: Arc<ObjectCache<AccountRecord>>,
    /// The limiter's certificate.
    pub limiter_secret: Arc<ObjectCache<Entries>>,
    /// The Secret with the keys of the limiter's CAs.
    pub limiter_ca: Arc<ObjectCache<Entries>>,
    /// The webhook's certificate.
    pub webhook_secret: Arc<ObjectCache<Entries>>,
    /// The CAs by which the API server trusts the webhook.
    pub webhooks: Arc<ObjectCache<BTreeMap<String, String>>>,
    /// What namespaces demand of a container.
    pub policies: PolicyCaches,
}

/// What namespaces demand of a container. Where the operator may not read it, nothing is known to be demanded.
#[derive(Debug)]
pub struct PolicyCaches {
    /// The bounds of all LimitRanges.
    limit_ranges: Arc<ObjectCache<Vec<Bounds>>>,
    /// Whether CPU limits are counted, of all ResourceQuotas.
    resource_quotas: Arc<ObjectCache<bool>>,
}

impl PolicyCaches {
    fn watch(client: &Client, tasks: &mut JoinSet<()>) -> PolicyCaches {
        let (ranges, quotas) =
            (Api::<LimitRange>::all(client.clone()), Api::<ResourceQuota>::all(client.clone()));
        // Read when a pod is created, and by nobody before.
        let mut watches = Watches { signal: &Signal::default(), tasks };
        PolicyCaches {
            limit_ranges: watches
                .start(ranges, Config::default(), "LimitRanges", |range, _| Some(policies::bounds(&range))),
            resource_quotas: watches.start(quotas, Config::default(), "ResourceQuotas", |quota, _| {
                Some(policies::counts_cpu_limits(&quota))
            }),
        }
    }

    /// Those of a namespace.
    pub fn of(&self, namespace: &str) -> Policies {
        let here = |key: &str| key.split_once('/').is_some_and(|(found, _)| found == namespace);
        let bounds = self.limit_ranges.filter_map(|key, bounds| here(key).then(|| bounds.clone()));
        let counting = self.resource_quotas.filter_map(|key, counts| (here(key) && *counts).then_some(()));
        Policies { bounds: bounds.concat(), counts_cpu_limits: !counting.is_empty() }
    }
}

impl Caches {
    /// Whether the limiter's pod is being replaced, as in an upgrade.
    pub fn limiter_is_replaced(&self, namespace: &str, now: Timestamp) -> bool {
        !self.pods.filter_map(|_, pod| pod.replaces_limiter(namespace, now).then_some(())).is_empty()
    }

    /// Begins to watch; the tasks end with `tasks`.
    pub fn watch(cluster: &Cluster, tasks: &mut JoinSet<()>) -> Caches {
        let (configured, trusted, peopled) = (Signal::default(), Signal::default(), Signal::default());
        let client = &cluster.client;
        let policies = PolicyCaches::watch(client, tasks);
        let owner = cluster.owner.as_ref().map(|owner| owner.uid.clone());
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &cluster.namespace);
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let pods: Api<PartialObjectMeta<Pod>> = Api::all(client.clone());
        let (quotas, providers) =
            (undecoded::<ApiQuota>(client.clone()), undecoded::<ApiProvider>(client.clone()));
        let all = Config::default;
        let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
        let labelled = |value: &str| Config::default().labels(&format!("{CONFIG}={value}"));
        // Of ended pods there can be many; a pod that ends is reported as deleted.
        let living = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let mut on_configured = Watches { signal: &configured, tasks: &mut *tasks };
        let quotas = on_configured.start(quotas, all(), "quotas", view::quota);
        let providers = on_configured.start(providers, all(), "providers", view::provider);
        let namespaces = on_configured.start(namespaces, all(), "namespaces", |it, _| view::namespace(it));
        let document_owner = owner.clone();
        let documents =
            on_configured.start(maps.clone(), labelled(CONFIG_ACCOUNT), "documents", move |map, _| {
                view::document(map, document_owner.as_deref())
            });
        let records =
            on_configured.start(maps, labelled(CONFIG_RECORD), "records of accounts", move |map, _| {
                view::record(&map, owner.as_deref())
            });
        let mut on_trusted = Watches { signal: &trusted, tasks: &mut *tasks };
        let (of_limiter, of_webhook) = (named(LIMITER_SECRET), named(WEBHOOK_SECRET));
        let limiter_secret =
            on_trusted.start(secrets.clone(), of_limiter, "the limiter's certificate", view::secret);
        let limiter_ca =
            on_trusted.start(secrets.clone(), named(LIMITER_CA_SECRET), "the limiter's CA", view::secret);
        let webhook_secret = on_trusted.start(secrets, of_webhook, "the webhook's certificate", view::secret);
        let webhooks = on_trusted.start(
            webhooks,
            named(WEBHOOK_CONFIGURATION),
            "the webhook's configuration",
            |configuration, _| view::webhooks(configuration),
        );
        let mut on_peopled = Watches { signal: &peopled, tasks };
        let pods = on_peopled.start(pods, living, "pods", |pod, _| pods::view(pod));
        Caches {
            configured,
            trusted,
            peopled,
            pods,
            quotas,
            providers,
            namespaces,
            documents,
            records,
            limiter_secret,
            limiter_ca,
            webhook_secret,
            webhooks,
            policies,
        }
    }

    /// All that decides what is in force; none before it is known.
    pub fn observed_state(&self) -> Option<ObservedState> {
        let providers = self.providers.all()?.into_iter();
        Some(ObservedState {
            quotas: self.quotas.all()?,
            providers: providers.map(|(name, provider)| (name, provider.profile)).collect(),
            namespaces: self.namespaces.all()?,
            stored: unprefixed(self.documents.all()?),
            records: unprefixed(self.records.all()?),
        })
    }

    /// What is not known yet, for people.
    pub fn missing(&self) -> Vec<&'static str> {
        let caches = [
            (self.quotas.is_synced(), self.quotas.what()),
            (self.providers.is_synced(), self.providers.what()),
            (self.namespaces.is_synced(), self.namespaces.what()),
            (self.documents.is_synced(), self.documents.what()),
            (self.records.is_synced(), self.records.what()),
            (self.webhook_secret.is_synced(), self.webhook_secret.what()),
            (self.webhooks.is_synced(), self.webhooks.what()),
        ];
        caches.into_iter().filter(|(synced, _)| !synced).map(|(_, what)| what).collect()
    }
}

/// What ConfigMaps hold by their names alone: all are in one namespace.
fn unprefixed<T>(views: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let named = |(key, view): (String, T)| (key.rsplit('/').next().unwrap_or(&key).to_owned(), view);
    views.into_iter().map(named).collect()
}

/// Starts watches that notify one signal.
struct Watches<'a> {
    signal: &'a Signal,
    tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    fn start<K, T>(
        &mut self,
        api: Api<K>,
        config: Config,
        what: &'static str,
        view: impl Fn(K, Option<&T>) -> Option<T> + Send + 'static,
    ) -> Arc<ObjectCache<T>>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        T: Clone + PartialEq + Send + 'static,
    {
        let (cache, filling) = watch(api, config, what, self.signal, view);
        self.tasks.spawn(filling);
        cache
    }
}
