//! A store for each account: processes that use different accounts can run at the same time, and whoever uses an
//! account finds what was used of it before, together with whichever other accounts.

use std::collections::BTreeMap;

use quotakeeper_wire::message::Epoch;
use quotakeeper_wire::name::AccountKey;

use super::store::{Batch, Entries, RecordStore, StoreError};
use super::{Ledger, LedgerError};
use crate::clock::ClockDomain;

/// The stores of some accounts. Nothing is stored of others.
pub struct PerAccountStore<S>(BTreeMap<AccountKey, S>);

/// The ledger in these stores, each of which is one account's. What they hold may be of different ages: a store that
/// can't be continued begins anew, and the others go on.
///
/// # Errors
/// [`LedgerError`].
pub fn of_accounts<S: RecordStore>(
    stores: BTreeMap<AccountKey, S>,
) -> Result<Ledger<PerAccountStore<S>>, LedgerError> {
    let domain = ClockDomain::current()?;
    let ledger = |store| Ledger::new(store, domain.clone());
    let mut ledgers: BTreeMap<AccountKey, Ledger<S>> =
        stores.into_iter().map(|(account, store)| (account, ledger(store))).collect();
    let mut last = None;
    for ledger in ledgers.values_mut() {
        last = last.max(ledger.last_epoch()?);
    }
    let epoch = Epoch(last.map_or(1, |last| last.saturating_add(1)));
    for ledger in ledgers.values_mut() {
        ledger.resume(epoch, true, None)?;
    }
    let stores = ledgers.into_iter().map(|(account, ledger)| (account, ledger.store)).collect();
    Ok(Ledger::new(PerAccountStore(stores), domain))
}

impl<S: RecordStore> RecordStore for PerAccountStore<S> {
    fn load(&mut self) -> Result<Entries, StoreError> {
        let mut entries = Entries::new();
        for (account, store) in &mut self.0 {
            // A store may once have been used for several accounts.
            entries.extend(store.load()?.into_iter().filter(|(key, _)| key.as_str() == account.as_str()));
        }
        Ok(entries)
    }

    /// If a store fails, those before it have stored their part. Records of accounts don't depend on each other, and
    /// the batch comes again.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (account, store) in &mut self.0 {
            let record = batch.records.get_key_value(account.as_str());
            let records: Entries =
                record.map(|(key, record)| (key.clone(), record.clone())).into_iter().collect();
            let part = Batch { clear: batch.clear, records, meta: batch.meta.clone() };
            if part != Batch::default() {
                store.commit(&part)?;
            }
        }
        Ok(())
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        // They have been begun together.
        self.0.values_mut().next().map_or(Ok(None), |store| store.meta(key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use quotakeeper_engine::Snapshot;
    use quotakeeper_engine::event::Reserve;
    use quotakeeper_engine::time::Time;
    use quotakeeper_limiter_core::learned::LearnedLimits;
    use quotakeeper_limiter_core::{DueRecord, Record};

    use super::super::memory::MemoryStore;
    use super::*;

    fn due(account: &str, at: u64) -> DueRecord {
        let reserve = Reserve { as_of: Time(at), amounts: BTreeMap::new(), horizon: Time(at) };
        let (snapshot, learned) =
            (Snapshot { as_of: Time(at), ..Snapshot::default() }, LearnedLimits::default());
        let (pods, stated, periods) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let record = Record { snapshot, reserve, pods, stated, periods, learned };
        DueRecord { account: account.into(), record }
    }

    #[test]
    fn an_account_is_continued_whichever_others_are_used_with_it() {
        let files: BTreeMap<&str, MemoryStore> =
            ["a", "b", "c"].map(|account| (account, MemoryStore::default())).into();
        let recorded = |accounts: &[&str], writes: &[DueRecord]| {
            let stores = accounts.iter().map(|account| (AccountKey::from(*account), files[account].clone()));
            let mut ledger = of_accounts(stores.collect()).unwrap();
            let epoch = Epoch(ledger.last_epoch().unwrap().unwrap() + 1);
            let recovered = ledger.resume(epoch, true, None).unwrap();
            ledger.write(writes).unwrap();
            let times =
                recovered.records.into_iter().map(|(key, record)| (key.to_string(), record.snapshot.as_of.0));
            (epoch.0, times.collect::<Vec<_>>())
        };
        let of = |account: &str, at: u64| (account.to_owned(), at);
        assert_eq!(recorded(&["a"], &[due("a", 1)]).1, []);
        let (first, together) = recorded(&["a", "b"], &[due("b", 2), due("a", 3)]);
        assert_eq!(together, [of("a", 1)]);
        let (second, other) = recorded(&["b", "c"], &[due("b", 4), due("a", 9)]);
        assert_eq!(other, [of("b", 2)]);
        assert_eq!(
            recorded(&["a", "b"], &[]).1,
            [of("a", 3), of("b", 4)],
            "and nothing of a is stored without it"
        );
        assert!(second > first);
    }
}
