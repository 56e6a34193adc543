//! `quotakeeper run` on one machine: unmodified SDKs, a quota file, and a provider that counts for itself.
//!
//! | room | holds |
//! |---|---|
//! | `scene` | a provider, a folder, and the command under test |
//! | `programs` | the programs of tests/sdk, and how each finds its provider |
//! | `judge` | what the provider's log says, apart from anything that Quotakeeper reports |
//!
//! Each other module is a story. Most of a story is waiting for windows to pass: run several at once.
#![allow(clippy::unwrap_used)]

mod judge;
mod others_use_of_a_fixed_window_ends_with_it;
mod programs;
mod scene;

mod a_429_pauses_every_client;
mod a_daily_limit_that_no_answer_tells;
mod a_day_begins_anew;
mod a_full_disk_delays_calls;
mod a_killed_run_resumes_from_its_ledger;
mod a_long_pause_refuses_what_cannot_wait;
mod a_plan_says_whether_a_campaign_fits;
mod a_refused_key_stops_no_other;
mod a_resolver_of_its_own_is_told_of;
mod a_tier_that_is_not_declared_is_learned;
mod any_client_trusts_the_proxy;
mod base_urls_point_to_the_proxy;
mod calls_wait_as_long_as_their_clients;
mod clients_that_go_around_are_found;
mod commands_show_what_a_run_would_do;
mod credits_are_counted;
mod few_file_descriptors_delay_calls;
mod interactive_programs_keep_their_terminal;
mod invalid_input_starts_no_command;
mod node_gives_up_earlier_than_it_announces;
mod plans_agree_with_runs;
mod programs_fail_without_quotakeeper;
mod progress_never_mixes_with_output;
mod real_sdks_stay_within_the_quota;
mod refusals_state_when_to_retry;
mod rejections_mean_what_the_provider_says;
mod rejections_pause_what_is_counted_together;
mod remains_of_a_killed_run_are_removed;
mod signals_and_exit_codes_pass_through;
mod signals_reach_the_command_once;
mod signed_calls_arrive_as_they_were_signed;
mod the_quickstart_works;
mod token_limits_hold_for_real_sdks;
mod usage_is_told_by_model;
mod what_is_left_is_told;
mod what_real_sdks_send_is_read;
