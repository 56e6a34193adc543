//! What tests of several crates share: kubectl, waiting, golden files, certificates, ports, accounts, crowds of peers.
//!
//! A helper belongs here once tests of a second crate need it. Everything panics with a sentence that says what a
//! person would look at: a test that panics has failed.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

pub mod accounts;
pub mod certificates;
pub mod crowd;
pub mod golden;
pub mod kubectl;
pub mod metrics_page;
pub mod ports;
pub mod wait;
