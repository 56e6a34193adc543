//! How a proxy starts: it checks its settings, binds all addresses, builds what calls share, then serves.

use std::collections::hash_map::RandomState;
use std::fs::{self, Permissions};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quotakeeper_engine::event::SessionId;
use quotakeeper_listen::small_http;
use quotakeeper_wire::proxy::Identity;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use super::{Proxy, events, serve, silence};
use crate::admission::AdmissionClient;
use crate::authority::{Authority, AuthorityError, HostPattern};
use crate::describe::Describer;
use crate::forward::{ProxyContext, RareLog};
use crate::handshake::Handshakes;
use crate::link::Link;
use crate::listen::{Closing, ListenError, bind, open, seats};
use crate::metrics::Metrics;
use crate::quota_endpoint::QuotaEndpoint;
use crate::record::Telemetry;
use crate::replay::ReplayBuffer;
use crate::resolve::{HostsFile, Intercepted, Resolver};
use crate::route::Door;
use crate::settings::Settings;
use crate::stats::Counts;
use crate::trust::{self, Trust, TrustError};
use crate::upstream::{OriginError, Upstreams};
use crate::{admin, clock};

/// Events that a slow subscriber may fall behind.
const EVENTS: usize = 4096;

/// A proxy that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two accounts of one provider: a call would not know whom to ask.
    #[error("quotas {one} and {two} are both of provider {provider}; give a workload one quota a provider")]
    TwoAccounts { provider: String, one: String, two: String },
    /// A profile's base URL is no origin.
    #[error("quota {quota}: the profile's baseUrl.upstream can't be used: {source}")]
    Upstream { quota: String, source: OriginError },
    /// The CA bundle.
    #[error("the CA bundle can't be written to {} ({source}); mount a volume there", file.display())]
    Bundle {
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Nothing to intercept.
    #[error(
        "no provider of these quotas names hosts to intercept; add `hosts` to the ApiProvider, or use base URLs"
    )]
    NoHosts,
    /// The trust store.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The proxy's own CA.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A socket that listens, with its real port.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// All sockets of a proxy. They are bound before any is served, so that a failed start serves nothing.
struct Sockets {
    base_url: Bound,
    https: Vec<Bound>,
    http: Vec<Bound>,
    admin: Option<Bound>,
}

impl Proxy {
    /// Starts a proxy; when this returns, all of its addresses listen. Calls wait until `link` is connected.
    ///
    /// # Errors
    /// [`StartError`] says what to change.
    pub async fn start(settings: Settings, link: Link) -> Result<Self, StartError> {
        // First: a kubelet that probes meanwhile waits for the answer, instead of being refused the connection.
        let sockets = Sockets::bind(&settings)?;
        let endpoints = endpoints(&settings)?;
        let trust = Trust::load(&settings.extra_cas)?;
        let authority = authority(&settings, &endpoints)?;
        let root = authority.as_ref().map(|authority| authority.root_pem());
        let own = trust::others(&settings.own_ca_files, trust.bundle_pem());
        let bundle = format!("{}{own}{}", trust.bundle_pem(), root.as_deref().unwrap_or_default());
        if let Some(file) = &settings.bundle {
            write_bundle(file, bundle.as_bytes())?;
        }
        if let Some(file) = &settings.java_store {
            write_bundle(file, &trust::java_store(&bundle, trust::JAVA_PASSWORD))?;
        }
        let context = Arc::new(assemble(&settings, endpoints, &trust, link)?);
        let mut proxy = Self {
            context,
            base_url: sockets.base_url.address,
            https: addresses(&sockets.https),
            http: addresses(&sockets.http),
            admin: sockets.admin.as_ref().map(|bound| bound.address),
            bundle,
            root,
        };
        proxy.serve(sockets, &settings, authority)?;
        Ok(proxy)
    }

    fn serve(
        &mut self,
        sockets: Sockets,
        settings: &Settings,
        authority: Option<Arc<Authority>>,
    ) -> Result<(), StartError> {
        let tls = authority.map(server_tls).transpose()?;
        let tls = tls.map(|config| {
            Arc::new(Handshakes {
                config,
                context: Arc::clone(&self.context),
                remedy: settings.trust_remedy.clone(),
                told: RareLog::default(),
            })
        });
        let context = Arc::clone(&self.context);
        self.context.closing.spawn(silence::watch(context, settings.silence, settings.hosts.is_some()));
        let seats = seats();
        let door = |bound: Bound, tls: Option<Arc<Handshakes>>, door: Door| {
            let context = Arc::clone(&self.context);
            open(bound.listener, tls, &self.context.closing, Arc::clone(&seats), move |received| {
                let context = Arc::clone(&context);
                async move { serve(&context, door, received).await }
            });
        };
        door(sockets.base_url, None, Door::BaseUrl);
        if let Some(tls) = tls {
            for bound in sockets.https {
                let port = bound.address.port();
                door(bound, Some(Arc::clone(&tls)), Door::Host { tls: true, port });
            }
            for bound in sockets.http {
                let port = bound.address.port();
                door(bound, None, Door::Host { tls: false, port });
            }
        }
        if let Some(admin) = sockets.admin {
            let context = Arc::clone(&self.context);
            let (more, closed) = (settings.more_metrics.clone(), context.telemetry.metrics.closed.clone());
            let answer = move |request| std::future::ready(admin::serve(&context, more.as_ref(), &request));
            // Anybody in the cluster reaches it. It ends with the gentle close, so that nobody delays the proxy's end.
            self.context.closing.spawn(small_http::serve(
                admin.listener,
                "metrics and probes of the proxy",
                closed,
                answer,
            ));
        }
        Ok(())
    }
}

impl Sockets {
    fn bind(settings: &Settings) -> Result<Self, ListenError> {
        let hosts = settings.hosts.clone().unwrap_or_default();
        let admin = settings.admin.map(|address| Bound::new(address, "metrics and probes"));
        Ok(Self {
            base_url: Bound::new(settings.base_url, "base URLs")?,
            https: Bound::all(&hosts.https, "the providers' hosts (https)")?,
            http: Bound::all(&hosts.http, "the providers' hosts (http)")?,
            admin: admin.transpose()?,
        })
    }
}

impl Bound {
    fn new(address: SocketAddr, purpose: &'static str) -> Result<Self, ListenError> {
        let (listener, address) = bind(address, purpose)?;
        Ok(Self { listener, address })
    }

    fn all(addresses: &[SocketAddr], purpose: &'static str) -> Result<Vec<Self>, ListenError> {
        addresses.iter().map(|address| Self::new(*address, purpose)).collect()
    }
}

fn addresses(sockets: &[Bound]) -> Vec<SocketAddr> {
    sockets.iter().map(|bound| bound.address).collect()
}

/// The CA that signs for intercepted hosts; none without hosts mode.
fn authority(
    settings: &Settings,
    endpoints: &[Arc<QuotaEndpoint>],
) -> Result<Option<Arc<Authority>>, StartError> {
    if settings.hosts.is_none() {
        return Ok(None);
    }
    let patterns: Vec<HostPattern> =
        endpoints.iter().flat_map(|endpoint| endpoint.hosts.iter().cloned()).collect();
    if patterns.is_empty() {
        return Err(StartError::NoHosts);
    }
    let authority = match &settings.authority {
        None => Authority::new(&patterns)?,
        Some(folder) => Authority::load_or_create(folder, &patterns)?,
    };
    Ok(Some(Arc::new(authority)))
}

/// Builds what all calls share, and starts the task that exchanges messages with the limiter.
fn assemble(
    settings: &Settings,
    endpoints: Vec<Arc<QuotaEndpoint>>,
    trust: &Trust,
    link: Link,
) -> Result<ProxyContext, StartError> {
    let resolver =
        Resolver::new(settings.resolve.clone(), HostsFile::past(intercepted(settings, &endpoints)));
    let upstreams = Upstreams::new(resolver, trust, settings.pool)?;
    let (subscribers, _) = broadcast::channel(EVENTS);
    let telemetry = Arc::new(Telemetry {
        metrics: Metrics::new(&settings.consumer.to_string()),
        counts: Counts::default(),
        learned: Mutex::default(),
        events: subscribers,
    });
    let bypass = watch::Sender::new(events::bypassed(&endpoints));
    let bypassed = bypass.subscribe();
    let handler = events::handler(endpoints.clone(), bypass, Arc::clone(&telemetry));
    Ok(ProxyContext {
        endpoints,
        admission: AdmissionClient::start(identity(settings), link, bypassed, handler),
        upstreams,
        telemetry,
        bodies: ReplayBuffer::new(&settings.bodies),
        describer: Describer::default(),
        shortage: RareLog::default(),
        unread: RareLog::default(),
        unreachable: RareLog::default(),
        closing: Closing::default(),
    })
}

/// The hosts that lead to the proxy itself, and where it listens for them.
fn intercepted(settings: &Settings, endpoints: &[Arc<QuotaEndpoint>]) -> Intercepted {
    let listeners = settings.hosts.iter().flat_map(|hosts| hosts.https.iter().chain(&hosts.http));
    Intercepted {
        hosts: endpoints.iter().flat_map(|endpoint| endpoint.hosts.iter().cloned()).collect(),
        at: listeners.map(SocketAddr::ip).collect(),
    }
}

fn endpoints(settings: &Settings) -> Result<Vec<Arc<QuotaEndpoint>>, StartError> {
    let mut endpoints: Vec<Arc<QuotaEndpoint>> = Vec::new();
    for (index, quota) in (0..).zip(&settings.quotas) {
        let endpoint = QuotaEndpoint::new(index, quota)
            .map_err(|source| StartError::Upstream { quota: quota.name.to_string(), source })?;
        if let Some(other) = endpoints.iter().find(|other| other.provider == endpoint.provider) {
            return Err(StartError::TwoAccounts {
                provider: endpoint.provider,
                one: other.quota.to_string(),
                two: quota.name.to_string(),
            });
        }
        endpoints.push(Arc::new(endpoint));
    }
    Ok(endpoints)
}

/// Replaces the file as a whole: an application may read it at any time.
fn write_bundle(file: &Path, bundle: &[u8]) -> Result<(), StartError> {
    let write = || {
        let unfinished = file.with_extension("unfinished");
        fs::write(&unfinished, bundle)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o644))?;
        fs::rename(&unfinished, file)
    };
    write().map_err(|source| StartError::Bundle { file: file.to_owned(), source })
}

fn identity(settings: &Settings) -> Identity {
    // Keyed by the system's randomness, so that no other proxy draws the same number.
    let session = RandomState::new().hash_one((clock::now().0, std::process::id()));
    Identity {
        session: SessionId(session),
        consumer: settings.consumer.clone(),
        quotas: settings.quotas.iter().map(|quota| quota.name.clone()).collect(),
        max_calls: settings.max_calls,
    }
}

fn server_tls(authority: Arc<Authority>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(authority);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
