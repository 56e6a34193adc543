//! What the admission webhook decides by, on every replica: the operator's caches and settings.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use quotakeeper_api::names::LIMITER;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::{Profile, catalogue};
use quotakeeper_inject::policies::Policies;
use quotakeeper_inject::server::Webhook;
use quotakeeper_inject::settings::Settings as Injected;
use quotakeeper_inject::view::{Namespace, View};
use quotakeeper_wire::bootstrap::Endpoint;
use quotakeeper_wire::name::QuotaName;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission_warning;
use crate::caches::Caches;
use crate::operator::Settings;
use crate::secrets::Served;

impl View for Caches {
    fn is_synced(&self) -> bool {
        self.quotas.is_synced() && self.providers.is_synced() && self.namespaces.is_synced()
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        Some(Namespace { name: name.to_owned(), labels: self.namespaces.get(name)? })
    }

    fn policies(&self, namespace: &str) -> Policies {
        self.policies.of(namespace)
    }

    fn quotas(&self) -> Vec<Arc<ApiQuota>> {
        self.quotas.filter_map(|_, quota| quota.decoded.clone())
    }

    fn provider(&self, name: &str) -> Option<Profile> {
        // The catalogue becomes ApiProviders too, but a moment after the first start.
        let own = self.providers.get(name).and_then(|provider| provider.decoded);
        own.map(|profile| (*profile).clone()).or_else(|| catalogue::find(name).ok())
    }

    fn holdup(&self, quota: &QuotaName) -> Option<String> {
        admission_warning::warning(quota, &self.quotas.get(quota)?, Timestamp::now())
    }
}

/// The webhook, and the settings of what it injects.
#[derive(Clone)]
pub(crate) struct Injection {
    /// None before the limiter's CA is known.
    pub(crate) settings: watch::Receiver<Option<Arc<Injected>>>,
    /// Answers reviews.
    pub(crate) webhook: Webhook,
}

impl Injection {
    /// Begins to follow the limiter's CA; the task ends with `tasks`.
    pub(crate) fn begin(
        client: &Client,
        caches: &Arc<Caches>,
        settings: &Settings,
        served: &Arc<Served>,
        tasks: &mut JoinSet<()>,
    ) -> Injection {
        let (sender, receiver) = watch::channel(None);
        tasks.spawn(follow(settings.clone(), served.limiter_ca.subscribe(), sender));
        let webhook = Webhook::new(Arc::clone(caches) as Arc<dyn View>, client.clone(), receiver.clone());
        Injection { settings: receiver, webhook }
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
    let limiter = endpoint(&settings.limiter, &settings.namespace, ca_pem);
    let mut injected = Injected::new(&settings.namespace, &settings.proxy_image, limiter);
    injected.image_pull_policy = settings.proxy_image_pull_policy.clone();
    injected.image_pull_secrets = settings.proxy_image_pull_secrets.clone();
    injected.resources = settings.proxy_resources.clone();
    injected.log = settings.proxy_log.clone();
    injected.extra_cas_pem = settings.extra_cas_pem.clone();
    injected
}

/// The limiter of `namespace`, reached at `url` (`https://host:port`). Its certificate has the name of its Service
/// whatever the address.
pub(crate) fn endpoint(url: &str, namespace: &str, ca_pem: String) -> Endpoint {
    let server_name = format!("{LIMITER}.{namespace}.svc");
    Endpoint { address: authority(url).to_owned(), server_name, ca_pem }
}

/// `host:port` of `https://host:port`.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
