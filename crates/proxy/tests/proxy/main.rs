//! Stories of the proxy, told over real sockets on loopback: one file is one promise.
//!
//! Applications are plain clients, the provider is the counting provider (or a socket of a test's own), the
//! limiter is the real engine behind a link, or a script.
#![allow(clippy::unwrap_used)]

mod client;
mod limiter;
mod world;

mod accounts_come_and_go;
mod composite_answers_pause_and_are_not_repeated;
mod details_of_http;
mod failures_are_repeated_where_safe;
mod forced_rejection_reenters;
mod hang_up_refunds;
mod hosts_mode;
mod large_bodies_stream;
mod large_bodies_wait_in_bounded_memory;
mod link_lost_calls_wait;
mod never_sent_twice;
mod nothing_leaks_in_a_storm;
mod refused_truthfully;
mod rejections_inside_event_streams_pause;
mod slow_readers_bound_memory;
mod the_model_is_read_from_any_body;
mod waits_its_turn;
