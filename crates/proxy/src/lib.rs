//! The proxy.
pub mod authority;
pub mod resolve;
pub mod trust;
pub mod upstream;
