//! The rule that keeps one account inside its limits.
//!
//! An engine owns one provider's account. It is pure: [`Engine::handle`] takes the time and an
//! event and returns what is to be done; [`Engine::next_wake`] says when it wants to be called
//! again. It has no IO, no clock and no randomness, so the limiter, `quotakeeper run`, the
//! planner and the simulator all drive this same code.
//!
//! | room | holds |
//! |---|---|
//! | [`time`] | points on the limiter's and on a proxy's clock, the guard against drift |
//! | [`clock`] | when, on the limiter's clock, a proxy's stamp was taken |
//! | [`config`] | what an engine is told of its account |
//! | [`event`] | what happens, and what the engine wants done |

pub mod clock;
pub mod config;
pub mod event;
pub mod time;
