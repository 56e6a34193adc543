//! How much memory the container may use.

use std::fs;

/// Where the kernel says it, for version 2 and version 1 of control groups.
const FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// No container is given that much: version 1 writes a number of that size for "no limit".
const NO_LIMIT: u64 = 1 << 60;

/// The container's limit in bytes; `None` without one.
pub(super) fn limit() -> Option<u64> {
    FILES.iter().find_map(|file| parse(&fs::read_to_string(file).ok()?))
}

fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_is_below_the_value_for_none() {
        assert_eq!(parse("402653184\n"), Some(402_653_184));
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
        assert_eq!(parse(""), None);
    }
}
