//! What a proxy and the limiter say to each other, and the session of both sides as pure state
//! machines: no sockets, no tokio, no clock of their own.
//!
//! | room | holds |
//! |---|---|
//! | [`message`] | the messages of both directions |
//! | [`codec`] | the messages as bytes |
//! | [`account`] | the compiled account: what a limiter enforces and a proxy reads |
//! | [`bootstrap`] | what an injected proxy is told before any limiter answers |
//! | [`gate`] | when every call passes, whatever the accounts say |
//! | [`status`] | how accounts stand, as the limiter tells the operator |
//! | [`limiter`] | the limiter's side: words into events, actions into words |
//! | [`proxy`] | a proxy's side: calls, grants, reports |

pub mod account;
pub mod bootstrap;
pub mod codec;
pub mod gate;
pub mod limiter;
pub mod message;
pub mod proxy;
pub mod status;
