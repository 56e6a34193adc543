//! The operator's process: starts its tasks, and ends them when the lease is lost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Config};
use quotakeeper_api::names::OPERATOR;
use quotakeeper_inject::server::{self, Webhook};
use quotakeeper_inject::settings::ProxyResources;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::caches::Caches;
use crate::cluster::{Cluster, owner};
use crate::configuration::{self, AppliedState};
use crate::injection::Injection;
use crate::lease::{Leadership, contend};
use crate::limiter_view::{self, LimiterView, Source};
use crate::metrics::Metrics;
use crate::pods::Counts;
use crate::secrets::Served;
use crate::uninstall::GateOpener;
use crate::{events, probes, secrets, status_writer};

/// How long a replica that ends still answers reviews: API servers go on to send them until they know that its Service
/// leads elsewhere. The address of a pod that is gone answers nothing, not even a refusal, and pods would be refused
/// after a timeout.
const FAREWELL: Duration = Duration::from_secs(5);
/// Between two attempts to reach the API server at start.
const AGAIN: Duration = Duration::from_secs(1);

/// The settings of the operator, from its command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its namespace, which is the limiter's too.
    pub namespace: String,
    /// This replica's name; its pod's.
    pub identity: String,
    /// Where the admission webhook listens.
    pub webhook_listen: SocketAddr,
    /// Where metrics and probes are served.
    pub metrics_listen: SocketAddr,
    /// The limiter: `https://host:port`.
    pub limiter: String,
    /// The file with the token by which the limiter authenticates the operator.
    pub token_file: PathBuf,
    /// The image of injected proxies.
    pub proxy_image: String,
    /// Its `imagePullPolicy`; absent: Kubernetes' default.
    pub proxy_image_pull_policy: Option<String>,
    /// Names of Secrets, in the pods' namespaces, by which it may be pulled.
    pub proxy_image_pull_secrets: Vec<String>,
    /// What it may use.
    pub proxy_resources: ProxyResources,
    /// Its log filter; absent: its default.
    pub proxy_log: Option<String>,
    /// PEM certificates that injected proxies trust beside the system's.
    pub extra_cas_pem: String,
}

impl Settings {
    fn source(&self) -> Source {
        let Self { limiter, namespace, token_file, .. } = self;
        Source { limiter: limiter.clone(), namespace: namespace.clone(), token_file: token_file.clone() }
    }
}

/// Why the operator has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// An address is taken, or not allowed.
    #[error("{flag} {address} can't be listened on: {source}; give another address")]
    Listen {
        /// The flag that named it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A task has ended that must not.
    #[error("a part of the operator has stopped ({0}); it is started anew")]
    Stopped(String),
}

/// A client by the pod's ServiceAccount, else by `KUBECONFIG`.
///
/// # Errors
/// When there is neither, or it can't be read.
pub async fn client() -> kube::Result<Client> {
    client_of(Config::infer().await.map_err(kube::Error::InferConfig)?)
}

/// A client of the cluster that a configuration names.
///
/// # Errors
/// When the configuration can't be used.
pub fn client_of(config: Config) -> kube::Result<Client> {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_from(config)
}

/// Runs until `stop`; then gives up the lease at once, and ends after a last few seconds of reviews.
///
/// # Errors
/// [`OperatorError`]: the process should end and be started anew.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) -> Result<(), OperatorError> {
    let metrics = Metrics::default();
    let probes = listen("--metrics", settings.metrics_listen).await?;
    let reviews = listen("--webhook-listen", settings.webhook_listen).await?;
    let Some(owner) = known_owner(&client, &settings.namespace, &stop).await else { return Ok(()) };
    let leadership = Leadership::default();
    let cluster =
        Cluster::new(client.clone(), &settings.namespace, owner, leadership.clone(), metrics.clone());

    let mut tasks = JoinSet::new();
    let caches = Arc::new(Caches::watch(&cluster, &mut tasks));
    let served = Arc::new(Served { tls: watch::Sender::new(None), limiter_ca: watch::Sender::new(None) });
    tasks.spawn(secrets::follow(settings.namespace.clone(), Arc::clone(&caches), Arc::clone(&served)));
    let source = settings.source();
    let injection = Injection::begin(&client, &caches, &settings, &served, &mut tasks);
    let opener = GateOpener::new(client.clone(), &settings.namespace, source.clone());
    let webhook = injection.webhook.clone().with_uninstall(Arc::new(opener));
    let readiness =
        readiness(&settings.namespace, &caches, injection.webhook.clone(), served.tls.subscribe());
    tasks.spawn(probes::serve(probes, metrics.clone(), readiness));
    let answering = CancellationToken::new();
    let answered = answering.clone().cancelled_owned();
    let reviews = tokio::spawn(server::serve(
        reviews,
        served.tls.subscribe(),
        webhook,
        metrics.closed_at_webhook.clone(),
        answered,
    ));
    let limiter_ca = served.limiter_ca.subscribe();
    let leader = Leader { source, limiter_ca, injection, cluster, caches, metrics };

    let leases: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let release = CancellationToken::new();
    let contending =
        tokio::spawn(contend(leases, identity(&settings.identity), leadership.clone(), release.clone()));
    let outcome = tokio::select! {
        () = leader.lead_whenever_it_may(&leadership) => Ok(()),
        () = stop.cancelled() => Ok(()),
        ended = tasks.join_next() => {
            let why = ended.and_then(Result::err).map_or("a task ended".to_owned(), |error| error.to_string());
            Err(OperatorError::Stopped(why))
        }
    };
    // All writers are gone now: the lease may be another's.
    release.cancel();
    if let Err(error) = contending.await {
        warn!(%error, "the lease was not given up; it ends by itself");
    }
    if outcome.is_ok() {
        sleep(FAREWELL).await;
    }
    answering.cancel();
    if let Err(error) = reviews.await {
        warn!(%error, "reviews that were under way are not answered");
    }
    outcome
}

/// The leader's work.
struct Leader {
    cluster: Cluster,
    caches: Arc<Caches>,
    metrics: Metrics,
    source: Source,
    limiter_ca: watch::Receiver<Option<String>>,
    injection: Injection,
}

impl Leader {
    /// Does the work whenever this replica leads.
    async fn lead_whenever_it_may(&self, leadership: &Leadership) {
        loop {
            leadership.gained().await;
            self.metrics.leader.set(1);
            // What is under way when the leadership ends is dropped.
            tokio::select! {
                () = self.lead() => {}
                () = leadership.lost() => {}
            }
            self.metrics.leads_no_more();
        }
    }

    async fn lead(&self) {
        let Leader { cluster, caches, metrics, source, limiter_ca, injection } = self;
        let applied: watch::Sender<Option<AppliedState>> = watch::Sender::new(None);
        let limiter = watch::Sender::new(LimiterView::nothing());
        let counts = watch::Sender::new(Counts::default());
        let for_events = (applied.subscribe(), limiter.subscribe());
        tokio::join!(
            configuration::run(cluster, caches, metrics, &applied),
            secrets::run(cluster, caches, metrics),
            limiter_view::listen(source, limiter_ca.clone(), &limiter),
            status_writer::run(
                cluster,
                caches,
                metrics,
                applied.subscribe(),
                limiter.subscribe(),
                counts.subscribe()
            ),
            events::run(cluster, caches, &injection.settings, for_events.0, for_events.1, &counts),
        );
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, OperatorError> {
    TcpListener::bind(address).await.map_err(|source| OperatorError::Listen { flag, address, source })
}

/// The operator's Deployment, once the API server can be reached; none when `stop` came before.
async fn known_owner(
    client: &Client,
    namespace: &str,
    stop: &CancellationToken,
) -> Option<Option<OwnerReference>> {
    loop {
        let asked = tokio::select! {
            asked = owner(client, namespace, OPERATOR) => asked,
            () = stop.cancelled() => return None,
        };
        match asked {
            Ok(owner) => {
                if owner.is_none() {
                    info!("there is no Deployment {OPERATOR}: what is made here outlives the operator");
                }
                return Some(owner);
            }
            Err(error) => warn!(%error, "the API server does not answer as it should; trying on"),
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = stop.cancelled() => return None,
        }
    }
}

fn readiness(
    namespace: &str,
    caches: &Arc<Caches>,
    webhook: Webhook,
    served: watch::Receiver<Option<Arc<ServerConfig>>>,
) -> probes::Readiness {
    let (namespace, caches) = (namespace.to_owned(), Arc::clone(caches));
    Arc::new(move || {
        let mut missing: Vec<String> = caches
            .missing()
            .into_iter()
            .map(|what| format!("{what} are not read yet; are the CRDs installed?"))
            .collect();
        if !webhook.is_ready() {
            missing.push("the webhook does not know enough to decide yet".to_owned());
        }
        if served.borrow().is_none() {
            missing.push("the webhook has no certificate yet".to_owned());
        } else if !secrets::trusted(&namespace, &caches) {
            missing.push("the API server does not know the webhook's certificate yet".to_owned());
        }
        missing
    })
}

/// A name that no other replica has, and no earlier life of this one.
fn identity(name: &str) -> String {
    let mut random = [0u8; 4];
    if SystemRandom::new().fill(&mut random).is_err() {
        // Without random numbers: the time of this life.
        random.copy_from_slice(&crate::clock::now().subsec_nanos().to_be_bytes());
    }
    format!("{name}_{:08x}", u32::from_be_bytes(random))
}
