//! Decides what an annotated pod gets, and serves that as an admission webhook.
//!
//! ```text
//!  asked ─► lookup ─► plan ─► conflicts ─► patch {sidecar, environment, hosts, marks} ─► Decision
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`names`] | the labels, annotations and names that pods carry |
//! | [`settings`] | what the installation decides: image, resources, limiter, CAs |
//! | [`view`] | the quotas as one namespace sees them; whom a quota admits |
//! | [`asked`] | whether a pod asks for quotas, and which |
//! | [`decide`] | the decision for one pod: pure |
//! | [`consumer`] | the workload that a pod belongs to |
//!
//! `lookup` finds the quotas, `plan` says how each is caught, `conflicts` what a pod may not have, `patch` edits
//! the pod.

pub mod asked;
mod conflicts;
pub mod consumer;
pub mod decide;
mod lookup;
pub mod names;
mod patch;
mod plan;
mod pod;
pub mod settings;
pub mod view;
