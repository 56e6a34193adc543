//! `quotakeeper limiter`: the limiter of a cluster, from its start to its end.
//!
//! ```text
//! ConfigMaps ── documents ──► Configuration ──► Limiter (state, ledger)
//! Secret ── TLS ─┐                                 ▲
//! pods ── auth ──┴──► server ── sessions ──────────┘──► status stream, metrics
//! ```
//! It serves nobody before the accounts have been listed: a hello would be told that its quotas
//! are not there.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::Client;
use quotakeeper_api::names::{LIMITER, OPEN_GATE, OPERATOR};
use quotakeeper_transport::serve_beside;
use quotakeeper_wire::message::Epoch;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::auth::Authenticator;
use crate::auth::judge::ApiServer;
use crate::auth::pods::Pods;
use crate::epoch::EpochSources;
use crate::ledger::redb::RedbStore;
use crate::ledger::store::StoreError;
use crate::ledger::{self, Ledger, LedgerError};
use crate::probes::{self, Probes, Readiness};
use crate::stream::{Operators, StatusStream};
use crate::task::Limiter;
use crate::{lease, watches};
use quotakeeper_limiter_core::Configuration;

/// Until the API server answers.
const API_AGAIN: Duration = Duration::from_secs(1);
/// Pods that may be gone before the limiter has heard of them.
const GONE: usize = 1024;

/// What the process is told.
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
    /// Who this is, for people who look at the Lease: the pod's name.
    pub holder: String,
}

/// Runs until `shutdown` is over, then tells every proxy and closes the ledger.
///
/// # Errors
/// What keeps it from starting or going on, as a sentence.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    // Kubernetes' client takes the process's provider of cryptography. Fails only if it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let probes = Probes::default();
    let listener = probes::bind(options.metrics).await?;
    let _probes = AbortOnDropHandle::new(tokio::spawn(probes::serve(listener, probes.clone())));
    let mut shutdown = std::pin::pin!(shutdown);
    let started = tokio::select! {
        started = start(&options, &probes) => started?,
        () = &mut shutdown => return Ok(()),
    };
    let Started { limiter, tls, authenticator, mut configurations, mut gone, _watches } = started;

    let stop = CancellationToken::new();
    let account = |name| format!("system:serviceaccount:{}:{name}", options.namespace);
    let users = vec![account(OPERATOR), account(OPEN_GATE)];
    let readers = Operators { authenticator: authenticator.clone(), users };
    let status = StatusStream { readers, limiter: limiter.clone(), stop: stop.clone() };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("can't listen at {}; give another --listen", options.listen))?;
    let server = serve_beside(listener, tls, authenticator, limiter.clone(), status, stop.clone());
    let mut server = AbortOnDropHandle::new(tokio::spawn(server));
    probes.readiness.send_replace(Readiness::Ready);
    info!(address = %options.listen, "sessions are served");

    let outcome = loop {
        let told = tokio::select! {
            () = &mut shutdown => break Ok(()),
            ended = &mut server => break Err(anyhow!("the server ended: {ended:?}")),
            changed = configurations.changed() => match changed {
                Ok(()) => {
                    let configuration = configurations.borrow_and_update().clone();
                    limiter.configure(configuration.unwrap_or_default()).await
                }
                Err(_) => break Err(anyhow!("the watch of the accounts has ended")),
            },
            Some(uid) = gone.recv() => limiter.pod_deleted(uid).await,
        };
        if let Err(stopped) = told {
            break Err(stopped.into());
        }
    };
    probes.readiness.send_replace(Readiness::Stopping);
    info!("ending: proxies wait for the next limiter");
    let closed = limiter.close().await.context("the ledger could not be closed");
    stop.cancel();
    if outcome.is_ok() {
        // Its bound is its own: it waits a moment for proxies to read why.
        let _ = server.await;
    }
    outcome.and(closed)
}

/// What runs before sessions are served.
struct Started {
    limiter: Limiter,
    tls: watch::Receiver<Arc<ServerConfig>>,
    authenticator: Authenticator<ApiServer>,
    configurations: watch::Receiver<Option<Configuration>>,
    gone: mpsc::Receiver<String>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

async fn start(options: &Options, probes: &Probes) -> anyhow::Result<Started> {
    let waits_for = |what| {
        probes.readiness.send_replace(Readiness::WaitsFor(what));
    };
    let namespace = options.namespace.clone();
    let client = Client::try_default().await.context("there is no way to the API server")?;
    let mut ledger = open(&options.ledger)?;

    waits_for("the API server takes its Lease");
    let last = ledger.last_epoch()?;
    let (known, epoch) = take_epoch(&client, options, last).await;
    let mut recovered = ledger.resume(epoch, known.ledger_is_newest())?;
    recovered.lost = known.has_predecessor() && recovered.since == Some(epoch);
    for account in &recovered.unreadable {
        warn!(%account, "the ledger's record can't be read; all of the account is taken to be used");
    }
    info!(epoch = epoch.0, accounts = recovered.records.len(), lost = recovered.lost, "the ledger is open");

    let (to_configurations, mut configurations) = watch::channel(None);
    let (to_certificate, mut certificate) = watch::channel(None);
    let (to_gone, gone) = mpsc::channel(GONE);
    let pods = Pods::default();
    let mut tasks = Vec::new();
    let mut task = |task: tokio::task::JoinHandle<()>| tasks.push(AbortOnDropHandle::new(task));
    task(tokio::spawn({
        let (client, namespace) = (client.clone(), namespace.clone());
        async move { watches::accounts(client, &namespace, to_configurations).await }
    }));
    task(tokio::spawn({
        let (client, namespace) = (client.clone(), namespace.clone());
        async move { watches::certificate(client, &namespace, to_certificate).await }
    }));
    task(tokio::spawn(watches::pods(
        client.clone(),
        pods.clone(),
        recovered.pods().cloned().collect(),
        to_gone,
    )));

    waits_for("the accounts' ConfigMaps have been listed");
    let configuration = configurations.wait_for(Option::is_some).await?.clone().unwrap_or_default();
    configurations.mark_unchanged();
    info!(
        accounts = configuration.accounts.len(),
        gate_open = configuration.gate_open_until.is_some(),
        "the accounts are known"
    );
    let limiter = Limiter::builder(configuration).ledger(epoch, ledger, recovered).start()?;
    // The process has one.
    let _ = probes.limiter.set(limiter.clone());

    waits_for("the operator has made the Secret quotakeeper-limiter-tls");
    let first = certificate.wait_for(Option::is_some).await?.clone();
    let first = first.context("there is no certificate")?;
    let (to_tls, tls) = watch::channel(first);
    task(tokio::spawn(async move {
        while certificate.changed().await.is_ok() {
            let newest = certificate.borrow_and_update().clone();
            newest.into_iter().for_each(|newest| drop(to_tls.send_replace(newest)));
        }
    }));
    let authenticator = Authenticator::new(ApiServer::new(client), pods);
    Ok(Started { limiter, tls, authenticator, configurations, gone, _watches: tasks })
}

/// The ledger in the file. One that can't be read is put aside: that costs capacity, and is as if it
/// were lost with its pod.
fn open(file: &Path) -> anyhow::Result<Ledger<RedbStore>> {
    let opened = match ledger::open(file) {
        Err(LedgerError::Store(StoreError::Damaged(why))) => {
            let aside = file.with_extension("damaged");
            error!(%why, aside = %aside.display(), "the ledger is damaged; it is put aside, and begins anew");
            std::fs::rename(file, &aside)
                .with_context(|| format!("{} can't be put aside", file.display()))?;
            ledger::open(file)
        }
        opened => opened,
    };
    opened.with_context(|| format!("the ledger {}", file.display()))
}

async fn take_epoch(client: &Client, options: &Options, last: Option<u64>) -> (EpochSources, Epoch) {
    let mut told = String::new();
    loop {
        match lease::take(client, &options.namespace, &options.holder, last).await {
            Ok(taken) => return taken,
            Err(error) => {
                let sentence = error.to_string();
                if sentence != told {
                    warn!(error = sentence, lease = LIMITER, "the Lease can't be written; trying on");
                }
                told = sentence;
                sleep(API_AGAIN).await;
            }
        }
    }
}
