//! What the admission webhook decides by, on every replica.

use std::sync::Arc;

use kube::Client;
use quotakeeper_inject::cluster::Cluster;
use quotakeeper_inject::server::Webhook;
use quotakeeper_inject::settings::Settings as Injected;
use quotakeeper_wire::bootstrap::LimiterAddress;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::LIMITER_SERVICE;
use crate::operator::Settings;
use crate::secrets::Served;

/// What pods are told of the limiter, and the view that decisions rest on.
#[derive(Clone)]
pub(crate) struct Injection {
    /// Quotas, providers and namespaces.
    pub(crate) cluster: Cluster,
    /// None before the limiter's CA is known.
    pub(crate) settings: watch::Receiver<Option<Arc<Injected>>>,
    /// Answers reviews.
    pub(crate) webhook: Webhook,
}

impl Injection {
    /// Begins to watch; the tasks end with `tasks`.
    pub(crate) fn begin(
        client: &Client,
        settings: &Settings,
        served: &Arc<Served>,
        tasks: &mut JoinSet<()>,
    ) -> Injection {
        let (cluster, kept) = Cluster::watch(client.clone());
        tasks.spawn(kept);
        let (sender, receiver) = watch::channel(None);
        tasks.spawn(follow(settings.clone(), served.limiter_ca.subscribe(), sender));
        let webhook = Webhook::new(cluster.clone(), receiver.clone());
        Injection { cluster, settings: receiver, webhook }
    }
}

/// Keeps the settings as the limiter's CA is.
async fn follow(
    settings: Settings,
    mut limiter_ca: watch::Receiver<Option<String>>,
    sender: watch::Sender<Option<Arc<Injected>>>,
) {
    loop {
        if let Some(ca_pem) = limiter_ca.borrow_and_update().clone() {
            sender.send_replace(Some(Arc::new(injected(&settings, ca_pem))));
        }
        if limiter_ca.changed().await.is_err() {
            return;
        }
    }
}

fn injected(settings: &Settings, ca_pem: String) -> Injected {
    let limiter = LimiterAddress {
        endpoint: authority(&settings.limiter).to_owned(),
        server_name: server_name(&settings.namespace),
        ca_pem,
    };
    let mut injected = Injected::new(&settings.namespace, &settings.proxy_image, limiter);
    injected.image_pull_policy = settings.proxy_image_pull_policy.clone();
    injected.image_pull_secrets = settings.proxy_image_pull_secrets.clone();
    injected.resources = settings.proxy_resources.clone();
    injected.log = settings.proxy_log.clone();
    injected.extra_cas_pem = settings.extra_cas_pem.clone();
    injected
}

/// `host:port` of `https://host:port`.
pub(crate) fn authority(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// The name that the limiter's certificate has, wherever the limiter is reached.
pub(crate) fn server_name(namespace: &str) -> String {
    format!("{LIMITER_SERVICE}.{namespace}.svc")
}
