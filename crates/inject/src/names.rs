//! The labels, annotations and names that pods carry: what people write, and what injection leaves.

/// Annotation of a pod: names of quotas, separated by commas, or [`AUTO`].
pub const QUOTAS: &str = "quotakeeper.dev/quotas";
/// The value of [`QUOTAS`] that means every quota that admits the pod.
pub const AUTO: &str = "auto";
/// Label of a pod or a namespace: [`ENABLED`] or [`DISABLED`].
pub const INJECT: &str = "quotakeeper.dev/inject";
/// The value of [`INJECT`] that asks for `auto`.
pub const ENABLED: &str = "enabled";
/// The value of [`INJECT`] that keeps a pod as it is.
pub const DISABLED: &str = "disabled";
/// Annotation of a pod: names of the containers whose calls are caught. Default: all.
pub const CONTAINERS: &str = "quotakeeper.dev/containers";
/// Annotation of a pod: the proxy's `requests` and `limits` as JSON, in place of the installation's.
pub const RESOURCES: &str = "quotakeeper.dev/resources";
/// Annotation of a pod that no controller owns: the name of the workload that it belongs to.
pub const WORKLOAD: &str = "quotakeeper.dev/workload";

/// Label of an injected pod; its value is `true`.
pub const INJECTED: &str = "quotakeeper.dev/injected";
/// Annotation of an injected pod: [`crate::decide::Status`] as JSON.
pub const STATUS: &str = "quotakeeper.dev/status";

/// The proxy's container.
pub const PROXY: &str = "quotakeeper-proxy";
/// The volume with the token for the limiter.
pub const TOKEN_VOLUME: &str = "quotakeeper-token";
/// The volume with the CA bundle.
pub const CA_VOLUME: &str = "quotakeeper-ca";
/// The volume with the interception key.
pub const KEY_VOLUME: &str = "quotakeeper-key";

/// Whose container `kubectl logs` and `kubectl exec` take where none is named.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Volumes that don't keep the cluster autoscaler from draining a node (its FAQ, "what types of pods can prevent
/// CA from removing a node").
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Annotation that the kubelet puts on the API server's image of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
