//! What the ledger has to store of the state, and what it has stored.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::event::{Event, Reserve, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_wire::name::AccountKey;

use super::{Account, LimiterState, Outbox};
use crate::blame::Blame;
use crate::commit::{AccountReserve, LedgerHealth};
use crate::mutant::{self, Mutant};
use crate::record::{DueRecord, Record};

impl LimiterState {
    /// What the ledger has to store before the limiter grants anything. Begins a commit: report
    /// [`LimiterState::committed`] when it is stored.
    pub fn opening_records(&mut self, now: Time) -> Vec<DueRecord> {
        let records = self.records_without_grants(now);
        self.begin_commit(now, &records);
        records
    }

    /// What the ledger has to store when the limiter grants nothing any more.
    pub fn closing_records(&mut self, now: Time) -> Vec<DueRecord> {
        self.records_without_grants(now)
    }

    /// When [`LimiterState::due_records`] has something for the ledger, if nothing else happens before. None
    /// without a ledger, and while a commit is under way.
    pub fn commit_due(&self, now: Time) -> Option<Time> {
        let schedule = self.commits.as_ref()?;
        let due = self.accounts.values().filter_map(|account| account.engine.commit_due(now)).min()?;
        schedule.next(due)
    }

    /// What the ledger has to store now; none: nothing is due. Begins a commit: report
    /// [`LimiterState::committed`] or [`LimiterState::commit_failed`] when it has ended.
    pub fn due_records(&mut self, now: Time) -> Option<Vec<DueRecord>> {
        if self.commit_due(now).is_none_or(|at| at > now) {
            return None;
        }
        let horizon = self.commits.as_ref()?.horizon();
        let due = |engine: &Engine| engine.commit_due(now).is_some_and(|at| at <= now);
        let records = self.records(now, horizon, due);
        self.begin_commit(now, &records);
        Some(records)
    }

    /// The records of the commit under way are stored.
    pub fn committed(&mut self, now: Time, out: &mut Outbox) {
        let Some(schedule) = &mut self.commits else { return };
        for AccountReserve { account, reserve } in schedule.committed(now) {
            self.handle_event(now, Some(account), Event::Committed(reserve), out);
        }
    }

    /// The commit under way has failed: what the one before it charged ahead is granted, then calls wait.
    pub fn commit_failed(&mut self, now: Time) {
        if let Some(schedule) = &mut self.commits {
            schedule.failed(now);
        }
    }

    /// The health of the ledger, if there is one.
    pub fn ledger_health(&self) -> Option<LedgerHealth> {
        self.commits.as_ref().map(|schedule| schedule.health())
    }

    fn begin_commit(&mut self, now: Time, records: &[DueRecord]) {
        let reserve_of = |due: &DueRecord| AccountReserve {
            account: due.account.clone(),
            reserve: due.record.reserve.clone(),
        };
        if let Some(schedule) = &mut self.commits {
            schedule.begin(now, records.iter().map(reserve_of).collect());
        }
    }

    /// All accounts, for a time in which nothing is granted. What the limiter before this one may have
    /// granted stays reserved until every proxy has named its grants: this limiter may be killed too.
    fn records_without_grants(&mut self, now: Time) -> Vec<DueRecord> {
        self.records(now, Duration::ZERO, |_| true)
    }

    fn records(&mut self, now: Time, horizon: Duration, due: impl Fn(&Engine) -> bool) -> Vec<DueRecord> {
        let owners = &self.owners;
        let of_account = |(key, account): (&AccountKey, &mut Account)| {
            let engine = &mut account.engine;
            if !due(engine) {
                return None;
            }
            let _blame = Blame::on(key);
            let mut reserve = engine.reserve(now, horizon);
            if horizon.is_zero() && mutant::active(Mutant::FirstRecordDropsReserve) {
                reserve = Reserve::nothing(now);
            }
            let snapshot = engine.snapshot(now);
            let pod_of = |session: &SessionId| Some((*session, owners.get(session)?.clone()?));
            let pods = snapshot.sessions.iter().filter_map(pod_of).collect();
            let (stated, learned) = (account.stated.clone(), account.learned.clone());
            let periods = account.periods.clone();
            let record = Record { snapshot, reserve, pods, stated, periods, learned };
            Some(DueRecord { account: key.clone(), record })
        };
        self.accounts.iter_mut().filter_map(of_account).collect()
    }
}
