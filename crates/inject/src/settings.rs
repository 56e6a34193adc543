//! What the installation decides about every injected pod.

use quotakeeper_wire::bootstrap::Endpoint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::quantity;

/// The longest PEM text of extra CAs, in bytes: the bootstrap is one environment variable, and Linux takes no
/// variable of more than 128 KiB (`MAX_ARG_STRLEN`).
pub const MAX_EXTRA_CAS: usize = 96 * 1024;

/// What the installation decides about every injected pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The namespace of operator and limiter: its own pods are never injected.
    pub namespace: String,
    /// The version that injected pods name in their status; pods of other versions are left alone.
    pub version: String,
    /// The proxy's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; absent: Kubernetes' default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Names of Secrets, in the pods' namespaces, by which the image may be pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Where the limiter is, and its CA.
    pub limiter: Endpoint,
    /// PEM certificates that the proxies trust beside the system's, at most [`MAX_EXTRA_CAS`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extra_cas_pem: String,
    /// What the proxy may use.
    #[serde(default)]
    pub resources: ProxyResources,
    /// The proxy's log filter, such as `info`; absent: its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// What the proxy's container may use, as Kubernetes quantities. Requests and limits are always set, since a
/// namespace with a ResourceQuota rejects pods without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyResources {
    /// Requested CPU.
    pub cpu: String,
    /// Most CPU; none: as much as there is, unless the namespace's policies demand a limit. Then it is
    /// `guaranteed_cpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// Requested memory.
    pub memory: String,
    /// Most memory.
    pub memory_limit: String,
    /// CPU, requested and most, in pods of the class Guaranteed. Other pods have no CPU limit: a proxy that is
    /// throttled sends calls later than the limiter reckons.
    pub guaranteed_cpu: String,
}

impl Default for ProxyResources {
    fn default() -> Self {
        Self {
            cpu: "20m".to_owned(),
            cpu_limit: None,
            memory: "64Mi".to_owned(),
            memory_limit: "384Mi".to_owned(),
            guaranteed_cpu: "200m".to_owned(),
        }
    }
}

/// Why no pod can be injected with these settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// An amount of [`ProxyResources`] is invalid.
    #[error("the proxy's resources: {0:?} is no quantity; write one such as \"64Mi\" or \"20m\"")]
    NoQuantity(String),
    /// The CAs do not fit into the bootstrap.
    #[error(
        "the extra CAs have {length} bytes, and a proxy can take {MAX_EXTRA_CAS}; keep only those that its providers \
         need"
    )]
    TooManyCas {
        /// In bytes, with the limiter's own CA.
        length: usize,
    },
}

impl ProxyResources {
    /// Checks that every amount is a quantity.
    ///
    /// # Errors
    /// [`SettingsError::NoQuantity`].
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self { cpu, cpu_limit, memory, memory_limit, guaranteed_cpu } = self;
        let mut amounts = [cpu, memory, memory_limit, guaranteed_cpu].into_iter().chain(cpu_limit);
        match amounts.find(|amount| quantity::read(amount).is_none()) {
            Some(amount) => Err(SettingsError::NoQuantity(amount.clone())),
            None => Ok(()),
        }
    }
}

impl Settings {
    /// The version of this crate.
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The settings of an installation in `namespace`, with defaults for all that need not be said.
    pub fn new(namespace: impl Into<String>, image: impl Into<String>, limiter: Endpoint) -> Self {
        Self {
            namespace: namespace.into(),
            version: Self::VERSION.to_owned(),
            image: image.into(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            limiter,
            extra_cas_pem: String::new(),
            resources: ProxyResources::default(),
            log: None,
        }
    }

    /// Checks that pods can be injected with these settings.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self) -> Result<(), SettingsError> {
        let length = self.extra_cas_pem.len() + self.limiter.ca_pem.len();
        if length > MAX_EXTRA_CAS {
            return Err(SettingsError::TooManyCas { length });
        }
        self.resources.check()
    }
}
