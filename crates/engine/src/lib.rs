//! The rule that keeps one account inside its limits.
//!
//! An engine owns one provider's account. It is pure: [`Engine::handle`] takes the time and an
//! event and returns what is to be done; [`Engine::next_wake`] says when it wants to be called
//! again. It has no IO, no clock and no randomness, so the limiter, `quotakeeper run`, the
//! planner and the simulator all drive this same code. `docs/engine.md` explains the rule.
//!
//! | room | holds |
//! |---|---|
//! | [`account`] | the engine: events in, actions out; its own page maps its rooms |
//! | [`config`] | the configuration of an account |
//! | [`cost`] | what a call draws of the limits that cover it |
//! | `drawn` | which limits cover a call, and what it draws once its usage is known |
//! | [`tokens`] | what requests and answers say of tokens |
//! | [`token_costs`] | what a call draws of a limit of tokens or money |
//! | `estimate` | what calls likely use, learned from those before |
//! | [`event`] | what happens, and what the engine wants done |
//! | [`sharing`] | the configuration of allocations |
//! | [`name`] | names that travel between components, as types: a consumer's, an allocation's |
//! | [`time`] | points on the limiter's and on a proxy's clock, the guard against drift |
//! | [`clock`] | when, on the limiter's clock, a proxy's stamp was taken |
//! | `window_counter`, `bucket`, `units` | one limit's log, units in flight, and level |
//! | `concurrency_counter`, `concurrency_cap` | a limit of calls under way at the same time, declared, or as rejections show it |
//! | `queue` | whose turn is next |
//! | [`checkpoint`] | what outlives the ledger |
//! | `alarms` | when to look at something again |
//! | `pause` | closed, one probe, a ramp |
//! | `scope`, `callers` | which calls a pause holds, and whose |
//! | [`patience`] | how long a call may wait for a grant |
//! | [`mutant`] | the rule's clauses, broken on purpose, for the simulator |

pub mod account;
mod alarms;
mod bucket;
mod callers;
pub mod checkpoint;
pub mod clock;
mod concurrency_cap;
mod concurrency_counter;
pub mod config;
pub mod cost;
mod drawn;
mod estimate;
pub mod event;
mod millis;
pub mod mutant;
pub mod name;
pub mod patience;
mod pause;
mod queue;
mod scope;
pub mod sharing;
pub mod time;
pub mod token_costs;
pub mod tokens;
mod units;
mod window_counter;

pub use account::{
    AccountStatus, AllocationStatus, ConsumerHangUps, ConsumerWait, Engine, EstimateRatios, HeldBy,
    LimitStatus, ModelUsage, Outlook, PauseStatus, Predecessor, RATIO_BOUNDS, Snapshot, Totals, Turn,
    WAIT_BOUNDS, WaitTimes, WaitingClass, WorkloadUsage,
};
pub use concurrency_cap::LearnedConcurrency;
pub use estimate::{EstimateStatus, EstimatesSnapshot};
pub use units::Origin;
pub use window_counter::{Arrival, Ramp, UnitSnapshot, WindowSnapshot};
