//! The session's messages as bytes: what is written is read, whatever arrives is read or refused, and what an
//! earlier version wrote is read for ever.
#![allow(clippy::unwrap_used)]

mod messages;
mod samples;

mod any_bytes_are_decoded_or_refused;
mod decoding_reverses_encoding;
mod generated_code_is_fresh;
mod recorded_bytes_stay_readable;
mod unknown_parts_do_no_harm;
