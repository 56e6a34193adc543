//! The cluster as the operator writes it: only while it leads, each request with an end.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::lease::{Leadership, REQUEST};
use crate::metrics::Metrics;

/// Who writes, in `managedFields`: everything but status …
pub const FIELD_MANAGER: &str = "quotakeeper";
/// … and status.
pub const STATUS_MANAGER: &str = "quotakeeper-status";

/// A write that did not happen, or of which that is not known.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another replica writes.
    #[error("this replica leads no more")]
    NotLeading,
    /// The API server did not answer.
    #[error("the API server has not answered in {} seconds; trying on", REQUEST.as_secs())]
    Silent,
    /// It said no, or could not be reached.
    #[error("{0}")]
    Refused(#[from] kube::Error),
}

impl WriteError {
    /// There is an object of that name already, or it has changed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, WriteError::Refused(kube::Error::Api(status)) if status.code == 409)
    }

    /// The object is not there (any more).
    pub fn is_missing(&self) -> bool {
        matches!(self, WriteError::Refused(kube::Error::Api(status)) if status.code == 404)
    }
}

/// The way to the cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The client, for reading.
    pub client: Client,
    /// Where the operator lives.
    pub namespace: Arc<str>,
    /// Whose deletion takes along what the operator has made.
    pub owner: Option<OwnerReference>,
    leadership: Leadership,
    metrics: Metrics,
}

impl Cluster {
    /// A way that is open while `leadership` is held.
    pub fn new(
        client: Client,
        namespace: &str,
        owner: Option<OwnerReference>,
        leadership: Leadership,
        metrics: Metrics,
    ) -> Cluster {
        Cluster { client, namespace: namespace.into(), owner, leadership, metrics }
    }

    /// Does one write; `what` is the kind of object, for the metrics.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write<T>(
        &self,
        what: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        if !self.leadership.holds() {
            return Err(WriteError::NotLeading);
        }
        let outcome = match timeout(REQUEST, request).await {
            Ok(outcome) => outcome.map_err(WriteError::from),
            Err(_) => Err(WriteError::Silent),
        };
        self.metrics.wrote(what, outcome.is_ok());
        outcome
    }

    /// Applies an object by server-side apply; what others have set of the same fields is overruled. The object as it
    /// is stored then.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn apply<K>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
        object: &Value,
    ) -> Result<K, WriteError>
    where
        K: Resource + Clone + DeserializeOwned + Debug,
    {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.write(what, api.patch(name, &parameters, &Patch::Apply(object))).await
    }

    /// Applies an object of the operator's own namespace, which goes when the operator's Deployment does.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn apply_own<K>(
        &self,
        what: &'static str,
        name: &str,
        own: OwnObject<'_>,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let OwnObject { labels, annotations, mut content } = own;
        let managed = ("app.kubernetes.io/managed-by", "quotakeeper");
        let labels: BTreeMap<&str, &str> = labels.iter().copied().chain([managed]).collect();
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        content["apiVersion"] = K::api_version(&()).into();
        content["kind"] = K::kind(&()).into();
        content["metadata"] = json!({
            "name": name,
            "namespace": &*self.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": self.owner.iter().collect::<Vec<_>>(),
        });
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        self.apply(what, &api, name, &content).await
    }
}

/// An object of the operator's own namespace, without what all of them have.
#[derive(Debug)]
pub struct OwnObject<'a> {
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// Its annotations.
    pub annotations: &'a [(&'a str, &'a str)],
    /// Its fields beside `metadata`: an object.
    pub content: Value,
}

/// The operator's Deployment as an owner; none where it is not there, as outside of a cluster.
///
/// # Errors
/// When it can't be determined.
pub async fn owner(client: &Client, namespace: &str, name: &str) -> kube::Result<Option<OwnerReference>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployment = deployments.get_metadata_opt(name).await?;
    Ok(deployment.and_then(|deployment| {
        Some(OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
            uid: deployment.metadata.uid?,
            ..OwnerReference::default()
        })
    }))
}
