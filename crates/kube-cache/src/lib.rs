//! Small views of Kubernetes objects, kept up to date by watches.
//!
//! ```text
//!  API server ─► events ─► ObjectCache::apply(view) ─► Signal ─► whoever reads the cache
//! ```
//!
//! A *view* is the part of an object that a program needs. A cache keeps one view per object, so that
//! managed fields and the rest of the object are never held in memory, and it notifies its readers only
//! when a view changes. The operator, the admission webhook and the limiter all read the cluster through
//! this crate; a process opens one watch per kind, however many of its parts read it.
//!
//! kube's reflector stores were not enough: they hold whole objects, one undecodable object stops them,
//! and they can't tell a change that matters from one that doesn't.
//!
//! | module | holds |
//! |---|---|
//! | [`cache`] | the views of one kind of object |
//! | [`signal`] | the notification that something has changed |
//! | [`mod@watch`] | the watch that fills a cache, with backoff |

pub mod cache;
pub mod signal;
pub mod watch;

pub use cache::{ObjectCache, key};
pub use signal::Signal;
pub use watch::{events, object, undecoded, watch};
