//! What becomes of pods: every case with its golden files, and what holds for any pod.

#![allow(clippy::unwrap_used)]

mod any_pod_keeps_what_it_has;
mod every_case_has_its_golden;
mod fixture;
mod reinvoked;
