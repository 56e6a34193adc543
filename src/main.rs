//! The `quotakeeper` command.
fn main() {}
