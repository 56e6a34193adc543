//! While the ledger can't be written, calls wait; when it can be again, they are granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quotakeeper_engine::event::{CallId, SessionId};
use quotakeeper_engine::time::Stamp;
use quotakeeper_limiter::clock::{self, ClockDomain};
use quotakeeper_limiter::ledger::Ledger;
use quotakeeper_limiter::ledger::memory::MemoryStore;
use quotakeeper_limiter::ledger::store::{Batch, Entries, RecordStore, StoreError};
use quotakeeper_limiter::task::{Connection, Limiter};
use quotakeeper_wire::message::{
    AccountIndex, CallDetails, Epoch, Hello, LimiterMessage, ProxyMessage, ToLimiter,
};
use test_support::wait::until;

use crate::world::quota;

const CALLS: u64 = 5;

/// A store whose commits fail while its disk is full.
#[derive(Clone, Default)]
struct Disk {
    store: MemoryStore,
    full: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
}

impl RecordStore for Disk {
    fn load(&mut self) -> Result<Entries, StoreError> {
        self.store.load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Unavailable("the disk is full".into()));
        }
        self.store.commit(batch)
    }

    fn meta(&mut self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.meta(key)
    }
}

async fn send(connection: &Connection, body: ProxyMessage) {
    connection.send(ToLimiter { stamp: Stamp(clock::now().0), body }).await.unwrap();
}

fn granted(connection: &mut Connection) -> u64 {
    let messages = std::iter::from_fn(|| connection.messages.try_recv().ok());
    messages.filter(|message| matches!(message.body, LimiterMessage::Grant { .. })).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_while_commits_fail_and_are_granted_afterwards() {
    let disk = Disk::default();
    let ledger = Ledger::new(disk.clone(), ClockDomain("monday".to_owned()));
    let accounts = vec![quota("gtm/openai", 1000)];
    let limiter = Limiter::builder(accounts).private_ledger(ledger).unwrap().start().unwrap();
    disk.full.store(true, Ordering::SeqCst);

    let mut connection = limiter.connect().await.unwrap();
    let hello = Hello {
        session: SessionId(1),
        consumer: "job".into(),
        quotas: vec!["gtm/openai".into()],
        newest: Epoch(0),
        ended: Vec::new(),
        calls: Vec::new(),
    };
    send(&connection, ProxyMessage::Hello(hello)).await;
    for call in 0..CALLS {
        let (account, details) = (AccountIndex(0), CallDetails::default());
        send(&connection, ProxyMessage::Ask { account, call: CallId(call), details, patience: None }).await;
    }
    // The ledger does not know the session, so that nothing may be granted to it.
    until("commits have failed", || disk.failed.load(Ordering::SeqCst) >= 2).await;
    let health = limiter.health().await.unwrap();
    assert_eq!(health.ledger.map(|ledger| ledger.failing), Some(true));
    assert_eq!(granted(&mut connection), 0);

    disk.full.store(false, Ordering::SeqCst);
    let mut looks = 0..3000;
    while granted(&mut connection) == 0 {
        assert!(looks.next().is_some(), "no call was granted");
        // Only a session that is alive is granted anything.
        send(&connection, ProxyMessage::ALIVE).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(limiter.health().await.unwrap().ledger.map(|ledger| ledger.failing), Some(false));
}
