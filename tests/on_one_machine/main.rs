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
mod programs;
mod scene;

mod a_429_pauses_every_client;
mod a_full_disk_costs_time_and_nothing_else;
mod a_killed_run_is_remembered;
mod a_killed_run_leaves_nothing_behind;
mod a_refusal_tells_the_truth;
mod alone_the_same_programs_fail;
mod bad_input_starts_nothing;
mod few_open_files_cost_time_and_nothing_else;
mod real_sdks_stay_inside_the_quota;
mod signals_and_exit_codes_pass_through;
mod signals_reach_the_command_once;
mod the_base_url_leads_to_the_proxy;
