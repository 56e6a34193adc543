//! The proxy as a sidecar: configured by its environment, connected to a limiter across the network, stopped by a
//! signal.

mod limiter;
mod memory;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use quotakeeper_wire::bootstrap::{
    ADMIN_PORT, BASE_URL_PORT, BODY_FOLDER, BODY_FOLDER_BYTES, BUNDLE_FILE, Bootstrap, InterceptionMode,
    JAVA_STORE_FILE, KEY_FOLDER, TOKEN_FILE, VARIABLE,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::resolve::Override;
use crate::settings::Quota;
use crate::{BodyBounds, HostsListeners, Link, Proxy, Settings};

/// How long calls under way may still take when the pod ends. The kubelet stops native sidecars after the
/// applications, so that nobody waits for them any more, while the pod's end and its Job's wait for the proxy.
const GRACE: Duration = Duration::from_millis(600);
/// How long the last messages may take to reach the limiter. Together with [`GRACE`] less than a second.
const FAREWELL: Duration = Duration::from_millis(250);

/// What makes a client in a pod trust the proxy.
const TRUST_REMEDY: &str = "let it read /var/run/quotakeeper/ca/bundle.pem as its file of CAs (Java: cacerts.jks beside \
     it), by a setting of its own or by the pod's annotation quotakeeper.dev/trust-files, which names the file that \
     it reads now; a client whose CAs are compiled in needs a base URL that leads to the proxy";

/// The addresses and files of one proxy in a pod.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where base URLs lead.
    pub base_url: SocketAddr,
    /// Where the providers' hosts are intercepted.
    pub hosts: HostsListeners,
    /// Metrics and probes.
    pub admin: SocketAddr,
    /// The CA bundle for applications.
    pub bundle: PathBuf,
    /// The same as a Java trust store.
    pub java_store: PathBuf,
    /// The interception CA's folder.
    pub key: PathBuf,
    /// The token for the limiter.
    pub token: PathBuf,
    /// The folder of bodies that memory has no room for.
    pub bodies: PathBuf,
    /// Addresses of hosts, instead of DNS.
    pub resolve: Vec<Override>,
}

impl Default for Layout {
    /// The layout of an injected pod.
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            base_url: loopback(BASE_URL_PORT),
            hosts: HostsListeners { https: vec![loopback(443)], http: vec![loopback(80)] },
            admin: SocketAddr::from((all_addresses(), ADMIN_PORT)),
            bundle: BUNDLE_FILE.into(),
            java_store: JAVA_STORE_FILE.into(),
            key: KEY_FOLDER.into(),
            token: TOKEN_FILE.into(),
            bodies: BODY_FOLDER.into(),
            resolve: Vec::new(),
        }
    }
}

/// All addresses of the pod, among which is the one that the kubelet asks: those of IPv4 too where there is IPv6.
fn all_addresses() -> IpAddr {
    match std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence, if it can't start. A limiter that is down is no error: calls wait.
pub async fn run() -> anyhow::Result<()> {
    let text = std::env::var(VARIABLE).with_context(|| {
        format!("{VARIABLE} isn't set; this program is injected by quotakeeper's webhook")
    })?;
    let bootstrap: Bootstrap =
        serde_json::from_str(&text).with_context(|| format!("{VARIABLE} can't be read"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sidecar = Sidecar::start(&bootstrap, Layout::default()).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sidecar.stop().await;
    Ok(())
}

/// A running sidecar.
pub struct Sidecar {
    proxy: Proxy,
    session: tokio::task::JoinHandle<()>,
}

impl Sidecar {
    /// Starts a proxy and its session with the limiter. When this returns, all addresses listen and the
    /// bundle is written.
    ///
    /// # Errors
    /// A sentence with what to change.
    pub async fn start(bootstrap: &Bootstrap, layout: Layout) -> anyhow::Result<Self> {
        let settings = settings(bootstrap, &layout);
        let (link, peer) = Link::pair();
        let proxy = Proxy::start(settings, link).await?;
        let session = limiter::keep_connected(&bootstrap.limiter, &layout, peer)?;
        tracing::info!(
            base_url = %proxy.base_url_addr(),
            hosts = ?proxy.host_names(),
            quotas = ?bootstrap.quotas.iter().map(|quota| quota.quota.as_str()).collect::<Vec<_>>(),
            limiter = bootstrap.limiter.address,
            "serving"
        );
        Ok(Self { proxy, session })
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Refuses the calls that wait, lets those under way end for less than a second, reports them to the limiter
    /// if it is there, and stops.
    pub async fn stop(self) {
        let connected = self.proxy.is_connected();
        let ended = self.proxy.shutdown(GRACE).await;
        let abort = self.session.abort_handle();
        let reported = connected && tokio::time::timeout(FAREWELL, self.session).await.is_ok();
        if !reported {
            abort.abort();
            tracing::warn!(
                "the last messages did not reach the limiter; it frees what the calls held a little later"
            );
        }
        tracing::info!(ended, "stopped");
    }
}

fn settings(bootstrap: &Bootstrap, layout: &Layout) -> Settings {
    let by_hosts = |mode| mode == InterceptionMode::Hosts;
    let quotas: Vec<Quota> = bootstrap
        .quotas
        .iter()
        .map(|place| Quota {
            name: place.quota.clone(),
            provider: place.provider.clone(),
            // What is caught by base URL alone needs no CA.
            hosts: if by_hosts(place.mode) { place.hosts.clone() } else { Vec::new() },
            upstream: place.upstream.clone(),
            account: None,
        })
        .collect();
    let any = quotas.iter().any(|quota| !quota.hosts.is_empty());
    Settings {
        base_url: layout.base_url,
        hosts: any.then(|| layout.hosts.clone()),
        admin: Some(layout.admin),
        bundle: any.then(|| layout.bundle.clone()),
        java_store: any.then(|| layout.java_store.clone()),
        authority: any.then(|| layout.key.clone()).filter(|folder| Path::is_dir(folder)),
        resolve: layout.resolve.clone(),
        extra_cas: Some(bootstrap.extra_cas_pem.clone()).filter(|pem| !pem.is_empty()).into_iter().collect(),
        bodies: bodies(&layout.bodies, memory::limit()),
        trust_remedy: TRUST_REMEDY.to_owned(),
        own_ca_files: bootstrap.own_ca_files.iter().map(PathBuf::from).collect(),
        ..Settings::of_quotas(quotas, bootstrap.consumer.clone())
    }
}

/// The memory for bodies, in bytes, of a container without a limit: all containers of its pod may share one, which it can't
/// see.
const MEMORY_WITHOUT_LIMIT: u64 = 64 << 20;

/// A third of the memory that the container may use for bodies, and all of their folder but what rounding may take.
fn bodies(folder: &Path, container: Option<u64>) -> BodyBounds {
    let usual = BodyBounds::default();
    let memory = container.map_or(MEMORY_WITHOUT_LIMIT, |limit| limit / 3);
    // Pods that an older version has injected have no such folder.
    let folder = Some(folder.to_owned()).filter(|folder| Path::is_dir(folder));
    BodyBounds { memory, disk: BODY_FOLDER_BYTES / 16 * 15, folder, ..usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_a_third_of_the_containers_memory() {
        let memory = |container| bodies(Path::new("/nowhere"), container).memory;
        assert_eq!(memory(Some(384 << 20)), 128 << 20);
        assert_eq!(memory(None), MEMORY_WITHOUT_LIMIT);
    }
}
