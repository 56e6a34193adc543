//! The session's messages as bytes: what is written is read, whatever arrives is read or refused, and what an
//! earlier version wrote is read for ever.
#![allow(clippy::unwrap_used)]

mod messages;

mod any_bytes_are_read_or_refused;
mod generated_code_is_fresh;
mod recorded_bytes_are_read_for_ever;
mod what_is_unknown_is_harmless;
mod what_is_written_is_read;
