//! What providers say, read right: one file a theme. The providers that are not built in are profiles in
//! `tests/profiles`, so that all of them are shown to need no code.

#![allow(clippy::unwrap_used)]

mod answers;
mod arbitrary;
mod catalogue;
mod credits;
mod expiry;
mod inheritance;
mod kinds_of_misreading;
mod limit_headers;
mod patience;
mod rejections;
mod requests;
mod resending;
mod retry_after;
mod schema;
mod sizes;
mod usage;
mod validation;
