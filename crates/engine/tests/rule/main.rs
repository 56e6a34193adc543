//! The rule, told as stories: one proxy's clock equals the limiter's unless a story says otherwise.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod allocations;
mod budgets;
mod calendar;
mod checkpoints;
mod concurrency;
mod costs;
mod crashes;
mod credentials;
mod credits;
mod edits;
mod forged_figures;
mod headers;
mod lost_ledgers;
mod models;
mod outlooks;
mod pauses;
mod queueing;
mod reach;
mod reconciliation;
mod scopes;
mod slots;
mod tokens;
mod usage;
mod windows;
mod witnesses;
mod world;
