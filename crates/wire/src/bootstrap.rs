//! The configuration of an injected proxy before it reaches a limiter, fixed for the pod's life, and the paths
//! and ports in the pod on which injector and proxy agree.

use serde::{Deserialize, Serialize};

use crate::name::{Consumer, QuotaName};

/// The environment variable that holds the [`Bootstrap`] as JSON.
pub const VARIABLE: &str = "QUOTAKEEPER_BOOTSTRAP";
/// Where base URLs lead, on the pod's loopback address. Istio has 15000 to 15090, Linkerd 4140 to 4191.
pub const BASE_URL_PORT: u16 = 15801;
/// Probes and metrics, on the pod's own address.
pub const ADMIN_PORT: u16 = 15820;
/// The audience of the token that opens a session.
pub const AUDIENCE: &str = "quotakeeper.dev/limiter";
/// The file that holds the pod's token for the limiter; its folder is a projected volume.
pub const TOKEN_FILE: &str = "/var/run/secrets/quotakeeper.dev/token";
/// The folder that is mounted in the application's containers too; it holds [`BUNDLE_FILE`].
pub const CA_FOLDER: &str = "/var/run/quotakeeper/ca";
/// All CAs that an application needs: the system's, the administrator's and the proxy's own.
pub const BUNDLE_FILE: &str = "/var/run/quotakeeper/ca/bundle.pem";
/// The same as a Java trust store, in a format that every JDK reads without a password.
pub const JAVA_STORE_FILE: &str = "/var/run/quotakeeper/ca/cacerts.jks";
/// The folder of the interception key: in memory, for the proxy's container alone.
pub const KEY_FOLDER: &str = "/var/run/quotakeeper/key";

/// The folder of request bodies that memory has no room for: for the proxy's container alone.
pub const BODY_FOLDER: &str = "/var/run/quotakeeper/bodies";
/// How much that folder may hold, in bytes: [`BODY_FOLDER_SIZE`].
pub const BODY_FOLDER_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The same as a quantity of Kubernetes.
pub const BODY_FOLDER_SIZE: &str = "2Gi";

/// The folder of the volumes with CAs of the applications' own: `0`, `1`, ….
pub const OWN_FOLDER: &str = "/var/run/quotakeeper/own";

/// The bootstrap configuration that the injector gives to a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The limiter.
    pub limiter: Endpoint,
    /// The workload that the pod belongs to: `namespace/kind/name`.
    pub consumer: Consumer,
    /// The quotas that the pod draws on, at most one of a provider.
    pub quotas: Vec<InterceptedQuota>,
    /// PEM certificates that are trusted beside the system's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extra_cas_pem: String,
    /// Files of CAs that the applications trust by themselves, under [`OWN_FOLDER`]: they are added to the bundle that
    /// replaces them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_ca_files: Vec<String>,
}

/// The limiter's address, and what its certificate must prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// The DNS name in its certificate.
    pub server_name: String,
    /// The CA that signed its certificate, in PEM; no other is trusted.
    pub ca_pem: String,
}

/// A quota whose calls are intercepted, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterceptedQuota {
    /// The quota: `namespace/name`.
    pub quota: QuotaName,
    /// Its provider: the first segment of the base URL.
    pub provider: String,
    /// How its calls reach the proxy.
    pub mode: InterceptionMode,
    /// The provider's hosts: names, or `*.` and a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The origin to which calls of the base URL go for the pod's life, with the keys that they carry. Without it, as
    /// in the other mode and of earlier versions, the account says where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// How a pod's calls reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterceptionMode {
    /// Environment variables of the application name the proxy as the provider's base URL.
    #[serde(rename = "BaseURL")]
    BaseUrl,
    /// The pod's hosts file resolves the provider's names to the proxy.
    Hosts,
}
