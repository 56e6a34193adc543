//! Counts the limiter's memory with an allocator that counts; prints [`Figures`] as JSON.
//!
//! [`Figures`]: quotakeeper_benches::memory::Figures

use std::alloc::System;

use quotakeeper_benches::{machine, memory};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> anyhow::Result<()> {
    machine::refuse_debug()?;
    // Growth and shrinkage of what is allocated are in these two as well.
    let live = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    };
    println!("{}", serde_json::to_string(&memory::count(&live)?)?);
    Ok(())
}
