//! The limiter: one engine for each account, and the sessions of the proxies that draw on them.
//!
//! | room | holds |
//! |---|---|
//! | [`task`] | the task that gives the pure state (`quotakeeper-limiter-core`) a clock, connections and a ledger |
//! | [`ledger`] | what was charged, on disk before it is needed |
//! | [`clock`] | the clock that the rule needs |
//!
//! These are all that `quotakeeper run` needs. In a cluster, `quotakeeper limiter` is this too:
//!
//! | room | holds |
//! |---|---|
//! | [`process`] | the whole, from its start to its end |
//! | [`watches`] | what the cluster says: accounts, gate, certificate, pods |
//! | [`documents`] | the accounts' documents, made into one configuration |
//! | [`gate`] | until when every call passes |
//! | [`auth`] | whose token it is |
//! | [`epoch`], [`lease`] | which number the limiter speaks under, and where it is remembered |
//! | [`stream`] | the operator's view of it |
//! | [`probes`], [`metrics`] | the cluster's view of it |

pub mod auth;
pub mod clock;
pub mod documents;
pub mod epoch;
pub mod gate;
pub mod lease;
pub mod ledger;
pub mod metrics;
pub mod probes;
pub mod process;
pub mod stream;
pub mod task;
pub mod watches;

pub use quotakeeper_limiter_core::{Configuration, LedgerHealth};
