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
//! | module | holds |
//! |---|---|
//! | [`lease`] | which replica leads, and so writes |
//! | [`view`], [`caches`] | what is watched, and the views that are cached |
//! | [`reconcile`] | what is in force, pure |
//! | [`configuration`], [`catalogue`] | write the limiter's configuration and the built-in providers |
//! | [`limiter_view`] | the limiter's reports |
//! | [`conditions`] | types and reasons of a quota's conditions |
//! | [`status`], [`status_writer`] | the status of a quota, pure; writes it |
//! | [`event_reason`] | the reasons of Events, and what each means |
//! | [`event_plan`], [`events`], `event_writer` | which Events are due, pure; publishes them; writes each with its own text |
//! | [`pods`], [`pod_events`] | which pods have a proxy, and which should; the Events about pods |
//! | [`certificates`], [`secrets`] | certificates, pure; writes them |
//! | `injection`, `admission_warning` | what the admission webhook reads, and what it warns of |
//! | [`cluster`] | writes to the cluster, while this replica leads |
//! | [`open_gate`] | opens the gate of all accounts |
//! | `uninstall`, [`release`] | opens it when the chart's pre-delete hook is created; whether Helm is uninstalling |
//! | [`check`] | whether an installation works |
//! | [`probes`], [`metrics`] | health, readiness and metrics of the process |

mod admission_warning;
pub mod caches;
pub mod catalogue;
pub mod certificates;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod conditions;
pub mod configuration;
pub mod event_plan;
pub mod event_reason;
mod event_writer;
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
pub mod records;
pub mod release;
pub mod secrets;
pub mod status;
pub mod status_writer;
mod uninstall;
pub mod view;

pub use operator::{OperatorError, Settings, client, client_of, run};
pub use quotakeeper_inject::decide::Status as InjectionStatus;
pub use quotakeeper_inject::settings::ProxyResources;
