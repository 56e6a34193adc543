//! Listeners with bounds, for every port that Quotakeeper serves: how many may be connected, who gives way when there
//! are too many, and for how long a connection may be idle.
//!
//! | module | holds |
//! |---|---|
//! | `places` | who may be connected: the decision, as a value |
//! | [`listener`] | accepts connections, and closes those that give way |
//! | [`closed`] | how many connections a door has closed, and why |
//! | [`activity`] | for how long nothing was asked on a connection |
//! | [`small_http`] | metrics and probes: one small request a connection |
//!
//! Nobody is asked for a name before a connection is accepted, so the bounds go by the peer's address. A peer that
//! holds many connections makes room for one that holds few; connections that have not shown yet whose they are make
//! room first.

pub mod activity;
pub mod closed;
pub mod listener;
mod places;
pub mod small_http;

pub use activity::{Activity, Busy};
pub use closed::{ClosedConnections, Doors, Reason};
pub use listener::{Listener, Place};
pub use places::Bounds;
