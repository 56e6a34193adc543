//! `quotakeeper limiter`: the limiter of a cluster, from its start to its end.
//!
//! ```text
//! ConfigMaps ── documents ──► Configuration ──► Limiter (state, ledger)
//! Secret ── TLS ─┐                                 ▲
//! pods ── auth ──┴──► server ── sessions ──────────┘──► status stream, metrics
//! ```
//! It serves no sessions before the accounts have been listed: until then it has no quotas to
//! offer to a proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::Client;
use quotakeeper_api::names::{LIMITER, OPERATOR};
use quotakeeper_limiter_core::{LostGrants, Recovered};
use quotakeeper_transport::serve_beside;
use quotakeeper_wire::message::Epoch;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::auth::Authenticator;
use crate::auth::cluster_api::ApiServer;
use crate::checkpoints::{ApiClock, CheckpointStore, SKEW};
use crate::clock::now;
use crate::lease::{self, Acquired};
use crate::ledger::Ledger;
use crate::ledger::damage::{Opened, SetAside, open_or_set_aside};
use crate::ledger::redb::RedbStore;
use crate::probes::{self, Probes, Readiness};
use crate::stream::{Operators, StatusStream};
use crate::task::{Limiter, NextEpoch, Succession};
use crate::watches::Watches;

/// How long to wait before a failed request to the API server is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The configuration of the process.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace that Quotakeeper is installed in.
    pub namespace: String,
    /// Where sessions and the status stream are served, over TLS.
    pub listen: SocketAddr,
    /// Where metrics and probes are served.
    pub metrics: SocketAddr,
    /// The ledger's file. Its folder outlives the process, not the pod.
    pub ledger: PathBuf,
    /// The pod's name, which the Lease shows to people.
    pub holder: String,
}

/// Runs until `shutdown` completes, then ends all sessions and closes the ledger.
///
/// # Errors
/// What keeps it from starting or going on, as a sentence.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    // Kubernetes' client uses the process's provider of cryptography. Fails only if it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let probes = Probes::default();
    let listener = probes::bind(options.metrics).await?;
    let _probes = AbortOnDropHandle::new(tokio::spawn(probes::serve(listener, probes.clone())));
    let mut shutdown = std::pin::pin!(shutdown);
    let started = tokio::select! {
        started = start(&options, &probes) => started?,
        () = &mut shutdown => return Ok(()),
    };
    serve(&options, &probes, started, shutdown).await
}

/// What runs before sessions are served.
struct Started {
    client: Client,
    limiter: Limiter,
    tls: watch::Receiver<Arc<ServerConfig>>,
    watches: Watches,
}

async fn start(options: &Options, probes: &Probes) -> anyhow::Result<Started> {
    let waits_for = |what| {
        probes.readiness.send_replace(Readiness::WaitsFor(what));
    };
    let client = Client::try_default().await;
    let client =
        client.context("the API server can't be reached: there is no kubeconfig or ServiceAccount")?;
    let ledger = open(&options.ledger)?;
    waits_for("the API server takes its Lease");
    let ResumedLedger { ledger, epoch, recovered, clock } = resume(ledger, &client, options).await?;

    let mut watches = Watches::start(&client, &options.namespace, recovered.pods().cloned().collect());
    waits_for("the accounts' ConfigMaps have been listed");
    let configuration = watches.first_configuration().await?;
    info!(
        accounts = configuration.accounts.len(),
        gate_open = configuration.gate_open_until.is_some(),
        "the accounts are known"
    );
    waits_for("the operator has made the Secret quotakeeper-limiter-tls");
    let tls = watches.certificates().await?;
    let checkpoints = CheckpointStore::new(client.clone(), &options.namespace, clock);
    let (again, options) = (client.clone(), options.clone());
    let next_epoch: NextEpoch = Box::new(move |last| {
        let (client, options) = (again.clone(), options.clone());
        Box::pin(async move { acquire_epoch(&client, &options, Some(last.0)).await.0 })
    });
    let builder = Limiter::builder(configuration).ledger(epoch, ledger, recovered).next_epoch(next_epoch);
    let builder = builder.checkpoints(checkpoints);
    let builder = match watches.fingerprint_key() {
        Some(key) => builder.fingerprint_key(key),
        None => builder,
    };
    let limiter = builder.start()?;
    // Set once in a process.
    let _ = probes.limiter.set(limiter.clone());
    Ok(Started { client, limiter, tls, watches })
}

/// Serves sessions until `shutdown` completes or something that they need has ended.
async fn serve(
    options: &Options,
    probes: &Probes,
    started: Started,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<()> {
    let Started { client, limiter, tls, mut watches } = started;
    let authenticator = Authenticator::new(ApiServer::new(client), watches.pods.clone());
    let user = format!("system:serviceaccount:{}:{OPERATOR}", options.namespace);
    let readers = Operators { authenticator: authenticator.clone(), users: vec![user] };
    let stop = CancellationToken::new();
    let status = StatusStream { readers, limiter: limiter.clone(), stop: stop.clone() };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("can't listen at {}; give another --listen", options.listen))?;
    let server = serve_beside(listener, tls, authenticator, limiter.clone(), status, stop.clone());
    let mut server = AbortOnDropHandle::new(tokio::spawn(server));
    probes.readiness.send_replace(Readiness::Ready);
    info!(address = %options.listen, "sessions are served");

    let outcome = tokio::select! {
        () = &mut shutdown => Ok(()),
        ended = &mut server => Err(anyhow!("the server ended: {ended:?}")),
        ended = follow(&limiter, &mut watches) => Err(ended),
    };
    probes.readiness.send_replace(Readiness::Stopping);
    info!("ending: proxies wait for the next limiter");
    let closed = limiter.close().await.context("the ledger could not be closed");
    stop.cancel();
    if outcome.is_ok() {
        // It gives proxies a moment to read why, and no longer.
        let _ = server.await;
    }
    outcome.and(closed)
}

/// Applies what the watches report to the limiter, until one of them has ended.
async fn follow(limiter: &Limiter, watches: &mut Watches) -> anyhow::Error {
    loop {
        let applied = tokio::select! {
            changed = watches.configurations.changed() => match changed {
                Ok(()) => {
                    let configuration = watches.configurations.borrow_and_update().clone();
                    limiter.configure(configuration.unwrap_or_default()).await
                }
                Err(_) => return anyhow!("the watch of the accounts has ended"),
            },
            Some(uid) = watches.deleted_pods.recv() => limiter.pod_deleted(uid).await,
        };
        if let Err(stopped) = applied {
            return stopped.into();
        }
    }
}

/// The ledger in the file. One that can't be read is set aside: that costs capacity, as if it had been
/// lost with its pod.
fn open(file: &Path) -> anyhow::Result<Ledger<RedbStore>> {
    let opened = open_or_set_aside(file);
    let Opened { ledger, set_aside } = opened.with_context(|| format!("the ledger {}", file.display()))?;
    if let Some(SetAside { file, why }) = set_aside {
        error!(%why, aside = %file.display(), "the ledger is damaged; it is set aside, and begins anew");
    }
    Ok(ledger)
}

/// The ledger of a limiter that has its epoch.
struct ResumedLedger {
    ledger: Ledger<RedbStore>,
    epoch: Epoch,
    recovered: Recovered,
    /// The API server's clock.
    clock: ApiClock,
}

async fn resume(
    mut ledger: Ledger<RedbStore>,
    client: &Client,
    options: &Options,
) -> anyhow::Result<ResumedLedger> {
    let (succession, clock) = acquire_epoch(client, options, ledger.last_epoch()?).await;
    let Succession { epoch, ledger_is_newest, lost } = succession;
    let recovered = ledger.resume(epoch, ledger_is_newest, lost)?;
    for account in &recovered.unreadable {
        warn!(%account, "the ledger's record can't be read; all of the account counts as used");
    }
    info!(
        epoch = epoch.0,
        accounts = recovered.records.len(),
        lost = recovered.lost.is_some(),
        "the ledger is open"
    );
    Ok(ResumedLedger { ledger, epoch, recovered, clock })
}

/// Acquires an epoch after all limiters before; `ledger`: that of the one that last used the ledger.
async fn acquire_epoch(client: &Client, options: &Options, ledger: Option<u64>) -> (Succession, ApiClock) {
    let mut logged = String::new();
    loop {
        match lease::acquire(client, &options.namespace, &options.holder, ledger).await {
            Ok(Acquired { known, epoch, at }) => {
                let lost = || LostGrants { until: now(), until_wall: at + SKEW };
                let lost = known.has_predecessor().then(lost);
                let clock = ApiClock { at: now(), showed: at };
                return (Succession { epoch, ledger_is_newest: known.ledger_is_newest(), lost }, clock);
            }
            Err(error) => {
                let sentence = error.to_string();
                if sentence != logged {
                    warn!(error = sentence, lease = LIMITER, "the Lease can't be written; trying again");
                }
                logged = sentence;
                sleep(RETRY_AFTER).await;
            }
        }
    }
}
