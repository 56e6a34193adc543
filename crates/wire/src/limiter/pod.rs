//! The pod of a session.

use std::collections::BTreeMap;

use crate::name::Consumer;

/// The pod that a session belongs to, by its token and the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    pub namespace: String,
    pub pod: String,
    /// Its UID, which no later pod of the same name has.
    pub uid: String,
    /// The ServiceAccount that it runs as.
    pub service_account: String,
    /// The workload that its calls count for. It replaces the one that the proxy claims.
    pub consumer: Consumer,
    /// Its labels, by which it draws on an allocation.
    pub labels: BTreeMap<String, String>,
}
