//! A provider that counts for itself: the judge of every test that says "0 over the quota".
//!
//! A real HTTP server that plays OpenAI, Anthropic, HubSpot and a plain `demo` API to unmodified SDKs. It keeps its own
//! rules and its own counts: it depends on none of the workspace's other crates, so that agreement means something.
//!
//! # Rooms
//! - [`counting`]: one limit's arithmetic (sliding, fixed, bucket), pure; the window's edges are defined there
//! - [`tokens`]: what calls use of tokens, credits and money, and what limits count of that when; pure
//! - [`amounts`]: what such limits have let through
//! - [`rules`]: which limits an account has: built-in table, rules file, control port
//! - `book`: the atomic decision over all limits of a request, and the log ([`log`]); pure too
//! - [`summary`]: what a log adds up to, a pure function of it
//! - `used`: the use of windows, in percent
//! - [`force`]: answers that the control port orders
//! - [`dialect`]: paths, headers, rejections and bodies of each provider
//! - `production`: answers as they are produced, whether or not a client reads them
//! - `stalls`: when the process had no turn of the processor, for whoever asks why a call was over
//! - `server`, `answer`, `certificates`, `control`, `shared`: the IO around it; [`start`] puts it together
//!
//! # What is counted, and when
//! The account is the bearer token (Anthropic: `x-api-key` too). A token belongs to the provider that it first calls;
//! elsewhere it is unauthorised. A request arrives when its head has been read: the monotonic clock is read before
//! anything else. It counts at its arrival, against all limits that match, in one step. Where the model stands in the
//! body, the body is read in between; if a later request of the account was counted meanwhile, the slow one counts at
//! that one's instant (`countedNanos` in the log), so that the count never goes back in time.
//! A request that breaks off before its model is known is neither counted nor, over HTTP/1.1, logged.
//!
//! # Calling it
//! The provider is chosen by the host (`api.openai.com`, `api.anthropic.com`, `api.hubapi.com`, `api.demo.example`) and,
//! where the host is none of them, by the path: `POST /v1/chat/completions`, `POST /v1/responses`, `GET /v1/models`;
//! `POST /v1/messages`; `GET`, `POST /crm/v3/objects/contacts`, `GET …/contacts/{id}`, `POST …/contacts/batch/read`,
//! `POST …/contacts/search`; `GET`, `POST /anything…`.
//!
#![doc = include_str!("control.md")]

pub mod amounts;
mod answer;
mod body;
mod book;
mod certificates;
mod control;
pub mod counting;
pub mod dialect;
pub mod force;
pub mod log;
mod production;
mod provider;
pub mod rules;
mod server;
mod shared;
mod stalls;
pub mod summary;
pub mod tokens;
mod used;

pub use amounts::AmountSummary;
pub use certificates::CertificateError;
pub use counting::{CountedAs, Limit};
pub use dialect::Dialect;
pub use force::{Force, ForceError};
pub use log::{Ended, Entry, Protocol, Verdict};
pub use provider::{Options, Provider, StartError, start};
pub use rules::{AfterHangUp, RuleBook, Rules, RulesError};
pub use summary::{LimitSummary, Summary, Totals};
pub use tokens::{ArrivalOutput, Charged, OutputTokens, Rates, TokenCounting, Unit, Usage};

/// The control port's orders and questions, and the form of the rules, in Markdown.
pub const CONTROL_HELP: &str = include_str!("control.md");
