//! The certificates in the cluster: made and renewed by the leader, served by every replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use quotakeeper_api::names::{
    FINGERPRINT_KEY, LIMITER, LIMITER_CA_SECRET, LIMITER_SECRET, WEBHOOK_CONFIGURATION, WEBHOOK_SECRET,
    WEBHOOK_SERVICE,
};
use quotakeeper_inject::tls::server_config;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::caches::Caches;
use crate::certificates::{self, CertificateError, Entries, apart, bundle, due, is_known};
use crate::cluster::{Cluster, FIELD_MANAGER, OwnObject, WriteError};
use crate::metrics::Metrics;

/// How often the ends of the certificates are looked at, and failed writes repeated.
const EVERY: Duration = Duration::from_secs(60);
/// … after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// The type of a Secret with a server's certificate and key, …
const TLS: &str = "kubernetes.io/tls";
/// … and of one with anything else.
const OPAQUE: &str = "Opaque";

/// How long a write may take to come back by the watch.
const WATCH_LAG: Duration = Duration::from_secs(10);

/// The Secrets as they were written last, for as long as the watch still shows what was there before. A
/// decision on the older state would make another CA.
#[derive(Debug, Default)]
struct Written(BTreeMap<&'static str, Write>);

#[derive(Debug)]
struct Write {
    before: Entries,
    after: Entries,
    at: Instant,
}

impl Written {
    fn remember(&mut self, name: &'static str, before: Entries, after: Entries, at: Instant) {
        self.0.insert(name, Write { before, after, at });
    }

    /// The newest state of a Secret, of which the watch shows `cached`.
    fn newest(&mut self, name: &'static str, cached: Entries, now: Instant) -> Entries {
        let ahead = |write: &&Write| write.before == cached && now.duration_since(write.at) < WATCH_LAG;
        match self.0.get(name).filter(ahead) {
            Some(write) => write.after.clone(),
            None => {
                self.0.remove(name);
                cached
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Keeps both Secrets and the API server's trust in the webhook, while this replica leads.
pub async fn run(cluster: &Cluster, caches: &Caches, metrics: &Metrics) {
    let mut changed = caches.trusted.subscribe();
    let (mut limiter_written, mut webhook_written) = (Written::default(), Written::default());
    loop {
        let mut pause = EVERY;
        let (limiter, webhook) = tokio::join!(
            limiter(cluster, caches, &mut limiter_written),
            webhook(cluster, caches, &mut webhook_written)
        );
        for outcome in [limiter, webhook] {
            if let Err(error) = outcome {
                warn!(%error, "the certificates can't be kept; trying on");
                pause = AGAIN;
            }
        }
        for (name, cache) in
            [(LIMITER_SECRET, &caches.limiter_secret), (WEBHOOK_SECRET, &caches.webhook_secret)]
        {
            let entries = cache.get(&format!("{}/{name}", cluster.namespace));
            let ends = entries.and_then(|entries| certificates::ends(&entries));
            if let Some(ends) = ends.and_then(|ends| ends.duration_since(SystemTime::UNIX_EPOCH).ok()) {
                metrics.certificate(name, ends.as_secs_f64());
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            // The signals live as long as this replica.
            _ = changed.changed() => {}
        }
    }
}

/// The names by which a Service is called.
pub fn names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        service.to_owned(),
    ]
}

async fn limiter(cluster: &Cluster, caches: &Caches, written: &mut Written) -> Result<(), Failure> {
    let (Some(served), Some(own)) = (caches.limiter_secret.all(), caches.limiter_ca.all()) else {
        return Ok(());
    };
    let cached = [(LIMITER_CA_SECRET, OPAQUE, own), (LIMITER_SECRET, TLS, served)];
    let cached =
        cached.map(|(name, kind, found)| (name, kind, found.into_values().next().unwrap_or_default()));
    let present =
        cached.each_ref().map(|(name, _, found)| written.newest(name, found.clone(), Instant::now()));
    let [own, served] = &present;
    // The CA's own Secret counts where both have an entry: it is written first.
    let mut together: Entries = served.clone().into_iter().chain(own.clone()).collect();
    together.remove(FINGERPRINT_KEY);
    let entries = due(&together, &names(LIMITER, &cluster.namespace), SystemTime::now())?;
    let (own, served) = apart(&entries.unwrap_or(together));
    for (((name, kind, cached), present), wanted) in cached.into_iter().zip(&present).zip([own, served]) {
        if wanted != *present {
            write(cluster, name, kind, &wanted).await?;
            written.remember(name, cached, wanted, Instant::now());
        }
    }
    Ok(())
}

async fn webhook(cluster: &Cluster, caches: &Caches, written: &mut Written) -> Result<(), Failure> {
    let (Some(present), Some(webhooks)) = (caches.webhook_secret.all(), caches.webhooks.all()) else {
        return Ok(());
    };
    let now = SystemTime::now();
    let cached = present.into_values().next().unwrap_or_default();
    let present = written.newest(WEBHOOK_SECRET, cached.clone(), Instant::now());
    let webhooks = webhooks.into_values().next().unwrap_or_default();
    let renewed = due(&present, &names(WEBHOOK_SERVICE, &cluster.namespace), now)?;
    // Trusted before it is served.
    trust(cluster, &webhooks, renewed.as_ref().unwrap_or(&present), now).await?;
    if let Some(entries) = renewed {
        write(cluster, WEBHOOK_SECRET, TLS, &entries).await?;
        written.remember(WEBHOOK_SECRET, cached, entries, Instant::now());
    }
    Ok(())
}

async fn write(
    cluster: &Cluster,
    name: &'static str,
    kind: &'static str,
    entries: &Entries,
) -> Result<(), WriteError> {
    let encoded: BTreeMap<&String, k8s_openapi::ByteString> = entries
        .iter()
        .map(|(name, text)| (name, k8s_openapi::ByteString(text.clone().into_bytes())))
        .collect();
    let content = json!({"type": kind, "data": encoded});
    let own = OwnObject { labels: &[], annotations: &[], content };
    cluster.apply_own::<Secret>("Secret", name, own).await?;
    info!(secret = name, "the certificate is made or renewed");
    Ok(())
}

/// Has the API server trust what the webhook serves. Helm and GitOps leave `caBundle` to us.
async fn trust(
    cluster: &Cluster,
    webhooks: &BTreeMap<String, String>,
    entries: &Entries,
    now: SystemTime,
) -> Result<(), WriteError> {
    let wanted = |present: &String| bundle(present, entries, now);
    if webhooks.values().all(|present| *present == wanted(present)) {
        return Ok(());
    }
    let entry = |(name, present): (&String, &String)| -> Value {
        let bundle = k8s_openapi::ByteString(wanted(present).into_bytes());
        json!({"name": name, "clientConfig": {"caBundle": bundle}})
    };
    let patch = json!({"webhooks": webhooks.iter().map(entry).collect::<Vec<_>>()});
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(patch);
    let request = configurations.patch(WEBHOOK_CONFIGURATION, &parameters, &patch);
    cluster.write("MutatingWebhookConfiguration", request).await?;
    info!("the API server is told which CA the webhook's certificate has");
    Ok(())
}

/// What every replica serves and tells injected pods, as the Secrets are.
pub struct Served {
    /// The webhook's TLS, for connections to come.
    pub tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// The limiter's CA, in PEM.
    pub limiter_ca: watch::Sender<Option<String>>,
}

/// Follows the Secrets. An unusable certificate leaves the one before in service.
pub async fn follow(namespace: String, caches: Arc<Caches>, served: Arc<Served>) {
    let mut changed = caches.trusted.subscribe();
    let mut last = Entries::new();
    loop {
        let entries = caches.webhook_secret.get(&format!("{namespace}/{WEBHOOK_SECRET}")).unwrap_or_default();
        if entries != last
            && let (Some(chain), Some(key)) = (entries.get("tls.crt"), entries.get("tls.key"))
        {
            match server_config(chain.as_bytes(), key.as_bytes()) {
                Ok(config) => {
                    served.tls.send_replace(Some(config));
                    info!("the webhook's certificate is loaded");
                }
                Err(error) => warn!(%error, "the webhook's certificate can't be used; the last one stays"),
            }
        }
        last = entries;
        let limiter = caches.limiter_secret.get(&format!("{namespace}/{LIMITER_SECRET}"));
        if let Some(ca) = limiter.and_then(|mut entries| entries.remove("ca.crt")) {
            served.limiter_ca.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&ca);
                *known = Some(ca);
                changed
            });
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Whether the API server knows the certificate that is served.
pub fn trusted(namespace: &str, caches: &Caches) -> bool {
    let entries = caches.webhook_secret.get(&format!("{namespace}/{WEBHOOK_SECRET}"));
    let webhooks = caches.webhooks.get(WEBHOOK_CONFIGURATION).unwrap_or_default();
    entries.is_some_and(|entries| webhooks.values().all(|bundle| is_known(&entries, bundle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_counts_until_the_watch_shows_it_or_is_late() {
        let entries = |text: &str| Entries::from([("ca.crt".to_owned(), text.to_owned())]);
        let (mut written, begin) = (Written::default(), Instant::now());
        assert_eq!(written.newest("a", entries("old"), begin), entries("old"));
        written.remember("a", entries("old"), entries("new"), begin);
        assert_eq!(written.newest("a", entries("old"), begin + WATCH_LAG / 2), entries("new"));
        assert_eq!(written.newest("b", entries("old"), begin), entries("old"), "another Secret");
        assert_eq!(written.newest("a", entries("new"), begin + WATCH_LAG / 2), entries("new"));
        assert_eq!(written.newest("a", entries("old"), begin + WATCH_LAG / 2), entries("old"), "set back");
        written.remember("a", entries("old"), entries("new"), begin);
        assert_eq!(
            written.newest("a", entries("old"), begin + WATCH_LAG),
            entries("old"),
            "the write is lost"
        );
    }
}
