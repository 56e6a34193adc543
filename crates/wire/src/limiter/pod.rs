//! Whose session it is.

use crate::name::Consumer;

/// The pod that a session belongs to, as its token and the API server say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    pub namespace: String,
    pub pod: String,
    /// Its UID, which no later pod of the same name has.
    pub uid: String,
    /// The ServiceAccount that it runs as.
    pub service_account: String,
    /// The workload that its calls count for, `namespace/kind/name`. It takes the place of what the proxy
    /// says of itself.
    pub consumer: Consumer,
}
