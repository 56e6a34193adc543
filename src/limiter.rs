//! The limiter: one engine for each account, and the sessions of the proxies that draw on them.
//!
//! | room | holds |
//! |---|---|
//! | [`book`] | engines and sessions together, pure: messages in, messages out |
//! | [`host`] | the task that gives the book a clock and connections |

pub mod book;
pub mod host;
