//! The limiter as its proxies and the operator meet it: over TLS on the loopback, with tokens that
//! are really signed.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod a_failing_store_delays_calls;
mod a_panic_is_recovered_from;
mod a_pause_reaches_every_session;
mod a_person_pauses_and_resumes;
mod a_restart_continues_from_the_ledger;
mod a_tier_is_learned_from_answers;
mod accounts_are_added_changed_and_removed;
mod allocations_share_a_quota;
mod an_open_gate_lets_all_calls_pass;
mod cluster;
mod notices_outlive_their_proxy;
mod only_pods_of_this_cluster_are_authenticated;
mod only_the_operator_reads_the_status;
mod pods_draw_only_on_quotas_that_admit_them;
mod proxy;
mod world;
