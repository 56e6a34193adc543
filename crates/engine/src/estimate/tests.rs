//! What estimates promise, told at [`Estimates`]: facts and properties here, whole runs of calls in `runs`.

mod facts;
mod memory;
mod properties;
mod runs;

use std::time::Duration;

use super::{EstimateKey, Estimates, Likely};
use crate::event::CallClass;
use crate::name::Consumer;
use crate::time::Time;
use crate::token_costs::TokenAmounts;
use crate::tokens::{CallSize, TokenUsage};

const NOW: Time = Time(1_000_000_000_000);

fn class(model: &str) -> CallClass {
    CallClass { endpoint: None, model: Some(model.to_owned()), allocation: None }
}

fn key(estimates: &mut Estimates, consumer: &str, model: &str) -> EstimateKey {
    estimates.key(&Consumer::from(consumer), &class(model))
}

fn text(bytes: u64) -> CallSize {
    CallSize { text_bytes: bytes, ..CallSize::default() }
}

fn usage(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input, output, exact: true, ..TokenUsage::default() }
}

fn most(input: u64, output: u64) -> TokenAmounts {
    TokenAmounts { input, output }
}

/// A call that takes a second, from its grant to its end.
fn call(estimates: &mut Estimates, key: EstimateKey, size: CallSize, used: TokenUsage) {
    let running = estimates.began(key, NOW);
    estimates.ended(running, Some(&size), Some(&used), NOW + Duration::from_secs(1));
}

/// What a call of 4,000 bytes likely uses that is bounded by 4,000 and `most_output` tokens.
fn likely(estimates: &Estimates, key: EstimateKey, most_output: u64) -> Likely {
    estimates.likely(key, Some(&text(4_000)), most(4_000, most_output))
}
