//! What the ledger has to keep of the state, and what it has kept.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::event::{Event, Reserve};
use quotakeeper_engine::time::Time;

use super::{Account, LimiterState, Outbox};
use crate::ledger::Record;

impl LimiterState {
    /// When [`LimiterState::due_records`] are to be written next.
    pub fn commit_due(&self, now: Time) -> Option<Time> {
        self.accounts.values().filter_map(|account| account.engine.commit_due(now)).min()
    }

    /// What the ledger has to keep of the accounts of which something is due, with a reserve for
    /// `horizon`.
    pub fn due_records(&mut self, now: Time, horizon: Duration) -> Vec<(String, Record)> {
        self.records(now, horizon, |engine| engine.commit_due(now).is_some_and(|at| at <= now))
    }

    /// What the ledger has to keep while nothing may be granted: before the first commit, and at the end. What the
    /// time before may have granted stays held, or a second kill in a row would forget it.
    pub fn records_without_reserve(&mut self, now: Time) -> Vec<(String, Record)> {
        self.records(now, Duration::ZERO, |_| true)
    }

    fn records(
        &mut self,
        now: Time,
        horizon: Duration,
        of: impl Fn(&Engine) -> bool,
    ) -> Vec<(String, Record)> {
        let of_account = |(key, account): (&String, &mut Account)| {
            let engine = &mut account.engine;
            let reserve = engine.reserve(now, horizon);
            of(engine).then(|| (key.clone(), Record { snapshot: engine.snapshot(now), reserve }))
        };
        self.accounts.iter_mut().filter_map(of_account).collect()
    }

    /// The ledger has these records.
    pub fn committed(&mut self, now: Time, reserves: Vec<(String, Reserve)>, out: &mut Outbox) {
        for (account, reserve) in reserves {
            self.tell(now, Some(account), Event::Committed(reserve), out);
        }
    }
}
