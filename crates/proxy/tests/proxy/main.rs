//! Stories of the proxy, told over real sockets on loopback: one file is one promise.
//!
//! Applications are plain clients, the provider is the counting provider (or a socket of a test's own), the
//! limiter is the real engine behind a link, or a script.
#![allow(clippy::unwrap_used)]

mod client;
mod limiter;
mod world;

mod a_provider_that_is_down_loses_no_calls;
mod a_stopping_proxy_holds_nobody;
mod accounts_come_and_go;
mod answers_of_another_organization;
mod any_request_gets_an_answer_that_explains;
mod bypasses_are_reported;
mod calls_stay_within_the_limit;
mod calls_wait_without_a_limiter;
mod composite_answers_pause_and_are_not_repeated;
mod failures_are_repeated_where_safe;
mod framing_changes_no_verdict;
mod grpc_rejections_pause;
mod half_closed_clients_get_their_answers;
mod hang_ups_are_refunded;
mod headroom_is_told_to_the_pod;
mod hosts_mode;
mod http_passes_unchanged;
mod large_bodies_stream;
mod large_bodies_wait_in_bounded_memory;
mod never_sent_twice;
mod no_request_is_smuggled;
mod nothing_leaks_in_a_storm;
mod patience_is_learned_from_hang_ups;
mod probes_wait_while_the_proxy_starts;
mod redirects_stay_inside_the_proxy;
mod refusals_state_when_to_retry;
mod rejected_calls_are_sent_again;
mod rejections_inside_event_streams_pause;
mod signed_calls_are_not_sent_stale;
mod slow_readers_bound_memory;
mod the_model_is_read_from_any_body;
mod tokens_are_told;
