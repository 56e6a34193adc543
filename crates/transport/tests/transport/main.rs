//! Sessions over loopback, with a real CA: what a proxy and a limiter may rely on, each a story.
#![allow(clippy::unwrap_used)]

mod host;
mod raw;
mod relay;
mod world;

mod a_broken_rule_ends_the_session_with_a_reason;
mod a_pods_connections_are_bounded;
mod a_session_needs_a_valid_token;
mod a_slow_reader_is_bounded;
mod a_standby_leads_to_the_active_limiter;
mod calls_are_granted_over_a_session;
mod lost_connections_lose_and_double_no_call;
mod only_the_given_ca_is_trusted;
mod rapid_resets_end_a_connection;
mod sessions_resume_after_a_restart;
mod strangers_keep_no_proxy_out;
