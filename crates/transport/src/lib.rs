//! Carries sessions between proxies and the limiter: one gRPC stream in both directions over TLS.
//!
//! ```text
//! proxy ── Link ──► client ══ TLS, HTTP/2, gRPC ══► server ── Accept ──► limiter
//!                   token ─────────────────────────► Authenticate
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`client`] | a proxy's session, reconnected for as long as the proxy lives |
//! | [`link`] | the interface to the proxy |
//! | [`server`] | accepts connections, one session each |
//! | [`limiter`] | the interface to the limiter |
//! | [`authenticate`] | the interface to the check of tokens |
//! | [`tls`] | both ends' TLS |
//! | `codec` | the wire's messages as gRPC's |
//!
//! The state machines of `quotakeeper-wire` decide which messages are sent; a lost connection loses
//! any suffix of either direction, and the next hello repeats what matters of it. Nothing here repeats a
//! message.

pub mod authenticate;
pub mod client;
mod codec;
pub mod limiter;
pub mod link;
pub mod server;
pub mod tls;

pub use authenticate::{Authenticate, Unauthenticated};
pub use client::{Dial, EndpointError, SystemDial, keep_connected};
pub use limiter::{ACTIVE_LIMITER, Accept, Accepted, Inbox, NotAccepted, Stopped};
pub use link::{Link, ProxyGone};
/// Of the session that this crate carries.
pub use quotakeeper_wire::limiter::{PodIdentity, SessionEnd};
pub use server::{Answer, OtherLimiter, SessionsAlone, serve};
pub use tls::TlsError;
/// The body of an [`Answer`].
pub use tonic::body::Body;
