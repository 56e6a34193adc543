//! What every story has: a CA, a limiter behind a server, a cluster, accounts.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use quotakeeper_engine::config::QueueConfig;
use quotakeeper_limiter::Configuration;
use quotakeeper_limiter::auth::Authenticator;
use quotakeeper_limiter::auth::pods::Pods;
use quotakeeper_limiter::clock::now;
use quotakeeper_limiter::epoch::EpochSources;
use quotakeeper_limiter::ledger::redb::RedbStore;
use quotakeeper_limiter::ledger::{self, Ledger};
use quotakeeper_limiter::stream::{Operators, StatusStream};
use quotakeeper_limiter::task::Limiter;
use quotakeeper_limiter_core::LostGrants;
use quotakeeper_transport::{serve, tls};
use quotakeeper_wire::account::{Admitted, CompiledAccount};
use quotakeeper_wire::status::AccountReport;
use test_support::accounts::{compiled, enforced, requests};
use test_support::certificates::Ca;
use test_support::ports::free_port;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Key, object};
use crate::proxy::{Door, NAME};

pub const OPERATOR: &str = "system:serviceaccount:quotakeeper:quotakeeper-operator";

/// A limiter of a cluster, served on the loopback.
pub struct World {
    pub ca: Ca,
    pub cluster: Cluster,
    pub pods: Pods,
    pub address: SocketAddr,
    running: Option<Running>,
}

impl Door for World {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn ca_pem(&self) -> String {
        self.ca.pem()
    }
}

struct Running {
    limiter: Limiter,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl World {
    /// A limiter of a ledger in `folder`, with this in force.
    pub async fn start(folder: &Path, configuration: impl Into<Configuration>) -> World {
        let mut world = World {
            ca: Ca::new(),
            cluster: Cluster::new(Key::ecdsa("one")),
            pods: Pods::default(),
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            running: None,
        };
        world.run(folder, configuration, None).await;
        world
    }

    /// The next limiter at the same address. `lease`: the epoch of the newest, if it is known.
    pub async fn run(&mut self, folder: &Path, configuration: impl Into<Configuration>, lease: Option<u64>) {
        let mut ledger = open(&folder.join("ledger.redb")).await;
        let known = EpochSources { ledger: ledger.last_epoch().unwrap(), lease, unix_seconds: 0 };
        let epoch = known.next();
        let lost = known.has_predecessor().then(|| LostGrants { until: now(), until_wall: Timestamp::now() });
        let recovered = ledger.resume(epoch, known.ledger_is_newest(), lost).unwrap();
        let limiter = Limiter::builder(configuration).ledger(epoch, ledger, recovered).start().unwrap();
        let listener = loop {
            // A port that has just been left may be busy for a moment.
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.address = listener.local_addr().unwrap();
        let leaf = self.ca.issue(NAME);
        let (_, tls) = watch::channel(tls::server_config(&leaf.certificate, &leaf.key).unwrap());
        let authenticator = Authenticator::new(self.cluster.clone(), self.pods.clone());
        let stop = CancellationToken::new();
        let readers = Operators { authenticator: authenticator.clone(), users: vec![OPERATOR.to_owned()] };
        let status = StatusStream {
            readers,
            door: quotakeeper_limiter::door::Door::of(limiter.clone()),
            name: "limiter-0".to_owned(),
            stop: stop.clone(),
        };
        let served = serve(
            listener,
            tls,
            authenticator,
            limiter.clone(),
            (status, quotakeeper_listen::ClosedConnections::default()),
            stop.clone(),
        );
        self.running = Some(Running { limiter, stop, server: tokio::spawn(served) });
    }

    pub fn limiter(&self) -> &Limiter {
        &self.running.as_ref().unwrap().limiter
    }

    pub async fn configure(&self, configuration: impl Into<Configuration>) {
        self.limiter().configure(configuration.into()).await.unwrap();
    }

    /// Ends as on SIGTERM.
    pub async fn stop(&mut self) {
        let Running { limiter, stop, server } = self.running.take().unwrap();
        limiter.close().await.unwrap();
        stop.cancel();
        server.await.unwrap();
    }

    /// Ends as a killed process: the ledger stays as of its last commit.
    pub async fn kill(&mut self) {
        let Running { server, .. } = self.running.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    /// A token of a pod that exists.
    pub fn pod(&self, namespace: &str, pod: &str) -> String {
        self.pods.apply(Event::Apply(object(namespace, pod)));
        self.cluster.token(namespace, pod)
    }

    /// Waits until the limiter has the reports of all its grants.
    pub async fn settled(&self, quota: &str) {
        for _ in 0..6000 {
            let account = self.account(quota).await;
            if account.totals.granted > 0
                && account.status.under_way == 0
                && account.status.limits[0].assumed <= 1
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never settled: {quota}");
    }

    /// Waits until the limiter knows of so many waiting calls.
    pub async fn waiting(&self, quota: &str, calls: u64) {
        self.knows_all(quota, || calls).await;
    }

    /// Waits until the limiter knows of all calls that are `left`: none of them is on its way.
    pub async fn knows_all(&self, quota: &str, left: impl Fn() -> u64) {
        for _ in 0..6000 {
            let account = self.account(quota).await;
            if account.status.waiting_calls() == left() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {} calls wait: {:?}", left(), self.account(quota).await);
    }

    /// Waits until no more than so much of the quota is taken to be used.
    pub async fn uses(&self, quota: &str, at_most: u64) {
        for _ in 0..6000 {
            if self.account(quota).await.status.limits[0].used <= at_most {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("more than {at_most} is used: {:?}", self.account(quota).await);
    }

    pub async fn account(&self, quota: &str) -> AccountReport {
        let report = self.limiter().health().await.unwrap().report;
        report.accounts.into_iter().find(|account| account.quota == quota).unwrap()
    }
}

/// How many calls of a new quota of `amount` are granted at once: the first asks the provider how
/// things stand, and what it then reports as used may be another's.
pub fn at_once(amount: u64) -> u64 {
    amount - 1
}

/// Opens the ledger once the limiter before has let go of it.
async fn open(file: &Path) -> Ledger<RedbStore> {
    for _ in 0..3000 {
        if let Ok(ledger) = ledger::open(file) {
            return ledger;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the ledger is still in use");
}

/// A quota of so many requests in an hour, all of which may arrive at once.
pub fn quota(name: &str, amount: u64) -> CompiledAccount {
    let mut engine = enforced(vec![requests(amount, Duration::from_secs(3600))]);
    engine.queue = QueueConfig {
        max_wait: Duration::from_secs(36_000),
        max_absence: None,
        max_budget_wait: None,
        max_calls: 10_000,
    };
    compiled(&format!("demo/{name}"), name, engine)
}

/// The same, for pods of these namespaces.
pub fn admitting(mut account: CompiledAccount, namespaces: &[&str]) -> CompiledAccount {
    account.admitted = Admitted::Namespaces(namespaces.iter().map(|name| (*name).to_owned()).collect());
    account
}
