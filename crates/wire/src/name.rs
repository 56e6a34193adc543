//! Names of accounts and quotas.

pub use quotakeeper_engine::name::Consumer;
use quotakeeper_engine::name_type;

name_type! {
    /// The key of an account, in the ledger and in configuration: `provider/id`.
    AccountKey
}

name_type! {
    /// A quota as people name it: `namespace/name`, or `name` without a cluster.
    QuotaName
}
