//! The tests that every store has to pass, by itself and under a [`Ledger`]. A new store is one more
//! line of `stores!`.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use quotakeeper_dialects::calendar::Span;
use quotakeeper_engine::Snapshot;
use quotakeeper_engine::account::PauseSnapshot;
use quotakeeper_engine::cost::Amount;
use quotakeeper_engine::event::{Callers, Fingerprint, Reserve, Scope, Selector, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::OpenPeriod;
use quotakeeper_limiter_core::learned::LearnedLimits;
use quotakeeper_wire::account::StatedUse;

use super::memory::MemoryStore;
use super::*;

/// Runs every test on every store. A store is an expression of type `impl Fn() -> impl RecordStore` that
/// opens the same storage each time, as a process does that starts again.
macro_rules! stores {
    ($($name:ident: $open:expr;)*) => {
        $(mod $name {
            use super::*;
            each_test!($open;
                a_new_store_is_empty
                committed_batches_survive_reopening
                a_batch_replaces_what_it_names_and_nothing_else
                clearing_removes_records_and_no_metadata
                records_and_metadata_have_keys_of_their_own
                any_keys_and_values_can_be_stored
                the_next_limiter_reads_what_was_written
                the_limiter_that_began_the_ledger_is_known_after_restarts
                a_record_of_an_unknown_layout_is_unreadable_and_not_absent
                a_record_of_another_clock_is_unreadable
                a_reboot_begins_the_ledger_anew
                a_ledger_that_is_not_trusted_begins_anew
                what_is_handed_over_takes_the_place_of_all_before
            );
        })*
    };
}

macro_rules! each_test {
    ($open:expr; $($test:ident)*) => {
        $(#[test]
        fn $test() {
            super::$test($open);
        })*
    };
}

stores! {
    redb: in_a_folder(|folder| RedbStore::open(&folder.join("ledger.redb")).unwrap());
    memory: in_memory();
}

fn in_a_folder<S>(open: impl Fn(&Path) -> S) -> impl Fn() -> S {
    let folder = tempfile::tempdir().unwrap();
    move || open(folder.path())
}

fn in_memory() -> impl Fn() -> MemoryStore {
    let store = MemoryStore::default();
    move || store.clone()
}

fn entries(entries: &[(&str, &[u8])]) -> Entries {
    entries.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
}

fn a_new_store_is_empty<S: RecordStore>(open: impl Fn() -> S) {
    let mut store = open();
    assert_eq!(store.load().unwrap(), Entries::new());
    assert_eq!(store.meta("epoch").unwrap(), None);
}

fn committed_batches_survive_reopening<S: RecordStore>(open: impl Fn() -> S) {
    let records = entries(&[("openai/a", b"1"), ("openai/b", b"2")]);
    let batch = Batch { records: records.clone(), meta: entries(&[("epoch", b"7")]), clear: false };
    open().commit(&batch).unwrap();
    let mut store = open();
    assert_eq!(store.load().unwrap(), records);
    assert_eq!(store.meta("epoch").unwrap(), Some(b"7".to_vec()));
}

fn a_batch_replaces_what_it_names_and_nothing_else<S: RecordStore>(open: impl Fn() -> S) {
    let mut store = open();
    let (records, meta) = (entries(&[("a", b"1"), ("b", b"1")]), entries(&[("x", b"1"), ("y", b"1")]));
    store.commit(&Batch { records, meta, clear: false }).unwrap();
    let (records, meta) = (entries(&[("b", b"2"), ("c", b"2")]), entries(&[("y", b"2")]));
    store.commit(&Batch { records, meta, clear: false }).unwrap();
    store.commit(&Batch::default()).unwrap();
    assert_eq!(store.load().unwrap(), entries(&[("a", b"1"), ("b", b"2"), ("c", b"2")]));
    assert_eq!(store.meta("x").unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.meta("y").unwrap(), Some(b"2".to_vec()));
}

fn clearing_removes_records_and_no_metadata<S: RecordStore>(open: impl Fn() -> S) {
    let mut store = open();
    let batch = Batch { records: entries(&[("a", b"1"), ("b", b"1")]), ..Batch::default() };
    store.commit(&Batch { meta: entries(&[("x", b"1")]), ..batch }).unwrap();
    let records = entries(&[("b", b"2")]);
    store.commit(&Batch { clear: true, records: records.clone(), ..Batch::default() }).unwrap();
    assert_eq!(store.load().unwrap(), records, "the batch's own records are stored after it has cleared");
    assert_eq!(store.meta("x").unwrap(), Some(b"1".to_vec()));
}

fn records_and_metadata_have_keys_of_their_own<S: RecordStore>(open: impl Fn() -> S) {
    let mut store = open();
    let batch = Batch { records: entries(&[("epoch", b"record")]), ..Batch::default() };
    store.commit(&Batch { meta: entries(&[("epoch", b"meta"), ("since", b"meta")]), ..batch }).unwrap();
    assert_eq!(store.load().unwrap(), entries(&[("epoch", b"record")]));
    assert_eq!(store.meta("epoch").unwrap(), Some(b"meta".to_vec()));
}

fn any_keys_and_values_can_be_stored<S: RecordStore>(open: impl Fn() -> S) {
    let large = vec![0xA5; 1 << 20];
    let key = "k".repeat(500);
    let records = entries(&[("", b""), ("ä/ö\0/ü", b"\0\xFF"), (&key, &large)]);
    open().commit(&Batch { records: records.clone(), ..Batch::default() }).unwrap();
    assert_eq!(open().load().unwrap(), records);
}

fn ledger<S: RecordStore>(store: S, boot: &str) -> Ledger<S> {
    Ledger::new(store, ClockDomain(boot.to_owned()))
}

fn due(account: &str, calls: u64) -> DueRecord {
    DueRecord { account: account.into(), record: record(calls) }
}

fn record(calls: u64) -> Record {
    let amounts = BTreeMap::from([("requests".to_owned(), Amount(calls))]);
    let reserve = Reserve { as_of: Time(1), amounts, horizon: Time(9) };
    let unnamed = Scope { endpoint: Selector::Unnamed, ..Scope::limit("tokens") };
    let pauses = [Scope::account(), Scope::model("gpt-4o"), unnamed];
    let pauses = pauses
        .map(|scope| PauseSnapshot {
            scope,
            callers: Callers::Credential(Fingerprint(7)),
            until: Time(9),
            reason: "429".to_owned(),
            stopped: true,
        })
        .into();
    let snapshot = Snapshot { as_of: Time(1), pauses, ..Snapshot::default() };
    let stated = StatedUse { limit: "requests".to_owned(), amount: 5, at: Timestamp::UNIX_EPOCH };
    let stated = [("requests".to_owned(), stated)].into();
    let pods = [(SessionId(7), "uid-7".to_owned())].into();
    let span = Span { id: 20_500, begin: Timestamp::UNIX_EPOCH, end: Timestamp::UNIX_EPOCH };
    let period = OpenPeriod { span, begun: Time(1), ends: Time(8), lasts: Time(7) };
    let periods = [("day".to_owned(), period)].into();
    Record { snapshot, reserve, pods, stated, periods, learned: LearnedLimits::default() }
}

fn the_next_limiter_reads_what_was_written<S: RecordStore>(open: impl Fn() -> S) {
    let mut first = ledger(open(), "monday");
    first.resume(Epoch(100), false, None).unwrap();
    first.write(&[due("openai/a", 1), due("openai/b", 2)]).unwrap();
    first.write(&[due("openai/a", 3)]).unwrap();
    drop(first);
    let recovered = ledger(open(), "monday").resume(Epoch(101), true, None).unwrap();
    let expected = [("openai/a".into(), record(3)), ("openai/b".into(), record(2))];
    assert_eq!(recovered.records, expected.into());
    assert!(recovered.unreadable.is_empty());
}

fn the_limiter_that_began_the_ledger_is_known_after_restarts<S: RecordStore>(open: impl Fn() -> S) {
    let mut first = ledger(open(), "monday");
    assert_eq!(first.last_epoch().unwrap(), None);
    let recovered = first.resume(Epoch(100), false, None).unwrap();
    assert_eq!((recovered.records.len(), recovered.since), (0, Some(Epoch(100))));
    first.write(&[due("openai/a", 1)]).unwrap();
    drop(first);
    for epoch in [101, 102] {
        let mut next = ledger(open(), "monday");
        assert_eq!(next.last_epoch().unwrap(), Some(epoch - 1));
        let recovered = next.resume(Epoch(epoch), true, None).unwrap();
        assert_eq!(recovered.records.get("openai/a"), Some(&record(1)));
        assert_eq!(recovered.since, Some(Epoch(100)));
    }
}

fn a_record_of_an_unknown_layout_is_unreadable_and_not_absent<S: RecordStore>(open: impl Fn() -> S) {
    let mut ledger = ledger(open(), "monday");
    ledger.resume(Epoch(100), false, None).unwrap();
    ledger.write(&[due("openai/a", 1)]).unwrap();
    let records = entries(&[("openai/b", &[0, 0, 0, 9, 1]), ("openai/c", &[0]), ("openai/d", b"")]);
    ledger.store.commit(&Batch { records, ..Batch::default() }).unwrap();
    let recovered = ledger.resume(Epoch(101), true, None).unwrap();
    assert_eq!(recovered.records.keys().collect::<Vec<_>>(), ["openai/a"]);
    assert_eq!(recovered.unreadable.iter().collect::<Vec<_>>(), ["openai/b", "openai/c", "openai/d"]);
}

fn a_record_of_another_clock_is_unreadable<S: RecordStore>(open: impl Fn() -> S) {
    ledger(open(), "monday").resume(Epoch(100), false, None).unwrap();
    ledger(open(), "tuesday").write(&[due("openai/a", 1)]).unwrap();
    let recovered = ledger(open(), "monday").resume(Epoch(101), true, None).unwrap();
    assert!(recovered.records.is_empty());
    assert_eq!(recovered.unreadable.iter().collect::<Vec<_>>(), ["openai/a"]);
}

fn a_reboot_begins_the_ledger_anew<S: RecordStore>(open: impl Fn() -> S) {
    let mut first = ledger(open(), "monday");
    first.resume(Epoch(100), false, None).unwrap();
    first.write(&[due("openai/a", 1)]).unwrap();
    drop(first);
    let recovered = ledger(open(), "tuesday").resume(Epoch(101), true, None).unwrap();
    assert_eq!((recovered.records.len(), recovered.unreadable.len()), (0, 0));
    assert_eq!(recovered.since, Some(Epoch(101)));
}

fn a_ledger_that_is_not_trusted_begins_anew<S: RecordStore>(open: impl Fn() -> S) {
    let mut ledger = ledger(open(), "monday");
    ledger.resume(Epoch(100), false, None).unwrap();
    ledger.write(&[due("openai/a", 1)]).unwrap();
    let overtaken = ledger.resume(Epoch(110), false, None).unwrap();
    assert_eq!((overtaken.records.len(), overtaken.since), (0, Some(Epoch(110))));
    assert_eq!(ledger.resume(Epoch(111), true, None).unwrap().records.len(), 0, "nothing comes back later");
}

fn what_is_handed_over_takes_the_place_of_all_before<S: RecordStore>(open: impl Fn() -> S) {
    let mut before = ledger(open(), "monday");
    before.resume(Epoch(100), false, None).unwrap();
    before.write(&[due("openai/old", 1)]).unwrap();
    let lost = LostGrants { until: Time(7), until_wall: Timestamp::UNIX_EPOCH };
    let handover = Handover {
        epoch: Epoch(110),
        sent: Time(9),
        since: Epoch(105),
        lost: Some(lost.clone()),
        records: [("openai/a".into(), record(3))].into(),
        unreadable: ["openai/b".into()].into(),
        deleted_pods: ["uid-9".to_owned()].into(),
    };
    let travelled = decode_handover(&encode_handover(&handover).unwrap()).unwrap();
    assert_eq!(travelled, handover);
    before.set_domain(ClockDomain("monday +5".to_owned()));
    before.begin(Epoch(111), &travelled.recovered(Epoch(110)).unwrap()).unwrap();
    drop(before);

    // The process is killed, and another one begins from its disk.
    let mut next = ledger(open(), "monday +5");
    assert_eq!(next.last_epoch().unwrap(), Some(111));
    assert_eq!(next.beginning().unwrap(), Some(ClockDomain("monday +5".to_owned())));
    let recovered = next.resume(Epoch(112), true, None).unwrap();
    assert_eq!(recovered.records, handover.records);
    assert_eq!(recovered.unreadable, handover.unreadable);
    assert_eq!((recovered.since, recovered.lost), (Some(Epoch(105)), Some(lost)));
}
