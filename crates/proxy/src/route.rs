//! Which quota a request belongs to, and where it goes.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Authority;
use http::{StatusCode, Uri, header};

use crate::authority::HostPattern;
use crate::local_response::LocalResponse;
use crate::quota_endpoint::QuotaEndpoint;
use crate::upstream::Origin;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The base-URL listener.
    BaseUrl,
    /// A listener that plays the provider's host, with TLS or without.
    Host {
        /// Whether TLS was terminated.
        tls: bool,
        /// The listener's port, which clients that were led here may name instead of the provider's.
        port: u16,
    },
}

/// Where a request goes.
pub(crate) struct Route {
    pub(crate) endpoint: Arc<QuotaEndpoint>,
    /// The host that the request names; none: where the account's base URL leads.
    pub(crate) origin: Option<Origin>,
    /// Path and query for the provider.
    pub(crate) path: String,
}

/// Finds the quota of a request.
pub(crate) fn route(
    endpoints: &[Arc<QuotaEndpoint>],
    door: Door,
    uri: &Uri,
    headers: &http::HeaderMap,
) -> Result<Route, LocalResponse> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match door {
        Door::Host { tls, port } => {
            let named = uri.authority().cloned().or_else(|| host_header(headers));
            let route = named.as_ref().and_then(|named| by_host(endpoints, tls, named, Some(port), path));
            let host = named.as_ref().map_or("", Authority::host);
            route.unwrap_or_else(|| Err(stranger(endpoints, host)))
        }
        Door::BaseUrl => {
            // Clients that take the base URL for a proxy send the whole URL (RFC 9112 §3.2.2).
            let tls = uri.scheme_str() == Some("https");
            let by_host = uri.authority().and_then(|named| by_host(endpoints, tls, named, None, path));
            let foreign = uri.authority().map(Authority::host).filter(|host| !is_here(host));
            if let Some(foreign) = foreign.filter(|_| by_host.is_none()) {
                return Err(no_proxy_to(endpoints, foreign));
            }
            by_host
                .or_else(|| by_segment(endpoints, path).map(Ok))
                .unwrap_or_else(|| Err(unserved(endpoints, path)))
        }
    }
}

/// The route of a host that is served; refused where its port is not: there it is another server, which nobody
/// declared a quota for.
fn by_host(
    endpoints: &[Arc<QuotaEndpoint>],
    tls: bool,
    named: &Authority,
    door: Option<u16>,
    path: &str,
) -> Option<Result<Route, LocalResponse>> {
    let host = named.host().trim_end_matches('.');
    let usual = Origin::new(tls, host);
    let asked = named.port_u16().map_or_else(|| usual.clone(), |port| usual.clone().at_port(port));
    let leads_there = |endpoint: &&Arc<QuotaEndpoint>| {
        endpoint
            .account()
            .is_some_and(|account| account.upstream.as_ref().is_some_and(|there| *there == asked))
    };
    let exact = |endpoint: &&Arc<QuotaEndpoint>| {
        let mut names = endpoint.hosts.iter().filter_map(HostPattern::exact);
        names.any(|name| name.eq_ignore_ascii_case(host))
    };
    let covers = |endpoint: &&Arc<QuotaEndpoint>| endpoint.hosts.iter().any(|known| known.covers(host));
    let find = || endpoints.iter().find(exact).or_else(|| endpoints.iter().find(covers));
    let (endpoint, origin) = match endpoints.iter().find(leads_there) {
        Some(endpoint) => (endpoint, asked),
        None => {
            let endpoint = find()?;
            if asked != usual && named.port_u16() != door {
                return Some(Err(other_port(&usual, &asked)));
            }
            (endpoint, usual)
        }
    };
    Some(Ok(Route { endpoint: Arc::clone(endpoint), origin: Some(origin), path: path.to_owned() }))
}

fn by_segment(endpoints: &[Arc<QuotaEndpoint>], path: &str) -> Option<Route> {
    let rest = path.strip_prefix('/')?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (provider, rest) = rest.split_at(end);
    let endpoint =
        endpoints.iter().find(|endpoint| endpoint.provider == provider && has_base_url(endpoint))?;
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let account = endpoint.account();
    let base_url = account.as_ref().and_then(|account| account.profile.base_url.as_ref());
    let path = match base_url.and_then(|base_url| base_url.path_prefix.as_deref()) {
        Some(prefix) => with_prefix(&path, prefix),
        None => path,
    };
    Some(Route { endpoint: Arc::clone(endpoint), origin: None, path })
}

/// The path with the prefix once, however often it was there.
fn with_prefix(path: &str, prefix: &str) -> String {
    let mut rest = path;
    while let Some(shorter) =
        rest.strip_prefix(prefix).filter(|left| left.is_empty() || left.starts_with(['/', '?']))
    {
        rest = shorter;
    }
    format!("{prefix}{rest}")
}

/// Whether a base URL leads anywhere, as far as that is known.
fn has_base_url(endpoint: &QuotaEndpoint) -> bool {
    endpoint.account().is_none_or(|account| account.upstream.is_some())
}

fn host_header(headers: &http::HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

fn other_port(usual: &Origin, asked: &Origin) -> LocalResponse {
    let message = format!(
        "Quotakeeper's proxy serves {usual} here, not {asked}; leave the port out, or declare a quota whose \
         provider has baseUrl.upstream {asked}"
    );
    LocalResponse::new(StatusCode::MISDIRECTED_REQUEST, "UnknownPort", message)
}

fn stranger(endpoints: &[Arc<QuotaEndpoint>], host: &str) -> LocalResponse {
    let known: Vec<_> =
        endpoints.iter().flat_map(|endpoint| &endpoint.hosts).map(HostPattern::to_string).collect();
    let known = known.join(", ");
    let message = format!(
        "Quotakeeper's proxy serves {known} here, not {host:?}; remove the host's entry that leads here, \
         or declare a quota for it"
    );
    LocalResponse::new(StatusCode::MISDIRECTED_REQUEST, "UnknownHost", message)
}

/// Whether a name of the base-URL listener is one of this machine.
fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match address {
        Ok(address) => address.to_canonical().is_loopback() || address.is_unspecified(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

fn no_proxy_to(endpoints: &[Arc<QuotaEndpoint>], host: &str) -> LocalResponse {
    let served = endpoints.iter().filter(|endpoint| has_base_url(endpoint));
    let served = served.map(|endpoint| format!("/{}", endpoint.provider)).collect::<Vec<_>>().join(", ");
    let message = format!(
        "Quotakeeper's proxy is no forward proxy to {host:?}; call that host directly, or a quota's provider by {served} \
         at this address"
    );
    LocalResponse::new(StatusCode::MISDIRECTED_REQUEST, "UnknownHost", message)
}

fn unserved(endpoints: &[Arc<QuotaEndpoint>], path: &str) -> LocalResponse {
    let served = endpoints.iter().filter(|endpoint| has_base_url(endpoint));
    let served = served.map(|endpoint| format!("/{}", endpoint.provider)).collect::<Vec<_>>().join(", ");
    let path = path.split('?').next().unwrap_or_default();
    let segment = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let message = format!(
        "Quotakeeper's proxy serves {served} here, not \"/{segment}\"; begin the path with the provider's name"
    );
    LocalResponse::new(StatusCode::NOT_FOUND, "UnknownProvider", message)
}

#[cfg(test)]
pub(crate) mod tests;
