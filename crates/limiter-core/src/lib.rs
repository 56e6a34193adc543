//! What a limiter decides, as a pure state machine: no sockets, no tokio, no Kubernetes, no disk, no clock.
//!
//! ```text
//! connect, disconnect, receive ─┐                 ┌─► Outbox: messages, ended sessions
//! configure, pod_deleted, wake ─┼─► LimiterState ─┤
//! committed, commit_failed ─────┘                 └─► due_records: what the ledger has to store
//! ```
//!
//! The process (`quotakeeper-limiter`) and the simulator drive the same [`LimiterState`]; they differ
//! in where time, messages and storage come from.
//!
//! | module | holds |
//! |---|---|
//! | [`state`] | engines and sessions together: messages in, messages out |
//! | [`commit`] | when the ledger is written, and how far ahead of need it charges |
//! | [`checkpoint`] | what is stored of long windows beside the ledger |
//! | [`lease`] | how long a limiter may grant, and when another may take over |
//! | [`offline`] | what may be granted without the API server, and what another leaves out meanwhile |
//! | [`handover`] | what a limiter hands to its successor |
//! | [`learned`] | which limits an account has whose quota declares no tier |
//! | [`record`] | what the ledger stores of an account, and what a restarted limiter knows from it |
//! | [`blame`] | which account a panic was about |
//! | [`mutant`] | deliberate faults, for the simulator |

pub mod blame;
pub mod checkpoint;
pub mod commit;
pub mod handover;
pub mod learned;
pub mod lease;
pub mod mutant;
pub mod offline;
pub mod record;
pub mod state;

pub use checkpoint::{StoredCheckpoint, TooLarge};
pub use commit::LedgerHealth;
pub use handover::Handover;
pub use record::{DueRecord, LostGrants, Record, Recovered};
pub use state::{
    CheckpointTask, Configuration, ConnectionId, FoundCheckpoint, LedgerStart, LimiterState, NotStored,
    OpenPeriod, Outbox, Start,
};
