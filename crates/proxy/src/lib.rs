//! The proxy: takes an application's calls to providers, holds each until the limiter grants it, and passes it on
//! as if it were not there.
//!
//! ```text
//!            listen ──► route, quota_endpoint (whose quota?) ──► forward ──► admission ──► limiter
//! application             replay (body), head           │  ▲       link
//!            ◄── relay ◄── answer (our own) ◄─────────┘  └── upstream ──► provider
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`settings`] | what a proxy is told when it starts |
//! | [`sidecar`] | a proxy in a pod: its environment, its session across the network, its end |
//! | [`proxy`] | a running proxy: its doors, what it tells, how it stops |
//! | [`link`] | the pair of channels to the limiter |
//! | [`admission`] | where calls wait: the session with a clock and a link |
//! | `route` | which quota a request belongs to |
//! | `quota_endpoint` | the quotas that are served, whether or not anything is in force yet |
//! | `account` | an account in force, and its words in the limiter's language |
//! | `forward` | the life of one call |
//! | `replay`, `head`, `coding` | bodies, heads and content codings on their way through |
//! | [`upstream`] | connections to providers |
//! | [`local_response`] | the answers that the proxy gives itself |
//! | [`authority`], [`trust`], [`resolve`] | the interception CA, whom we trust, where hosts really are |
//! | [`record`], [`stats`], [`metrics`], `admin` | what is told of calls |
//! | `listen`, [`clock`] | sockets, and the clock that the rule needs |
//!
//! Not here: Kubernetes, YAML, and any decision about quotas.

mod account;
mod admin;
pub mod admission;
pub mod authority;
pub mod clock;
mod coding;
mod forward;
mod head;
pub mod link;
mod listen;
pub mod local_response;
pub mod metrics;
pub mod proxy;
mod quota_endpoint;
pub mod record;
mod replay;
pub mod resolve;
mod route;
pub mod settings;
pub mod sidecar;
pub mod stats;
pub mod trust;
pub mod upstream;

pub use link::{Link, LinkPeer};
pub use listen::ListenError;
pub use proxy::{Event, Proxy, StartError};
pub use settings::{HostsListeners, Settings};
pub use stats::Stats;
