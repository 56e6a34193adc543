//! How the calls of each quota of a pod are intercepted, and the configuration of its proxy.

use std::sync::Arc;

use quotakeeper_api::compile;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_wire::bootstrap::{BASE_URL_PORT, Bootstrap, InterceptedQuota, InterceptionMode};
use quotakeeper_wire::name::{Consumer, QuotaName};
use serde_json::Value;
use thiserror::Error;

use crate::settings::Settings;
use crate::view::{ProviderError, View, profile};

/// What a pod gets.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) catches: Vec<Catch>,
    /// Volumes of the pod in which the proxy reads CAs, as it mounts them.
    pub(crate) own_mounts: Vec<Value>,
    /// Files in the containers that the proxy's CAs are mounted over.
    pub(crate) trust_files: Vec<String>,
    /// Quotas that it was not given, as sentences.
    pub(crate) left_out: Vec<String>,
}

/// The quotas of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas<'a> {
    pub(crate) all: &'a [Arc<ApiQuota>],
    /// The pod's author has named them, and relies on them.
    pub(crate) named: bool,
}

/// Why a pod's calls can't be caught.
#[derive(Debug, Error)]
pub(crate) enum PlanError {
    #[error("the quota {quota} can't be used: {source}")]
    Provider { quota: QuotaName, source: ProviderError },
    #[error(
        "calls on the quota {quota} can't be caught: the ApiProvider {provider} has no base-URL variable and names no \
         host; give it `baseUrl` or `hosts`"
    )]
    NothingToCatch { quota: QuotaName, provider: String },
    #[error("calls to {host} would belong to the quota {first} and to {second}; name one of them")]
    SharedHost { host: String, first: QuotaName, second: QuotaName },
}

/// How one quota is caught.
#[derive(Debug)]
pub(crate) struct Catch {
    pub(crate) intercepted: InterceptedQuota,
    /// The variables that lead base URLs to the proxy.
    pub(crate) variables: Vec<(String, String)>,
}

impl Plan {
    /// The plan for a pod that is new. Of quotas that it does not name, it is given those that can be caught.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn of(
        quotas: Quotas<'_>,
        view: &dyn View,
        settings: &Settings,
        consumer: Consumer,
    ) -> Result<Plan, PlanError> {
        let (mut catches, mut left_out) = (Vec::new(), Vec::new());
        for quota in quotas.all {
            match catch(quota, view) {
                Ok(catch) => catches.push(catch),
                Err(error) if quotas.named => return Err(error),
                Err(error) => left_out.push(error),
            }
        }
        if catches.is_empty() && !left_out.is_empty() {
            return Err(left_out.remove(0));
        }
        if let Some(error) = shared_host(&catches) {
            return Err(error);
        }
        let bootstrap = Bootstrap {
            limiter: settings.limiter.clone(),
            consumer,
            quotas: catches.iter().map(|catch| catch.intercepted.clone()).collect(),
            extra_cas_pem: settings.extra_cas_pem.clone(),
            own_ca_files: Vec::new(),
        };
        let told = |error: PlanError| format!("{error}; its calls are not limited");
        let left_out = left_out.into_iter().map(told).collect();
        let (own_mounts, trust_files) = Default::default();
        Ok(Plan { bootstrap, catches, own_mounts, trust_files, left_out })
    }

    /// The plan by which a pod was injected before.
    pub(crate) fn again(bootstrap: Bootstrap, view: &dyn View) -> Plan {
        let catches = bootstrap.quotas.iter().map(|intercepted| {
            let variables = match intercepted.mode {
                InterceptionMode::BaseUrl => variables(&intercepted.provider, view).unwrap_or_default(),
                InterceptionMode::Hosts => Vec::new(),
            };
            Catch { intercepted: intercepted.clone(), variables }
        });
        let (own_mounts, trust_files, left_out) = Default::default();
        Plan { catches: catches.collect(), bootstrap, own_mounts, trust_files, left_out }
    }

    /// Whether the proxy plays any host.
    pub(crate) fn by_hosts(&self) -> bool {
        self.in_hosts_mode().next().is_some()
    }

    pub(crate) fn in_hosts_mode(&self) -> impl Iterator<Item = &InterceptedQuota> {
        self.catches
            .iter()
            .map(|catch| &catch.intercepted)
            .filter(|intercepted| intercepted.mode == InterceptionMode::Hosts)
    }

    /// The hosts that a hosts file can hold.
    pub(crate) fn exact_hosts(&self) -> Vec<&str> {
        let hosts = self.in_hosts_mode().flat_map(|intercepted| &intercepted.hosts);
        hosts.map(String::as_str).filter(|host| !is_pattern(host)).collect()
    }

    /// What the whole pod should know about quotas and hosts that can't be caught.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let all = self.in_hosts_mode();
        let patterns =
            all.flat_map(|intercepted| intercepted.hosts.iter().map(move |host| (intercepted, host)));
        let of_patterns = patterns.filter(|(_, host)| is_pattern(host)).map(|(intercepted, host)| {
            format!(
                "calls to {host} bypass the quota {}: a hosts file can't hold it; name the hosts in the \
                     ApiProvider {}",
                intercepted.quota, intercepted.provider
            )
        });
        of_patterns.chain(self.left_out.iter().cloned()).collect()
    }
}

fn catch(quota: &ApiQuota, view: &dyn View) -> Result<Catch, PlanError> {
    let name = compile::name(quota);
    let provider = quota.spec.provider.name.clone();
    let profile =
        profile(view, &provider).map_err(|source| PlanError::Provider { quota: name.clone(), source })?;
    let variables = profile.environment(&proxy(), &provider);
    if !variables.is_empty() {
        let upstream = profile.base_url.map(|base_url| base_url.upstream);
        let mode = InterceptionMode::BaseUrl;
        let intercepted = InterceptedQuota { quota: name, provider, mode, hosts: Vec::new(), upstream };
        return Ok(Catch { intercepted, variables });
    }
    let mut hosts: Vec<String> = Vec::new();
    for host in &profile.hosts {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if !hosts.iter().any(|host| !is_pattern(host)) {
        return Err(PlanError::NothingToCatch { quota: name, provider });
    }
    let mode = InterceptionMode::Hosts;
    let intercepted = InterceptedQuota { quota: name, provider, mode, hosts, upstream: None };
    Ok(Catch { intercepted, variables: Vec::new() })
}

fn variables(provider: &str, view: &dyn View) -> Option<Vec<(String, String)>> {
    Some(profile(view, provider).ok()?.environment(&proxy(), provider))
}

fn proxy() -> String {
    format!("http://127.0.0.1:{BASE_URL_PORT}")
}

fn is_pattern(host: &str) -> bool {
    host.starts_with('*')
}

/// An error where a host would belong to two quotas.
fn shared_host(catches: &[Catch]) -> Option<PlanError> {
    catches.iter().enumerate().find_map(|(index, catch)| {
        catches[..index].iter().find_map(|other| {
            let host = catch.intercepted.hosts.iter().find(|host| other.intercepted.hosts.contains(host))?;
            let (first, second) = (other.intercepted.quota.clone(), catch.intercepted.quota.clone());
            Some(PlanError::SharedHost { host: host.clone(), first, second })
        })
    })
}

/// The configuration of the proxy that a pod has already, from its variable.
pub(crate) fn read(variable: &Value) -> Option<Bootstrap> {
    serde_json::from_str(variable["value"].as_str()?).ok()
}
