//! What each provider means by its limits: its hosts and endpoints, what its tiers allow, the headers with a
//! limit's state, how it rejects calls, how long its clients wait.
//!
//! Pure: values and a wall clock in, values out; no IO, no runtime, no cluster. All that differs between
//! providers is data (a [`Profile`]); a new provider needs no code.
//!
//! | room | answers |
//! |---|---|
//! | [`profile`] | what a provider is: the types, validation, inheritance |
//! | `catalogue` | the profiles that are built in (`providers/*.yaml`), behind the feature `catalogue` |
//! | [`calendar`] | which day, week or month is it there, and when does it end? |
//! | [`request`] | which endpoint and model does this request call? |
//! | [`patience`] | how long will this request's client wait? |
//! | [`expiry`] | until when may this request be sent? |
//! | [`response`] | did the provider accept it, and what is the state of its limits? |
//! | [`stream`] | did an event of a stream reject the call? |
//! | [`grpc`] | did the trailers of a gRPC answer reject the call? |
//! | [`retry`] | may a call be sent a second time? |
//! | [`decimal`] | amounts of money as people write them |
//! | [`usage`] | what tokens has an answer cost? |
//! | [`instant`] | times and durations in every notation that providers use |
//! | [`prose`] | waits in the text of a message |
//! | [`json`] | values by pointer from a body of which only the beginning is at hand |

pub mod calendar;
#[cfg(feature = "catalogue")]
pub mod catalogue;
pub mod decimal;
pub mod expiry;
pub mod grpc;
pub mod instant;
pub mod json;
pub mod patience;
pub mod profile;
pub mod prose;
pub mod request;
pub mod response;
pub mod retry;
pub mod stream;
mod suggestion;
pub mod usage;

pub use profile::Profile;
pub use request::CallShape;
pub use response::{Head, Observation, Reading, Scope, Verdict};
pub use suggestion::did_you_mean;
