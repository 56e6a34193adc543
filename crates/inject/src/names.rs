//! Names inside an injected pod: the proxy's container and volumes, and other programs' annotations that
//! injection sets. Quotakeeper's own labels and annotations are in [`quotakeeper_api::names`].

/// The proxy's container.
pub const PROXY: &str = "quotakeeper-proxy";
/// The volume with the token for the limiter.
pub const TOKEN_VOLUME: &str = "quotakeeper-token";
/// The volume with the CA bundle.
pub const CA_VOLUME: &str = "quotakeeper-ca";
/// The volume with the interception key.
pub const KEY_VOLUME: &str = "quotakeeper-key";
/// The volume of request bodies that the proxy's memory has no room for.
pub const BODY_VOLUME: &str = "quotakeeper-bodies";

/// Whose container `kubectl logs` and `kubectl exec` take where none is named.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Volumes that don't keep the cluster autoscaler from draining a node (its FAQ, "what types of pods can prevent
/// CA from removing a node").
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Annotation that the kubelet puts on the API server's image of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
