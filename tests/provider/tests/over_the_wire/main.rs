//! The provider over real connections: what clients see, and what it wrote down about them.
#![allow(clippy::unwrap_used)]

mod client;
mod counts;
mod orders;
mod program;
mod recount;
mod streams;
mod tokens;
