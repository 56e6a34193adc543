//! What a proxy and the limiter say to each other, and the session of both sides as pure state
//! machines: no sockets, no tokio, no clock of their own.
//!
//! | room | holds |
//! |---|---|
//! | [`message`] | the messages of both directions |
//! | [`proxy`] | a proxy's side: calls, grants, reports |

pub mod message;
pub mod proxy;
