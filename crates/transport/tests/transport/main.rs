//! Sessions over loopback, with a real CA: what a proxy and a limiter may rely on, each a story.
#![allow(clippy::unwrap_used)]

mod host;
mod raw;
mod relay;
mod world;

mod a_restart_is_resumed;
mod a_session_runs;
mod a_slow_reader_is_bounded;
mod broken_rules_are_told;
mod nothing_is_lost_or_doubled;
mod only_the_given_ca_is_trusted;
mod only_with_a_token;
