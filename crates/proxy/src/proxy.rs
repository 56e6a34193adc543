//! A running proxy: puts the rooms together, opens the doors, and closes them again.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{self, Permissions};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use quotakeeper_engine::event::{Scope, SessionId};
use quotakeeper_wire::message::{AccountIndex, AccountState};
use quotakeeper_wire::proxy::Identity;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use crate::admission::{AdmissionClient, LimiterEvent};
use crate::authority::{Authority, AuthorityError, HostPattern};
use crate::forward::{ProxyContext, Shortage, forward};
use crate::head::upgrade;
use crate::link::Link;
use crate::listen::{Closing, ListenError, bind, connectable, open, seats};
use crate::local_response::{LocalResponse, ResponseBody};
use crate::metrics::Metrics;
use crate::quota_endpoint::QuotaEndpoint;
use crate::record::{CallRecord, Telemetry};
use crate::replay::ReplayBuffer;
use crate::resolve::Resolver;
use crate::route::{Door, route};
use crate::settings::Settings;
use crate::stats::{Counts, Stats};
use crate::trust::{self, Trust, TrustError};
use crate::upstream::{OriginError, Upstreams};
use crate::{admin, clock};

/// Events that a slow listener may fall behind.
const EVENTS: usize = 4096;

/// What happens in a proxy, for progress lines.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call is over.
    Call(Arc<CallRecord>),
    /// A part of a quota is paused.
    Paused {
        /// The quota.
        quota: Arc<str>,
        /// Which calls.
        scope: Scope,
        /// For how long at least.
        remaining: Duration,
        /// The provider's word, or who paused.
        reason: String,
    },
    /// A pause is over.
    Resumed {
        /// The quota.
        quota: Arc<str>,
        /// Which calls.
        scope: Scope,
        /// How long it was paused.
        paused_for: Duration,
    },
    /// The link to the limiter stands or is lost.
    Connected(bool),
}

/// A proxy that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two accounts of one provider: a call would not know whom to ask.
    #[error("quotas {one} and {two} are both of provider {provider}; give a workload one quota a provider")]
    TwoAccounts {
        /// The provider.
        provider: String,
        /// One quota.
        one: String,
        /// The other.
        two: String,
    },
    /// A profile's base URL is no origin.
    #[error("quota {quota}: the profile's baseUrl.upstream can't be used: {source}")]
    Upstream {
        /// The quota.
        quota: String,
        /// What is wrong.
        source: OriginError,
    },
    /// The CA bundle.
    #[error("the CA bundle can't be written to {} ({source}); mount a volume there", file.display())]
    Bundle {
        /// Where.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nothing to intercept.
    #[error("hosts mode needs hosts, and no quota's provider names one; set account.hosts, or use base URLs")]
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

/// A running proxy. Dropped, it closes at once; [`Proxy::shutdown`] lets calls end.
pub struct Proxy {
    context: Arc<ProxyContext>,
    closing: Closing,
    base_url: SocketAddr,
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    bundle: String,
    root: Option<String>,
}

impl Proxy {
    /// Starts a proxy; when this returns, all of its addresses listen. Calls wait until `link` is connected.
    ///
    /// # Errors
    /// [`StartError`] says what to change.
    pub async fn start(settings: Settings, link: Link) -> Result<Self, StartError> {
        let endpoints = endpoints(&settings)?;
        let trust = Trust::load(&settings.extra_cas)?;
        let patterns: Vec<HostPattern> =
            endpoints.iter().flat_map(|endpoint| endpoint.hosts.iter().cloned()).collect();
        let authority = match (&settings.hosts, &settings.authority) {
            (None, _) => None,
            (Some(_), _) if patterns.is_empty() => return Err(StartError::NoHosts),
            (Some(_), None) => Some(Arc::new(Authority::new(&patterns)?)),
            (Some(_), Some(folder)) => Some(Arc::new(Authority::kept(folder, &patterns)?)),
        };
        let root = authority.as_ref().map(|authority| authority.root_pem());
        let own = trust::others(&settings.own_ca_files, trust.bundle_pem());
        let bundle = format!("{}{own}{}", trust.bundle_pem(), root.as_deref().unwrap_or_default());
        if let Some(file) = &settings.bundle {
            write_bundle(file, &bundle)?;
        }
        // All addresses are taken before anything is served.
        let (base_url_door, base_url) = bind(settings.base_url, "base URLs")?;
        let listeners = settings.hosts.clone().unwrap_or_default();
        let (https_doors, https) = bind_all(&listeners.https, "the providers' hosts (https)")?;
        let (http_doors, http) = bind_all(&listeners.http, "the providers' hosts (http)")?;
        let admin = match settings.admin {
            Some(address) => Some(bind(address, "metrics and probes")?),
            None => None,
        };
        let resolver = Resolver::new(settings.resolve.clone());
        let upstreams = Upstreams::new(resolver, &trust, settings.pool)?;
        let (events, _) = broadcast::channel(EVENTS);
        let telemetry =
            Arc::new(Telemetry { metrics: Metrics::default(), counts: Counts::default(), events });
        let opened = watch::Sender::new(open_ones(&endpoints));
        let open_now = opened.subscribe();
        let hear = hearing(endpoints.clone(), opened, Arc::clone(&telemetry));
        let admission = AdmissionClient::start(identity(&settings), link, open_now, hear);
        let keep = ReplayBuffer::new(settings.keep_body, settings.keep_bodies);
        let context = Arc::new(ProxyContext {
            endpoints,
            admission,
            upstreams,
            telemetry,
            keep,
            shortage: Shortage::default(),
        });

        let closing = Closing::default();
        let seats = seats();
        let door = |listener: TcpListener, tls: Option<Arc<ServerConfig>>, door: Door| {
            let context = Arc::clone(&context);
            open(listener, tls, &closing, Some(Arc::clone(&seats)), move |request| {
                let context = Arc::clone(&context);
                async move { serve(&context, door, request).await }
            });
        };
        door(base_url_door, None, Door::BaseUrl);
        if let Some(authority) = &authority {
            let tls = server_tls(Arc::clone(authority))?;
            for (listener, address) in https_doors.into_iter().zip(&https) {
                door(listener, Some(Arc::clone(&tls)), Door::Host { tls: true, port: address.port() });
            }
            for (listener, address) in http_doors.into_iter().zip(&http) {
                door(listener, None, Door::Host { tls: false, port: address.port() });
            }
        }
        let admin = admin.map(|(listener, address)| {
            let context = Arc::clone(&context);
            open(listener, None, &closing, None, move |request| {
                std::future::ready(admin::serve(&context, &request))
            });
            address
        });
        Ok(Self { context, closing, base_url, https, http, admin, bundle, root })
    }

    /// Where base URLs lead: an address that can be connected to, also where the proxy listens on all of them.
    pub fn base_url_addr(&self) -> SocketAddr {
        connectable(self.base_url)
    }

    /// Where the proxy plays the providers' hosts with TLS, in the order of the settings.
    pub fn https_addrs(&self) -> &[SocketAddr] {
        &self.https
    }

    /// Where the proxy plays the providers' hosts without TLS, in the order of the settings.
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Where metrics and probes are.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The base-URL variables for the application, such as `OPENAI_BASE_URL`.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for endpoint in &self.context.endpoints {
            let account = endpoint.account();
            let base_url = account.iter().flat_map(|account| &account.profile.base_url);
            for variable in base_url.flat_map(|base_url| &base_url.variables) {
                let path = variable.path.as_deref().unwrap_or_default();
                let value = format!("http://{}/{}{path}", self.base_url_addr(), endpoint.provider);
                variables.push((variable.name.clone(), value));
            }
        }
        variables
    }

    /// The providers' host names, for entries in a hosts file. Names under a wildcard are not known here: list
    /// them in the quota's `account.hosts`.
    pub fn host_names(&self) -> Vec<String> {
        self.names(|_| true)
    }

    /// Of those, the ones whose SDKs have no base-URL variable and can be reached only so.
    pub fn host_names_without_base_url(&self) -> Vec<String> {
        self.names(|endpoint| endpoint.account().is_some_and(|account| account.profile.base_url.is_none()))
    }

    fn names(&self, wanted: impl Fn(&QuotaEndpoint) -> bool) -> Vec<String> {
        let endpoints = self.context.endpoints.iter().filter(|endpoint| wanted(endpoint));
        let names = endpoints.flat_map(|endpoint| endpoint.hosts.iter().filter_map(HostPattern::exact));
        names.map(str::to_owned).collect()
    }

    /// The CA bundle for the application: the system's roots, the extra CAs and, in hosts mode, the proxy's own.
    pub fn ca_bundle_pem(&self) -> &str {
        &self.bundle
    }

    /// The proxy's own CA alone; none without hosts mode.
    pub fn root_pem(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// What happens from now on. A listener that falls 4,096 events behind loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.context.telemetry.events.subscribe()
    }

    /// Figures since the start.
    pub fn stats(&self) -> Stats {
        let admission = &self.context.admission;
        self.context.telemetry.counts.read(admission.waiting(), admission.counters())
    }

    /// Whether the limiter is connected.
    pub fn is_connected(&self) -> bool {
        self.context.admission.is_connected()
    }

    /// All metrics as text, as `/metrics` shows them.
    pub fn metrics_text(&self) -> String {
        self.context.telemetry.metrics.text()
    }

    /// Takes no more connections, lets calls end for `grace`, then cuts them off. The limiter hears of every
    /// call's end. Whether all calls ended by themselves.
    pub async fn shutdown(self, grace: Duration) -> bool {
        let ended = self.closing.close(grace).await;
        self.context.admission.close();
        ended
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closing.cut();
        self.context.admission.close();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// One request, from any door.
async fn serve(context: &ProxyContext, door: Door, request: Request<Incoming>) -> Response<ResponseBody> {
    let own = match route(&context.endpoints, door, request.uri(), request.headers()) {
        Ok(route) => match upgrade(request.method(), request.headers()) {
            None => return forward(context, route, request).await,
            // One grant is one call; on a socket that left HTTP nobody could count.
            Some(protocol) => LocalResponse::new(
                StatusCode::NOT_IMPLEMENTED,
                "UpgradeRefused",
                format!(
                    "Quotakeeper's proxy passes HTTP calls on, not {protocol:?}: it could not count what follows"
                ),
            ),
        },
        Err(own) => own,
    };
    tracing::info!(
        target: "quotakeeper::access",
        method = %request.method(),
        status = own.status.as_u16(),
        outcome = own.reason,
    );
    own.into_response()
}

fn endpoints(settings: &Settings) -> Result<Vec<Arc<QuotaEndpoint>>, StartError> {
    let mut endpoints: Vec<Arc<QuotaEndpoint>> = Vec::new();
    for (index, quota) in (0..).zip(&settings.quotas) {
        let endpoint = QuotaEndpoint::new(index, quota)
            .map_err(|source| StartError::Upstream { quota: quota.name.clone(), source })?;
        if let Some(other) = endpoints.iter().find(|other| other.provider == endpoint.provider) {
            return Err(StartError::TwoAccounts {
                provider: endpoint.provider,
                one: other.quota.to_string(),
                two: quota.name.clone(),
            });
        }
        endpoints.push(Arc::new(endpoint));
    }
    Ok(endpoints)
}

fn open_ones(endpoints: &[Arc<QuotaEndpoint>]) -> BTreeSet<AccountIndex> {
    let open = endpoints.iter().filter(|endpoint| endpoint.account().is_some_and(|account| account.open));
    open.map(|endpoint| endpoint.index).collect()
}

/// Whole or not at all: an application may read it at any time.
fn write_bundle(file: &Path, bundle: &str) -> Result<(), StartError> {
    let write = || {
        let unfinished = file.with_extension("unfinished");
        fs::write(&unfinished, bundle)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o644))?;
        fs::rename(&unfinished, file)
    };
    write().map_err(|source| StartError::Bundle { file: file.to_owned(), source })
}

fn bind_all(
    addresses: &[SocketAddr],
    purpose: &'static str,
) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), ListenError> {
    let (mut listeners, mut bound) = (Vec::new(), Vec::new());
    for address in addresses {
        let (listener, address) = bind(*address, purpose)?;
        listeners.push(listener);
        bound.push(address);
    }
    Ok((listeners, bound))
}

fn identity(settings: &Settings) -> Identity {
    // Keyed by the system's randomness, so that no other proxy draws the same number.
    let session = RandomState::new().hash_one((clock::now().0, std::process::id()));
    Identity {
        session: SessionId(session),
        consumer: settings.consumer.clone(),
        accounts: settings.quotas.iter().map(|quota| quota.name.clone()).collect(),
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

/// Puts in force what the limiter says of a quota, and says so where a person would ask.
fn take(endpoint: &QuotaEndpoint, state: AccountState) {
    let was_open = endpoint.account().is_some_and(|account| account.open);
    if let Err(error) = endpoint.take(state) {
        return tracing::error!(quota = %endpoint.quota, %error, "what the limiter says can't be put in force");
    }
    match endpoint.account() {
        None => {
            tracing::warn!(quota = %endpoint.quota, reason = %endpoint.why_not(), "not in force: calls wait")
        }
        Some(account) if account.open && !was_open => {
            tracing::warn!(quota = %endpoint.quota, "the gate is open: calls pass, whatever the quota says");
        }
        Some(account) if was_open && !account.open => {
            tracing::warn!(quota = %endpoint.quota, "the gate is closed: calls wait their turn again");
        }
        Some(_) => tracing::info!(quota = %endpoint.quota, "in force"),
    }
}

/// Turns what the limiter says into logs, metrics and events.
fn hearing(
    endpoints: Vec<Arc<QuotaEndpoint>>,
    open: watch::Sender<BTreeSet<AccountIndex>>,
    telemetry: Arc<Telemetry>,
) -> impl Fn(LimiterEvent) + Send + Sync {
    move |heard| {
        let quota = |index: u32| {
            endpoints.get(index as usize).map(|endpoint| Arc::clone(&endpoint.quota)).unwrap_or_default()
        };
        let event = match heard {
            LimiterEvent::Connected(connected) => {
                telemetry.metrics.set_connected(connected);
                let all_open = open_ones(&endpoints).len() == endpoints.len();
                match connected {
                    true => tracing::info!("the limiter is connected"),
                    false if all_open => {
                        tracing::warn!("the limiter is not connected: calls pass, the gate is open")
                    }
                    false => tracing::warn!("the limiter is not connected: calls wait"),
                }
                Event::Connected(connected)
            }
            LimiterEvent::Account { account, state } => {
                if let Some(endpoint) = endpoints.get(account.0 as usize) {
                    take(endpoint, state);
                    let now_open = open_ones(&endpoints);
                    open.send_if_modified(|open| {
                        *open != now_open && {
                            *open = now_open;
                            true
                        }
                    });
                }
                return;
            }
            LimiterEvent::Paused { account, scope, remaining, reason } => {
                let quota = quota(account.0);
                telemetry.metrics.paused(&quota);
                tracing::warn!(%quota, ?scope, ?remaining, reason, "paused");
                Event::Paused { quota, scope, remaining, reason }
            }
            LimiterEvent::Resumed { account, scope, paused_for } => {
                let quota = quota(account.0);
                tracing::info!(%quota, ?scope, ?paused_for, "resumed");
                Event::Resumed { quota, scope, paused_for }
            }
        };
        // Nobody needs to listen.
        let _heard = telemetry.events.send(event);
    }
}
