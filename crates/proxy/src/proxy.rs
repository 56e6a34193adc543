//! A running proxy.
//!
//! | room | holds |
//! |---|---|
//! | `start` | binds the addresses, assembles the rest, serves |
//! | `silence` | a proxy that no call comes through |
//! | `events` | what happens in a proxy, and changes that the limiter reports |

mod events;
mod silence;
mod start;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response};
use quotakeeper_wire::headroom::PATH;
use tokio::sync::broadcast;

use crate::authority::HostPattern;
use crate::forward::{ProxyContext, forward};
use crate::head::other_protocol;
use crate::headroom;
use crate::listen::{Received, connectable};
use crate::local_response::{LocalResponse, ResponseBody};
use crate::quota_endpoint::QuotaEndpoint;
use crate::route::{Door, route};
use crate::stats::Stats;
pub use events::Event;
pub use start::StartError;

/// A running proxy. Dropped, it closes at once; [`Proxy::shutdown`] lets calls end.
pub struct Proxy {
    context: Arc<ProxyContext>,
    base_url: SocketAddr,
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    bundle: String,
    root: Option<String>,
}

impl Proxy {
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
        let proxy = format!("http://{}", self.base_url_addr());
        let endpoints = self.context.endpoints.iter();
        let variables = endpoints
            .filter_map(|endpoint| Some(endpoint.account()?.profile.environment(&proxy, &endpoint.provider)));
        variables.flatten().collect()
    }

    /// Where the application finds what is left of its quotas.
    pub fn headroom_url(&self) -> String {
        format!("http://{}{PATH}", self.base_url_addr())
    }

    /// The providers' host names, for entries in a hosts file. Wildcards have no entry there: an `ApiProvider` that
    /// is to be intercepted lists each name in `hosts`.
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

    /// What happens from now on. A subscriber that falls 4,096 events behind loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.context.telemetry.events.subscribe()
    }

    /// Figures since the start.
    pub fn stats(&self) -> Stats {
        let admission = &self.context.admission;
        self.context.telemetry.counts.read(admission.waiting(), admission.counters())
    }

    /// Whether nothing is under way that would change the figures: no call, and no connection whose client has still to
    /// say whether it trusts the proxy.
    pub fn is_settled(&self) -> bool {
        self.context.telemetry.counts.is_settled()
    }

    /// Calls that were refused since the start, by the reason that their answers name.
    pub fn refused_by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.context.telemetry.counts.refused_by_reason()
    }

    /// What may send calls around this proxy, and what brings them back, as a part of a sentence.
    pub fn bypass_remedy(&self) -> &'static str {
        silence::remedy(self.root.is_some())
    }

    /// Whether the limiter is connected.
    pub fn is_connected(&self) -> bool {
        self.context.admission.is_connected()
    }

    /// All metrics as text, as `/metrics` shows them.
    pub fn metrics_text(&self) -> String {
        self.context.telemetry.metrics.text()
    }

    /// Accepts no more connections, refuses the calls that wait, lets those under way end for `grace`, then cuts
    /// them off. The limiter gets a report of each call's end. Returns whether all calls ended by themselves.
    pub async fn shutdown(self, grace: Duration) -> bool {
        let ended = self.context.closing.close(grace).await;
        self.context.admission.close();
        ended
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.context.closing.cut();
        self.context.admission.close();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// One request, from any door.
async fn serve(context: &ProxyContext, door: Door, received: Received) -> Response<ResponseBody> {
    let request = match received {
        Ok(request) => request,
        Err(own) => {
            tracing::warn!(reason = own.reason, message = own.message, "a request can't be read");
            return turned_away(context, None, own);
        }
    };
    let own = match other_protocol(request.method(), request.headers()) {
        Some(refused) => refused,
        None if door == Door::BaseUrl && headroom::is_asked(request.uri()) => {
            let asked = (request.method(), request.uri());
            match headroom::answer(&context.endpoints, &context.admission, asked.0, asked.1).await {
                Ok(response) => return response,
                Err(own) => own,
            }
        }
        None => match route(&context.endpoints, door, request.uri(), request.headers()) {
            Ok(route) => return forward(context, route, request).await,
            Err(own) => own,
        },
    };
    turned_away(context, Some(request.method()), own)
}

/// The proxy's own answer to a request that belongs to no quota: logged and counted.
fn turned_away(
    context: &ProxyContext,
    method: Option<&Method>,
    own: LocalResponse,
) -> Response<ResponseBody> {
    tracing::info!(
        target: "quotakeeper::access",
        method = method.map(Method::as_str),
        status = own.status.as_u16(),
        outcome = own.reason,
    );
    context.telemetry.metrics.turned_away(own.reason);
    own.into_response()
}
