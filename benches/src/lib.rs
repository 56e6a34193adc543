//! Measures what Quotakeeper costs, beside peers that do part of the same work, in one run.
//!
//! Nothing here asserts anything about time: a shared machine would make such a test fail for no
//! reason. What is asserted is that the work was done: every cycle was granted, every call answered.
//!
//! | room | holds |
//! |---|---|
//! | [`machine`] | on what was measured, and whether a figure may be printed at all |
//! | [`rounds`] | contestants in turn, median and spread |
//! | [`table`] | figure, peer, ratio, target |
//! | [`decision`] | one call through the engine; governor and limitador beside it |
//! | [`memory`] | bytes of a waiting call and of a session |
//! | [`overhead`] | small calls and streams through the proxy; nginx and no proxy at all beside it |

pub mod decision;
pub mod machine;
pub mod memory;
pub mod overhead;
pub mod rounds;
pub mod table;
