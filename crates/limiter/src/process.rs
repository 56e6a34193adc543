//! `quotakeeper limiter`: the limiter of a cluster, from its start to its end.
//!
//! ```text
//! ConfigMaps ── documents ──► Configuration ──► Limiter (state, ledger)
//! Secret ── TLS ─┐                                 ▲
//! pods ── auth ──┴──► server ── sessions ──────────┘──► status stream, metrics
//! ```
//! It listens when the accounts have been listed, and serves sessions while it is the active limiter: while it holds the
//! Lease. Otherwise it is on standby, knows all of that already, and names the active one to whoever asks.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use kube::Client;
use quotakeeper_api::names::OPERATOR;
use quotakeeper_limiter_core::Recovered;
use quotakeeper_limiter_core::lease::Terms;
use quotakeeper_limiter_core::offline::Offline;
use quotakeeper_listen::ClosedConnections;
use quotakeeper_wire::message::Epoch;
use rustls::ServerConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::auth::Authenticator;
use crate::auth::cluster_api::ApiServer;
use crate::checkpoints::CheckpointStore;
use crate::clock::{self, ClockDomain};
use crate::door::{Began, Door, Role};
use crate::handover::{self, Giver, HandedOver, Handovers, Offers};
use crate::lease::{Acquired, Leases};
use crate::ledger::Ledger;
use crate::ledger::damage::{Opened, SetAside, open_or_set_aside};
use crate::ledger::redb::RedbStore;
use crate::probes::{self, Probes, Readiness};
use crate::stream::{Operators, Others, StatusStream};
use crate::task::{Builder, Limiter, NextEpoch, Succession};
use crate::tenure::{self, Standing, Tenure};
use crate::watches::{Watches, server_name};

/// How long to wait before a failed request to the API server is repeated.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a limiter that is active no more may take to write its ledger.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);
/// Pods that the ledger knows and no watch shows are taken for deleted after this time: the watch may be late.
const WATCH_LAGS: Duration = Duration::from_secs(2);

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
    /// Where peers reach `listen`; none: they are not told.
    pub address: Option<SocketAddr>,
    /// How the Lease is held, if there may be other limiters at the same time; none: this one is the only one.
    pub terms: Option<Terms>,
    /// What it may grant while it can't renew the Lease; none: nothing.
    pub offline: Option<Offline>,
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

/// What runs before the process is active or on standby.
struct Started {
    client: Client,
    /// Open, so that a file that can't be used is noticed now.
    ledger: Ledger<RedbStore>,
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
    let mut watches = Watches::start(&client, &options.namespace);
    waits_for("the accounts' ConfigMaps have been listed");
    let configuration = watches.first_configuration().await?;
    info!(
        accounts = configuration.accounts.len(),
        gate_open = configuration.gate_open_until.is_some(),
        "the accounts are known"
    );
    waits_for("the operator has made the Secret quotakeeper-limiter-tls");
    let tls = watches.certificates().await?;
    Ok(Started { client, ledger, tls, watches })
}

/// Is on standby and active in turn until `shutdown` completes or something has ended that it needs.
async fn serve(
    options: &Options,
    probes: &Probes,
    started: Started,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<()> {
    let Started { client, ledger, tls, mut watches } = started;
    let Options { namespace, holder, address, terms, .. } = options;
    let mut leases = Leases::new(client.clone(), namespace, holder, *address, *terms);
    leases.offline = options.offline;
    let (stop, door, offers) = (CancellationToken::new(), probes.door.clone(), Offers::default());
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("can't listen at {}; give another --listen", options.listen))?;
    let parts = (door.clone(), probes.sessions.clone(), stop.clone());
    let server = server(options, &client, &watches, listener, tls, parts);
    let mut server = AbortOnDropHandle::new(tokio::spawn(server));
    let name = ServerName::try_from(server_name(namespace)).context("the namespace is no part of a name")?;
    let _listens = terms.map(|_| {
        let listens = handover::listen(door.clone(), watches.among_limiters.clone(), name, offers.clone());
        AbortOnDropHandle::new(tokio::spawn(listens))
    });
    let process = Process { options, client: &client, leases: &leases, offers: &offers, probes };
    let mut ledger = Some(ledger);
    let outcome = loop {
        let open_ledger = ledger.take().map_or_else(|| open(&options.ledger), Ok)?;
        let Begun { limiter, giver, standing } = tokio::select! {
            active = process.becomes_active(open_ledger, &mut watches) => active?,
            () = &mut shutdown => break Ok(()),
            ended = &mut server => break Err(anyhow!("the server ended: {ended:?}")),
        };
        let outcome = tokio::select! {
            () = &mut shutdown => Some(Ok(())),
            ended = &mut server => Some(Err(anyhow!("the server ended: {ended:?}"))),
            ended = follow(&limiter, &mut watches) => Some(Err(ended)),
            ended = tenure::hold(&leases, &limiter, standing) => {
                warn!(why = %ended, "this limiter is active no more; proxies look for another");
                None
            }
        };
        door.turn(Role::Standby { active: None });
        let Some(outcome) = outcome else {
            closed(limiter.close()).await?;
            continue;
        };
        probes.readiness.send_replace(Readiness::Stopping);
        let gate_open = watches.gate_is_open();
        break outcome.and(process.ends(&limiter, giver, gate_open).await);
    };
    probes.readiness.send_replace(Readiness::Stopping);
    stop.cancel();
    if outcome.is_ok() {
        // It gives proxies a moment to read why, and no longer.
        let _ = server.await;
    }
    outcome
}

/// Serves sessions, the status stream and other limiters.
fn server(
    options: &Options,
    client: &Client,
    watches: &Watches,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    (door, closed, stop): (Door, ClosedConnections, CancellationToken),
) -> impl Future<Output = ()> + Send + 'static {
    let authenticator = Authenticator::new(ApiServer::new(client.clone()), watches.pods.clone());
    let user = format!("system:serviceaccount:{}:{OPERATOR}", options.namespace);
    let readers = Operators { authenticator: authenticator.clone(), users: vec![user] };
    let name = options.holder.clone();
    let status = StatusStream { readers, door: door.clone(), name, stop: stop.clone() };
    let others = Others { status, handovers: Handovers { door: door.clone() } };
    quotakeeper_transport::serve(listener, tls, authenticator, door, (others, closed), stop)
}

/// Waits until a limiter has closed its ledger.
async fn closed(closing: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let closed = timeout(CLOSES_WITHIN, closing).await;
    closed.unwrap_or_else(|_| Err(anyhow!("it does not end"))).context("the ledger could not be closed")
}

/// A limiter that has become active.
struct Begun {
    limiter: Limiter,
    giver: Giver,
    standing: Standing,
}

/// What a process needs to become active.
struct Process<'p> {
    options: &'p Options,
    client: &'p Client,
    leases: &'p Leases,
    offers: &'p Offers,
    probes: &'p Probes,
}

impl Process<'_> {
    /// Waits on standby until this limiter may be active, and starts it.
    async fn becomes_active(
        &self,
        mut ledger: Ledger<RedbStore>,
        watches: &mut Watches,
    ) -> anyhow::Result<Begun> {
        let door = &self.probes.door;
        let stands_by = |active| {
            if !door.is_on_standby() {
                info!(?active, "on standby: another limiter is active");
            }
            door.turn(Role::Standby { active });
            self.probes.readiness.send_replace(Readiness::Ready);
        };
        let last = ledger.last_epoch()?;
        let tenure = tokio::select! {
            tenure = tenure::acquire(self.leases, last, self.offers, stands_by) => tenure,
            // They are asked for again when it is active.
            () = async { while watches.deleted_pods.recv().await.is_some() {} } => {
                return Err(anyhow!("the watch of the pods has ended"));
            }
        };
        let (epoch, recovered) = self.recovers(&mut ledger, &tenure)?;
        let (compare, pods) = (watches.compare.clone(), recovered.pods().cloned().collect());
        tokio::spawn(async move {
            sleep(WATCH_LAGS).await;
            // Fails if the watches have ended.
            let _ = compare.send(pods).await;
        });
        let configuration = watches.configurations.borrow_and_update().clone().unwrap_or_default();
        let checkpoints =
            CheckpointStore::new(self.client.clone(), &self.options.namespace, tenure.api_clock());
        let builder = Limiter::builder(configuration).ledger(epoch, ledger, recovered);
        let builder = builder.next_epoch(self.next_epoch()).checkpoints(checkpoints);
        let builder = tenure.right().into_iter().fold(builder, Builder::lease);
        let builder = watches.fingerprint_key().into_iter().fold(builder, Builder::fingerprint_key);
        let limiter = builder.start()?;
        if let Some(pods) = watches.pods.namespaces() {
            limiter.await_pods(pods).await?;
        }
        let (giver, desk) = handover::desk();
        let Acquired { change, at, .. } = tenure.acquired;
        door.turn(Role::Active(limiter.clone(), Began { change, at, desk }));
        self.probes.readiness.send_replace(Readiness::Ready);
        info!(address = %self.options.listen, "sessions are served");
        Ok(Begun { limiter, giver, standing: tenure.standing() })
    }

    /// What a limiter begins with: what was handed over, or its own ledger, if no other has granted since.
    fn recovers(
        &self,
        ledger: &mut Ledger<RedbStore>,
        tenure: &Tenure,
    ) -> anyhow::Result<(Epoch, Recovered)> {
        let here = ClockDomain::machine()?;
        let shift = match &tenure.handed_over {
            Some(handed_over) => Some(handed_over.shift),
            None => ledger.beginning()?.and_then(|clock| clock.shift_beside(&here)),
        };
        clock::set_shift(shift.unwrap_or_default());
        ledger.set_domain(ClockDomain::current()?);
        let Succession { epoch, ledger_is_newest, lost } = tenure.succession();
        let recovered = match &tenure.handed_over {
            Some(HandedOver { recovered, .. }) => {
                ledger.begin(epoch, recovered)?;
                recovered.clone()
            }
            None => ledger.resume(epoch, ledger_is_newest, lost)?,
        };
        for account in &recovered.unreadable {
            warn!(%account, "the ledger's record can't be read; all of the account counts as used");
        }
        info!(
            epoch = epoch.0,
            begins = %tenure.acquired.change,
            accounts = recovered.records.len(),
            lost = recovered.lost.is_some(),
            "this limiter is active; its ledger is open"
        );
        Ok((epoch, recovered))
    }

    /// Ends the limiter: hands over to one on standby, if there is one, and gives the Lease up. Not so while the gate is
    /// open: an uninstall opens it, and then ends all limiters. One that became active meanwhile would have proxies read
    /// what is in force once more, of which a part is gone already; calls pass without it.
    async fn ends(&self, limiter: &Limiter, giver: Giver, gate_open: bool) -> anyhow::Result<()> {
        if gate_open && self.leases.terms.is_some() {
            info!("ending while the gate is open: no other limiter is asked to go on");
            return closed(limiter.close()).await;
        }
        let handed_over = self.leases.terms.is_some() && hands_over(limiter, giver).await;
        if handed_over {
            info!("ending: another limiter has the state, and goes on");
            self.gives_up().await;
            return closed(limiter.close_handed_over()).await;
        }
        info!("ending: proxies wait for the next limiter");
        let closed = closed(limiter.close()).await;
        self.gives_up().await;
        closed
    }

    async fn gives_up(&self) {
        if let Err(error) = self.leases.give_up().await {
            warn!(%error, "the Lease was not given up; another limiter waits until it ends by itself");
        }
    }

    fn next_epoch(&self) -> NextEpoch {
        let leases = self.leases.clone();
        Box::new(move |last| {
            let leases = leases.clone();
            Box::pin(async move { tenure::acquire_again(&leases, last.0).await })
        })
    }
}

/// Whether another limiter has all of this one's state, and this one grants nothing more.
async fn hands_over(limiter: &Limiter, giver: Giver) -> bool {
    if !giver.is_awaited() {
        return false;
    }
    match timeout(CLOSES_WITHIN, limiter.hand_over()).await {
        Ok(Ok(handover)) => giver.give(&handover).await,
        Ok(Err(_)) | Err(_) => false,
    }
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
