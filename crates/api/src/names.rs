//! The names that Quotakeeper's programs, its chart and its users agree on: labels, annotations and the
//! objects of an installation. Each is written here and nowhere else.
//!
//! Names that only injector and proxy share are in `quotakeeper_wire::bootstrap`.

/// The group of the custom resources.
pub const GROUP: &str = "quotakeeper.dev";
/// Group and version of the custom resources, as in `apiVersion`.
pub const API_VERSION: &str = "quotakeeper.dev/v1alpha1";

// What people write on pods and namespaces.

/// Annotation of a pod: names of quotas, separated by commas, or [`AUTO`].
pub const QUOTAS: &str = "quotakeeper.dev/quotas";
/// The value of [`QUOTAS`] that means every quota that admits the pod.
pub const AUTO: &str = "auto";
/// Label of a pod or a namespace: [`ENABLED`] or [`DISABLED`].
pub const INJECT: &str = "quotakeeper.dev/inject";
/// The value of [`INJECT`] that means `auto`.
pub const ENABLED: &str = "enabled";
/// The value of [`INJECT`] that leaves a pod as it is.
pub const DISABLED: &str = "disabled";
/// Label of a namespace: the other namespaces whose quotas its pods draw on without naming them in full, separated by
/// dots. Whoever may create an ApiQuota somewhere must not decide what pods elsewhere draw on.
pub const QUOTAS_FROM: &str = "quotakeeper.dev/quotas-from";
/// Prefix of labels of a namespace: `accounts.quotakeeper.dev/ID: PROVIDER` reserves the account of that id for its quotas.
pub const ACCOUNTS: &str = "accounts.quotakeeper.dev";
/// Annotation of a pod: names of the containers whose calls are caught. Default: all.
pub const CONTAINERS: &str = "quotakeeper.dev/containers";
/// Annotation of a pod: the proxy's `requests` and `limits` as JSON, in place of the installation's.
pub const RESOURCES: &str = "quotakeeper.dev/resources";
/// Annotation of a pod: files of CAs in its containers, separated by commas, that the proxy's CAs are mounted over.
pub const TRUST_FILES: &str = "quotakeeper.dev/trust-files";
/// Annotation of a pod without a controller: the name of the workload that it belongs to.
pub const WORKLOAD: &str = "quotakeeper.dev/workload";

// What people write on quotas while they run.

/// Annotation of an ApiQuota: until when its calls are paused, as a time of RFC 3339.
pub const PAUSED_UNTIL: &str = "quotakeeper.dev/paused-until";
/// Annotation of an ApiQuota: when a person last had its calls go on, as a time of RFC 3339. A later one ends the pauses of
/// that moment.
pub const RESUMED_AT: &str = "quotakeeper.dev/resumed-at";

// What injection writes on pods.

/// Label of an injected pod; its value is `true`.
pub const INJECTED: &str = "quotakeeper.dev/injected";
/// Annotation of an injected pod: what injection did, as JSON.
pub const STATUS: &str = "quotakeeper.dev/status";

// What the operator writes for the limiter and for itself.

/// Label of the ConfigMaps that hold one compiled account each, in the limiter's namespace …
pub const CONFIG: &str = "quotakeeper.dev/config";
/// … and its value.
pub const CONFIG_ACCOUNT: &str = "account";
/// The key of such a ConfigMap whose value is the account as JSON.
pub const ACCOUNT_DOCUMENT: &str = "account.json";
/// How the names of these ConfigMaps begin.
pub const ACCOUNT_PREFIX: &str = "quotakeeper-account-";
/// The value of [`CONFIG`] of the ConfigMaps that record since when each account is in force.
pub const CONFIG_RECORD: &str = "account-record";
/// How the names of these ConfigMaps begin; the rest is as in the account's own.
pub const RECORD_PREFIX: &str = "quotakeeper-record-";
/// The value of [`CONFIG`] of the ConfigMaps in which the limiter stores what counts in long windows.
pub const CONFIG_CHECKPOINT: &str = "checkpoint";
/// How the names of these ConfigMaps begin; the rest is as in the account's own.
pub const CHECKPOINT_PREFIX: &str = "quotakeeper-checkpoint-";
/// The key of such a ConfigMap whose value is the checkpoint as JSON.
pub const CHECKPOINT_DOCUMENT: &str = "checkpoint.json";
/// Annotation of such a ConfigMap: for how many seconds after it was stored something of it counts.
pub const COUNTS_FOR: &str = "quotakeeper.dev/counts-for-seconds";
/// Annotation of an account's ConfigMaps: the quota that it was compiled from, `namespace/name`.
pub const QUOTA: &str = "quotakeeper.dev/quota";
/// Annotation of an account's document: that quota's UID.
pub const QUOTA_UID: &str = "quotakeeper.dev/quota-uid";
/// Label of the built-in providers …
pub const CATALOGUE: &str = "quotakeeper.dev/catalogue";
/// … and its value.
pub const CATALOGUE_BUILTIN: &str = "builtin";
/// Annotation of a built-in provider: a digest of the profile that was applied last.
pub const CATALOGUE_DIGEST: &str = "quotakeeper.dev/catalogue-digest";
/// Annotation of a provider: the names of its tiers, the lowest first, as `kubectl get` shows them. A column can't show
/// a list.
pub const TIERS: &str = "quotakeeper.dev/tiers";
/// Annotation of the limiter's Lease: its epoch.
pub const EPOCH: &str = "quotakeeper.dev/epoch";
/// On the limiter's Lease: how the active limiter has begun, `First`, `Restart`, `Handover` or `Takeover`.
pub const LAST_CHANGE: &str = "quotakeeper.dev/last-change";
/// On the limiter's Lease: which limiter may grant how much while it can't renew it, as `EPOCH PERCENT SECONDS`.
pub const OFFLINE: &str = "quotakeeper.dev/offline";
/// On the limiter's Lease: where the active limiter is, as `address:port`.
pub const LIMITER_ADDRESS: &str = "quotakeeper.dev/limiter-address";

// The objects of an installation, in its namespace.

/// The operator's Deployment, ServiceAccount and Lease.
pub const OPERATOR: &str = "quotakeeper-operator";
/// The limiter's Deployment, Service and Lease.
pub const LIMITER: &str = "quotakeeper-limiter";
/// The Secret with the limiter's certificate.
pub const LIMITER_SECRET: &str = "quotakeeper-limiter-tls";
/// The entry of [`LIMITER_SECRET`] with the key of credentials' fingerprints, in hexadecimal digits.
pub const FINGERPRINT_KEY: &str = "fingerprint.key";
/// The Secret with the keys of the CAs that sign the limiter's certificate, which the operator alone reads.
pub const LIMITER_CA_SECRET: &str = "quotakeeper-limiter-ca";
/// The webhook's Service.
pub const WEBHOOK_SERVICE: &str = "quotakeeper-webhook";
/// The Secret with the webhook's certificate.
pub const WEBHOOK_SECRET: &str = "quotakeeper-webhook-tls";
/// The MutatingWebhookConfiguration.
pub const WEBHOOK_CONFIGURATION: &str = "quotakeeper";

/// The name of an object of an account, as [`ACCOUNT_PREFIX`] and the like begin it: keys have characters that names
/// must not have. Of the key's digest 128 bits: whoever may choose an account's id must not find another's name.
pub fn of_account(prefix: &str, key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_whose_digests_begin_alike_have_names_of_their_own() {
        // Their first 40 bits are the same.
        let [one, other] = ["demo/org-1ec322", "demo/org-33b974"].map(|key| of_account(ACCOUNT_PREFIX, key));
        assert_eq!(one[..30], other[..30]);
        assert_ne!(one, other);
    }
}
