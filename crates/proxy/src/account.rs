//! The accounts that the proxy serves, and which one a request belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::uri::Authority;
use http::{StatusCode, Uri, header};
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::request::CallShape;
use quotakeeper_engine::event::{Observation, Rejection, RejectionClass, Scope, Shape};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::AccountIndex;

use crate::answer::Own;
use crate::authority::HostPattern;
use crate::upstream::{Origin, OriginError};

/// Tokens of a repetition and of a call: one call in five may be repeated.
const REPETITION: u32 = 5;
/// What the budget holds at most, and at first: ten repetitions.
const BUDGET: u32 = 10 * REPETITION;

/// One account.
pub(crate) struct Account {
    pub(crate) index: AccountIndex,
    /// The provider's name: the first segment of the base URL.
    pub(crate) provider: String,
    /// The quota as people name it.
    pub(crate) quota: Arc<str>,
    pub(crate) profile: Profile,
    pub(crate) hosts: Vec<HostPattern>,
    /// Where the base URL leads.
    pub(crate) upstream: Option<Origin>,
    /// How long the queue lets a call wait.
    pub(crate) max_wait: Duration,
    budget: AtomicU32,
}

impl Account {
    pub(crate) fn new(index: u32, compiled: &CompiledAccount) -> Result<Self, OriginError> {
        let profile = compiled.profile.clone();
        let hosts: Vec<_> = profile.hosts.iter().map(|host| HostPattern::new(host)).collect();
        let upstream = match &profile.base_url {
            Some(base_url) => Some(Origin::parse(&base_url.upstream)?),
            None => hosts.iter().find_map(HostPattern::exact).map(|host| Origin::new(true, host)),
        };
        let provider = compiled.key.split('/').next().unwrap_or_default();
        Ok(Self {
            index: AccountIndex(index),
            provider: provider.to_owned(),
            quota: compiled.quota.as_str().into(),
            profile,
            hosts,
            upstream,
            max_wait: compiled.engine.queue.max_wait,
            budget: AtomicU32::new(BUDGET),
        })
    }

    /// Counts a call towards the budget of repetitions.
    pub(crate) fn earn(&self) {
        let more = |budget: u32| Some((budget + 1).min(BUDGET));
        let _earned = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes a repetition out of the budget, if there is one.
    pub(crate) fn spend(&self) -> bool {
        let less = |budget: u32| budget.checked_sub(REPETITION);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// The call as the limiter knows it: models that share a limit are one.
    pub(crate) fn engine_shape(&self, shape: &CallShape) -> Shape {
        let model = shape.model.as_deref();
        Shape {
            endpoint: shape.endpoint.clone(),
            model: model.map(|model| self.profile.model_class(model).to_owned()),
        }
    }
}

/// A rejection as the limiter knows it; none for those that concern this one call alone.
pub(crate) fn engine_rejection(
    class: quotakeeper_dialects::profile::Class,
    scope: &quotakeeper_dialects::Scope,
    wait: Option<Duration>,
    reason: &str,
    shape: &Shape,
) -> Option<Rejection> {
    use quotakeeper_dialects::Scope as Affected;
    use quotakeeper_dialects::profile::Class;

    let class = match class {
        Class::Quota => RejectionClass::Quota,
        Class::Concurrency => RejectionClass::Concurrency,
        Class::Capacity => RejectionClass::Capacity,
        Class::Terminal => RejectionClass::Terminal,
        Class::Oversize | Class::Lock => return None,
    };
    let named =
        |name: &Option<String>, scope: fn(String) -> Scope| name.clone().map_or(Scope::Account, scope);
    let scope = match scope {
        Affected::Limit(limit) => Scope::Limit(limit.clone()),
        Affected::Endpoint => named(&shape.endpoint, Scope::Endpoint),
        Affected::Model => named(&shape.model, Scope::Model),
        Affected::Account | Affected::Provider => Scope::Account,
    };
    Some(Rejection { class, scope, wait, reason: reason.to_owned() })
}

/// What headers say of limits, as the limiter knows it.
pub(crate) fn engine_observations(observations: Vec<quotakeeper_dialects::Observation>) -> Vec<Observation> {
    let translate = |seen: quotakeeper_dialects::Observation| Observation {
        limit: seen.limit,
        hard: seen.hard,
        remaining: seen.remaining,
    };
    observations.into_iter().map(translate).collect()
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The base-URL listener.
    BaseUrl,
    /// A listener that plays the provider's host, with TLS or without.
    Host {
        /// Whether TLS was terminated.
        tls: bool,
    },
}

/// Where a request goes.
pub(crate) struct Route {
    pub(crate) account: Arc<Account>,
    pub(crate) origin: Origin,
    /// Path and query for the provider.
    pub(crate) path: String,
}

/// Finds the account of a request.
pub(crate) fn route(
    accounts: &[Arc<Account>],
    door: Door,
    uri: &Uri,
    headers: &http::HeaderMap,
) -> Result<Route, Own> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match door {
        Door::Host { tls } => {
            let host = uri.host().map(str::to_owned).or_else(|| host_header(headers));
            let host = host.unwrap_or_default();
            by_host(accounts, tls, &host, path).ok_or_else(|| stranger(accounts, &host))
        }
        Door::BaseUrl => {
            // Clients that take the base URL for a proxy send the whole URL (RFC 9112 §3.2.2).
            let tls = uri.scheme_str() == Some("https");
            let by_host = uri.host().and_then(|host| by_host(accounts, tls, host, path));
            by_host.or_else(|| by_segment(accounts, path)).ok_or_else(|| unserved(accounts, path))
        }
    }
}

fn by_host(accounts: &[Arc<Account>], tls: bool, host: &str, path: &str) -> Option<Route> {
    let exact = |account: &&Arc<Account>| {
        let mut names = account.hosts.iter().filter_map(HostPattern::exact);
        names.any(|name| name.eq_ignore_ascii_case(host))
    };
    let covers = |account: &&Arc<Account>| account.hosts.iter().any(|known| known.covers(host));
    let account = accounts.iter().find(exact).or_else(|| accounts.iter().find(covers))?;
    let origin = Origin::new(tls, host.trim_end_matches('.'));
    Some(Route { account: Arc::clone(account), origin, path: path.to_owned() })
}

fn by_segment(accounts: &[Arc<Account>], path: &str) -> Option<Route> {
    let rest = path.strip_prefix('/')?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (provider, rest) = rest.split_at(end);
    let account = accounts.iter().find(|account| account.provider == provider)?;
    let origin = account.upstream.clone()?;
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    Some(Route { account: Arc::clone(account), origin, path })
}

fn host_header(headers: &http::HeaderMap) -> Option<String> {
    let authority: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    Some(authority.host().to_owned())
}

fn stranger(accounts: &[Arc<Account>], host: &str) -> Own {
    let known: Vec<_> = accounts.iter().flat_map(|account| &account.profile.hosts).collect();
    let known = known.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(", ");
    let message = format!(
        "Quotakeeper's proxy serves {known} here, not {host:?}; remove the host's entry that leads here, \
         or declare a quota for it"
    );
    Own::new(StatusCode::MISDIRECTED_REQUEST, "UnknownHost", message)
}

fn unserved(accounts: &[Arc<Account>], path: &str) -> Own {
    let served = accounts.iter().filter(|account| account.upstream.is_some());
    let served = served.map(|account| format!("/{}", account.provider));
    let served = served.collect::<Vec<_>>().join(", ");
    let path = path.split('?').next().unwrap_or_default();
    let segment = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let message = format!(
        "Quotakeeper's proxy serves {served} here, not \"/{segment}\"; begin the path with the provider's name"
    );
    Own::new(StatusCode::NOT_FOUND, "UnknownProvider", message)
}

#[cfg(test)]
mod tests;
