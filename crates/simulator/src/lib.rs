//! A small world in which the limiter's own state machine, its engines and the sessions of both sides have to hold.
//!
//! Everything is drawn from a seed: how long messages take, who stalls, what dies, how wrong
//! clocks are. A run takes milliseconds; a run that fails is replayed by its name and seed:
//! `simulate replay STORY SEED`.
//!
//! | room | holds |
//! |---|---|
//! | [`stories`] | the scenarios, by name |
//! | [`scenario`] | what a world is made of, as plain values |
//! | [`world`] | pods, limiters, connections: one event after the other |
//! | `provider` | how providers count, written apart from the engine |
//! | `history`, `watch` | what happened, and what must never happen |
//! | [`report`] | what a world came to, and what is wrong with it |
//! | `account` | the account of every world |
//! | [`clock`], [`random`], `agenda`, [`network`] | true time and clocks, chance, order, delays |

mod account;
mod agenda;
pub mod campaign;
pub mod clock;
mod history;
pub mod mutants;
pub mod network;
pub mod plots;
mod provider;
pub mod random;
pub mod report;
pub mod scenario;
pub mod stories;
pub mod token_table;
pub mod utilisation;
mod watch;
pub mod world;

pub use provider::Over;
pub use report::Report;
pub use world::World;
