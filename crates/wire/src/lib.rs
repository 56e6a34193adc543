//! The messages between a proxy and the limiter, and the session of both sides as pure state
//! machines: no sockets, no tokio, no clock of their own.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | the messages of both directions |
//! | [`codec`] | the messages as bytes |
//! | [`account`] | the compiled account: what a limiter enforces and a proxy reads |
//! | [`allocation`] | which pods draw on which allocation |
//! | [`bootstrap`] | the configuration of an injected proxy before it reaches a limiter |
//! | [`headroom`] | what a proxy tells the programs of its own pod |
//! | [`gate`] | the gate: while it is open, every call passes |
//! | [`name`] | names of accounts, quotas and consumers, as types |
//! | [`printable`] | words of strangers, made fit for terminals |
//! | [`tier`] | the tiers of an account whose quota declares none |
//! | [`trust_variables`] | the variables by which clients find the CAs that they trust |
//! | [`status`] | the status of accounts, from the limiter to the operator |
//! | [`mutant`] | deliberate faults, for the simulator |
//! | [`limiter`] | the limiter's side: messages into events, actions into messages |
//! | [`proxy`] | a proxy's side: calls, grants, reports |

pub mod account;
pub mod allocation;
pub mod bootstrap;
pub mod codec;
pub mod gate;
pub mod headroom;
pub mod limiter;
pub mod message;
pub mod mutant;
pub mod name;
pub mod printable;
pub mod proxy;
pub mod status;
pub mod tier;
pub mod trust_variables;
