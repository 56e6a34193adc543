//! The limiter: one engine for each account, and the sessions of the proxies that draw on them.
//!
//! | module | holds |
//! |---|---|
//! | [`task`] | the task that gives the pure state (`quotakeeper-limiter-core`) a clock, connections and a ledger |
//! | [`ledger`] | what was charged, stored before it is granted |
//! | [`clock`] | the limiter's clock |
//!
//! These are all that `quotakeeper run` needs. In a cluster, `quotakeeper limiter` is this too:
//!
//! | module | holds |
//! |---|---|
//! | [`process`] | the process, from its start to its end |
//! | [`watches`] | the watches: accounts, gate, certificate, pods |
//! | [`checkpoints`] | what counts in long windows, stored in the cluster |
//! | [`documents`] | the accounts' documents as one configuration |
//! | [`gate`] | when every call passes |
//! | [`auth`] | authentication of proxies and of the operator |
//! | [`epoch`], [`lease`] | the limiter's epoch, and the Lease that stores it and says which limiter is active |
//! | `tenure` | from standby to active and back |
//! | [`door`] | what peers find at the address of a limiter that is active, or not |
//! | [`handover`] | how the active limiter hands its state to those on standby |
//! | [`stream`] | the status stream for the operator |
//! | [`probes`], [`metrics`] | probes and metrics |

pub mod auth;
pub mod checkpoints;
pub mod clock;
pub mod documents;
pub mod door;
pub mod epoch;
pub mod gate;
pub mod handover;
pub mod lease;
pub mod ledger;
pub mod metrics;
mod offline;
pub mod probes;
pub mod process;
pub mod stream;
pub mod task;
mod tenure;
pub mod watches;

pub use quotakeeper_limiter_core::lease::Terms;
pub use quotakeeper_limiter_core::offline::Offline;
pub use quotakeeper_limiter_core::{Configuration, LedgerHealth, LostGrants};
