//! The limiter: one engine for each account, and the sessions of the proxies that draw on them.
//!
//! | room | holds |
//! |---|---|
//! | [`book`] | engines and sessions together, pure: messages in, messages out |
//! | [`host`] | the task that gives the book a clock, connections and a ledger |
//! | [`ledger`] | what was charged, on disk before it is needed |
//! | [`clock`] | the clock that the rule needs |

pub mod book;
pub mod clock;
pub mod host;
pub mod ledger;
