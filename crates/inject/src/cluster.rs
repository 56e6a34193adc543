//! Quotas, providers and namespaces of the cluster, as watches keep them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, future};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use quotakeeper_api::provider::{ApiProvider, ApiProviderSpec};
use quotakeeper_api::quota::{ApiQuota, ApiQuotaSpec};
use quotakeeper_dialects::{Profile, catalogue};

use crate::consumer::Owner;
use crate::view::{Namespace, View};

/// How long the API server may take to say who owns a Job.
const PATIENCE: Duration = Duration::from_secs(1);

/// What reviews rest on.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    quotas: Store<ApiQuota>,
    providers: Store<ApiProvider>,
    namespaces: Store<PartialObjectMeta<v1::Namespace>>,
}

impl Cluster {
    /// The cluster, and what keeps it up to date: to be run as long as the cluster is looked at.
    pub fn watch(client: Client) -> (Cluster, impl Future<Output = ()> + Send + use<>) {
        let (quotas, writer) = reflector::store();
        let events = watch(Api::all(client.clone()), watcher::Config::default());
        let quotas_kept = keep(readable(events, empty_quota), writer);
        let (providers, writer) = reflector::store();
        let events = watch(Api::all(client.clone()), watcher::Config::default());
        let providers_kept = keep(readable(events, empty_provider), writer);
        let (namespaces, writer) = reflector::store();
        let events =
            watch(Api::<PartialObjectMeta<v1::Namespace>>::all(client.clone()), watcher::Config::default());
        let namespaces_kept = keep(events, writer);
        let kept = future::join3(quotas_kept, providers_kept, namespaces_kept).map(|_| ());
        (Cluster::from_stores(client, quotas, providers, namespaces), kept)
    }

    /// The cluster of watches that others keep too.
    pub fn from_stores(
        client: Client,
        quotas: Store<ApiQuota>,
        providers: Store<ApiProvider>,
        namespaces: Store<PartialObjectMeta<v1::Namespace>>,
    ) -> Cluster {
        Cluster { client, quotas, providers, namespaces }
    }

    /// Whether everything has been read once.
    pub fn is_synced(&self) -> bool {
        fn synced<K>(store: &Store<K>) -> bool
        where
            K: reflector::Lookup + Clone + 'static,
            K::DynamicType: Eq + Hash + Clone,
        {
            store.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok())
        }
        synced(&self.quotas) && synced(&self.providers) && synced(&self.namespaces)
    }

    /// The namespace of that name, where it has been seen.
    pub fn namespace(&self, name: &str) -> Option<Namespace> {
        let found = self.namespaces.get(&ObjectRef::new(name))?;
        let labels: BTreeMap<String, String> = found.labels().clone();
        Some(Namespace { name: name.to_owned(), labels })
    }

    /// The controller of a Job, where it has one. The Job alone is the answer where the API server has none in time.
    pub(crate) async fn owner_of_job(&self, namespace: &str, job: &str) -> Option<Owner> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        match tokio::time::timeout(PATIENCE, jobs.get_metadata(job)).await {
            Ok(Ok(found)) => {
                let mut references = found.metadata.owner_references.into_iter().flatten();
                let owner = references.find(|reference| reference.controller == Some(true))?;
                Some(Owner { kind: owner.kind, name: owner.name })
            }
            Ok(Err(error)) => {
                tracing::warn!(namespace, job, %error, "the Job can't be read, and stands for its own controller");
                None
            }
            Err(_) => {
                tracing::warn!(
                    namespace,
                    job,
                    "the Job is not read in time, and stands for its own controller"
                );
                None
            }
        }
    }
}

impl Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("synced", &self.is_synced()).finish_non_exhaustive()
    }
}

impl View for Cluster {
    fn quotas(&self) -> Vec<Arc<ApiQuota>> {
        self.quotas.state()
    }

    fn profile(&self, provider: &str) -> Result<Profile, String> {
        // The catalogue becomes ApiProviders too, but a moment after the first start.
        let find = |name: &str| {
            let own = self.providers.get(&ObjectRef::new(name)).map(|provider| provider.spec.profile.clone());
            own.or_else(|| catalogue::find(name).ok())
        };
        let found = find(provider).ok_or_else(|| {
            format!("the ApiProvider {provider} does not exist; create it, or name another in the quota")
        })?;
        found.resolve(find).map_err(|error| format!("of the ApiProvider {provider}, {error}"))
    }
}

/// Writes what a watch tells into a store, for ever.
async fn keep<K>(events: impl Stream<Item = watcher::Result<Event<K>>>, writer: Writer<K>)
where
    K: Resource + Clone + Debug + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let events =
        events.default_backoff().modify(|object| object.managed_fields_mut().clear()).reflect(writer);
    let told = events.for_each(|event| async {
        if let Err(error) = event {
            let kind = K::kind(&K::DynamicType::default()).into_owned();
            tracing::warn!(kind, %error, "a watch is interrupted, and begins again");
        }
    });
    told.await;
}

/// The events of objects that this version can read: one that it can't must not hold up all others. What it was
/// before stays in force.
fn readable<K>(
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>,
    empty: impl Fn(ObjectMeta) -> K,
) -> impl Stream<Item = watcher::Result<Event<K>>> {
    let read = |object: DeserializeGuard<K>| match object.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let ObjectMeta { namespace, name, .. } = &invalid.metadata;
            tracing::warn!(
                ?namespace,
                ?name,
                error = invalid.error,
                "an object can't be read and is left out"
            );
            None
        }
    };
    events.filter_map(move |event| {
        let event = match event {
            Ok(Event::Apply(object)) => read(object).map(Event::Apply).map(Ok),
            Ok(Event::InitApply(object)) => read(object).map(Event::InitApply).map(Ok),
            Ok(Event::Delete(object)) => {
                let gone = object.0.unwrap_or_else(|invalid| empty(invalid.metadata));
                Some(Ok(Event::Delete(gone)))
            }
            Ok(Event::Init) => Some(Ok(Event::Init)),
            Ok(Event::InitDone) => Some(Ok(Event::InitDone)),
            Err(error) => Some(Err(error)),
        };
        future::ready(event)
    })
}

fn empty_quota(metadata: ObjectMeta) -> ApiQuota {
    ApiQuota { metadata, spec: ApiQuotaSpec::default(), status: None }
}

fn empty_provider(metadata: ObjectMeta) -> ApiProvider {
    ApiProvider { metadata, spec: ApiProviderSpec::default() }
}
