//! Decides what an annotated pod gets, and serves that as an admission webhook.
//!
//! ```text
//!  AdmissionReview ─► server ─► review ─► decide ─► Decision
//!                        │         │         │
//!                       tls      view        asked ─► lookup ─► plan ─► conflicts ─►
//!                                            patch {own_cas, sidecar, environment, hosts, annotations}
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`names`] | the proxy's container and volumes, and what else injection names in a pod |
//! | [`settings`] | what the installation decides: image, resources, limiter, CAs |
//! | [`policies`] | what a namespace's LimitRanges and ResourceQuotas demand |
//! | [`view`] | what is read of the cluster; which namespaces a quota admits |
//! | [`requested_quotas`] | whether a pod asks for quotas, and which |
//! | [`decide`] | the decision for one pod: pure |
//! | [`server`] | HTTPS: reviews in, answers out |
//! | [`uninstall`] | the review of the chart's pre-delete hook |
//! | [`tls`] | the serving certificate |
//!
//! `turns` says whose review is answered next, `resolve` finds the quotas, `plan` says how each is caught, `conflicts` what a pod may not have, `patch` edits
//! the pod, `review` answers one request. `webhook.yaml` and `policy.yaml` beside this crate's manifest are what
//! registers it.

mod conflicts;
pub mod decide;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod jobs;
pub mod names;
mod patch;
mod plan;
mod pod;
pub mod policies;
mod quantity;
pub mod requested_quotas;
mod resolve;
mod review;
pub mod server;
pub mod settings;
pub mod tls;
mod turns;
pub mod uninstall;
pub mod view;
