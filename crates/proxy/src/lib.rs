//! The proxy: receives an application's calls to providers, holds each until the limiter grants it, and forwards
//! it transparently.
//!
//! ```text
//!            listen ──► route, quota_endpoint (which quota?) ──► forward ──► admission ──► limiter
//! application             replay (body), head           │  ▲       link
//!            ◄── relay ◄── local_response ◄─────────┘  └── upstream ──► provider
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`settings`] | the configuration of a proxy |
//! | [`sidecar`] | a proxy in a pod: its environment, its session across the network, its end |
//! | [`proxy`] | a running proxy: its listeners, its events, its shutdown |
//! | [`link`] | the pair of channels to the limiter |
//! | [`admission`] | where calls wait: the session with a clock and a link |
//! | `route` | which quota a request belongs to |
//! | `quota_endpoint` | the quotas that are served, whether or not anything is in force yet |
//! | `account` | an account in force, and its calls as the limiter knows them |
//! | `forward` | the life of one call |
//! | `describe` | what a request calls, by its head and body |
//! | `fingerprint` | keyed fingerprints of credentials |
//! | `headroom` | what is left of the quotas, for programs that ask |
//! | `replay`, `head` | bodies and heads of requests |
//! | `learned_patience` | how long clients really wait |
//! | `coding`, `request_coding`, `chunks` | content codings and parts of bodies |
//! | `frame_reader` | the frames of an HTTP/2 connection |
//! | [`upstream`] | connections to providers |
//! | [`local_response`] | the proxy's own responses |
//! | [`authority`], [`trust`], [`resolve`] | the interception CA, the trusted CAs, the addresses of hosts |
//! | `token_ratios` | bytes of text per token, as answers have shown |
//! | [`record`], [`stats`], [`metrics`], `admin` | records, figures and metrics of calls, and where they are served |
//! | `listen`, `handshake`, [`clock`] | sockets, TLS with clients, and the clock that the rule needs |
//!
//! Not here: Kubernetes, YAML, and any decision about quotas.

mod account;
mod admin;
pub mod admission;
pub mod authority;
mod chunks;
pub mod clock;
mod coding;
mod describe;
mod fingerprint;
mod forward;
mod frame_reader;
mod handshake;
mod head;
mod headroom;
mod learned_patience;
pub mod link;
mod listen;
pub mod local_response;
pub mod metrics;
pub mod proxy;
mod quota_endpoint;
pub mod record;
mod replay;
mod request_coding;
pub mod resolve;
mod route;
pub mod settings;
pub mod sidecar;
pub mod stats;
mod token_ratios;
pub mod trust;
mod unknown_costs;
pub mod upstream;
mod zstd_header;

pub use describe::Unreadable;
pub use link::{Link, LinkPeer};
pub use listen::ListenError;
#[cfg(feature = "fuzzing")]
pub use listen::fuzzing;
pub use proxy::{Event, Proxy, StartError};
pub use replay::BodyBounds;
pub use settings::{HostsListeners, Settings};
pub use stats::Stats;
