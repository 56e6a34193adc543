//! Keys of providers, CAs' keys and tokens are in the memory of these processes.

use nix::sys::prctl::set_dumpable;

/// From now on no core dump has this process's memory, and other processes of its user can't read it.
pub fn off() {
    // It fails for other values than true and false alone.
    let _done = set_dumpable(false);
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_core_dump_has_the_memory_of_this_process() {
        super::off();
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }
}
