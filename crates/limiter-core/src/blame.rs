//! Which account a panic was about: whoever catches it asks here, on the same thread.

use std::cell::RefCell;

use quotakeeper_wire::name::AccountKey;

thread_local! {
    static LAST: RefCell<Option<AccountKey>> = const { RefCell::new(None) };
}

/// The account that was worked on when this thread last panicked, once; none: another part of the limiter.
pub fn take() -> Option<AccountKey> {
    LAST.take()
}

/// While it lives, a panic is about this account.
pub(crate) struct Blame<'k>(&'k AccountKey);

impl<'k> Blame<'k> {
    pub(crate) fn on(key: &'k AccountKey) -> Blame<'k> {
        let blame = Blame(key);
        fault::check(key);
        blame
    }
}

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            LAST.set(Some(self.0.clone()));
        }
    }
}

/// Panics on purpose, for tests. Without the feature `mutants` nothing here is compiled in.
#[cfg(feature = "mutants")]
pub mod fault {
    use std::cell::RefCell;

    use quotakeeper_wire::name::AccountKey;

    thread_local! {
        static ARMED: RefCell<Option<(AccountKey, u32)>> = const { RefCell::new(None) };
    }

    /// The next so many times that this thread works on the account, it panics.
    pub fn arm(key: AccountKey, times: u32) {
        ARMED.set(Some((key, times)));
    }

    #[allow(clippy::panic, reason = "that is its purpose")]
    pub(crate) fn check(key: &AccountKey) {
        let due = ARMED.with_borrow_mut(|armed| match armed {
            Some((account, times)) if account == key && *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        });
        if due {
            panic!("a fault of a test, at {key}");
        }
    }
}

#[cfg(not(feature = "mutants"))]
mod fault {
    pub(crate) const fn check(_: &quotakeeper_wire::name::AccountKey) {}
}
