//! The operator: reconciles quotas into the limiter's configuration, and reports what the limiter enforces.
//!
//! ```text
//!            watches                        pure                       writes (leader alone)
//!  ApiQuota ───┐
//!  ApiProvider ┼─► caches (caches, view) ─► reconcile ─► configuration ─► ConfigMaps
//!  Namespace ──┘            │                  └────► status ────────► ApiQuota status, Events
//!  Secret ────────────────► certificates ───────────► secrets ───────► Secrets, caBundle
//!  limiter's /status/v1 ──► limiter_view ──────────────────┘
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`lease`] | who of the replicas writes |
//! | [`view`], [`caches`] | what is watched, and what is kept of it |
//! | [`reconcile`] | what is in force, pure |
//! | [`configuration`], [`catalogue`] | the documents and the built-in providers in the cluster |
//! | [`limiter_view`] | what the limiter tells |
//! | [`conditions`] | types and reasons of a quota's conditions |
//! | [`status`], [`status_writer`] | what is told of a quota, pure; and in the cluster |
//! | [`event_plan`], [`events`] | what is told by Events, pure; and in the cluster |
//! | [`pods`], [`pod_events`] | which pods have a proxy, and which should; what injected ones say of themselves |
//! | [`certificates`], [`secrets`] | certificates, pure; and in the cluster |
//! | `injection` | what the admission webhook decides by |
//! | [`cluster`] | the way by which all is written |
//! | [`open_gate`], [`release`] | lets all calls pass, before an uninstall; whether Helm is at one |
//! | [`check`] | whether an installation works, for whoever asks |
//! | [`probes`], [`metrics`] | what is told of the process itself |

pub mod caches;
pub mod catalogue;
pub mod certificates;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod conditions;
pub mod configuration;
pub mod event_plan;
pub mod events;
#[cfg(test)]
mod fixtures;
mod injection;
pub mod lease;
pub mod limiter_view;
pub mod metrics;
pub mod open_gate;
mod operator;
pub mod pod_events;
pub mod pods;
pub mod probes;
pub mod reconcile;
pub mod release;
pub mod secrets;
pub mod status;
pub mod status_writer;
pub mod view;

pub use operator::{OperatorError, Settings, client, run};
pub use quotakeeper_inject::settings::ProxyResources;
