//! The limiter as its proxies and the operator meet it: over TLS on the loopback, with tokens that
//! are really signed.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod a_pause_reaches_every_session;
mod a_restart_goes_on_where_the_ledger_ends;
mod accounts_come_change_and_go;
mod cluster;
mod only_pods_of_this_cluster;
mod pods_draw_where_they_are_admitted;
mod proxy;
mod the_gate_opens_for_all;
mod the_operator_reads_how_it_stands;
mod world;
