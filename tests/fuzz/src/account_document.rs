//! The document of an account. One that loads is in force: calls are asked for, and time passes.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::event::{CallId, SessionId};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_limiter_core::{Configuration, ConnectionId, LimiterState, Outbox, Start};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{AccountIndex, Epoch, Hello, ProxyMessage, ToLimiter};
use quotakeeper_wire::name::QuotaName;

use crate::quota_file;

pub fn read(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(account) = CompiledAccount::load(text) else { return };
    let written = serde_json::to_string(&account).unwrap_or_else(|error| panic!("{error}"));
    CompiledAccount::load(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    in_force(account);
}

/// Has an account in force, and two calls asked for on it.
pub fn in_force(account: CompiledAccount) {
    let mut now = Time(100_000_000_000);
    let quota = account.quota.clone();
    let start = Start {
        configuration: Configuration::from(vec![account]),
        epoch: Epoch(1),
        ledger: None,
        lost_accounts: BTreeMap::new(),
        wall: jiff::Timestamp::UNIX_EPOCH,
        fingerprint_key: None,
    };
    let mut limiter = LimiterState::new(start, now);
    let connection = ConnectionId(0);
    limiter.connect(now, connection, None);
    let send = |limiter: &mut LimiterState, now: Time, body: ProxyMessage| {
        let mut out = Outbox::default();
        limiter.receive(now, connection, ToLimiter { stamp: Stamp(now.0), body }, &mut out);
    };
    send(&mut limiter, now, ProxyMessage::Hello(hello(quota)));
    for call in 1..3 {
        let ask = ProxyMessage::Ask {
            account: AccountIndex(0),
            call: CallId(call),
            details: Default::default(),
            patience: None,
        };
        send(&mut limiter, now, ask);
        for _ in 0..4 {
            now += Duration::from_secs(20);
            limiter.wake(now, &mut Outbox::default());
        }
    }
    let _report = limiter.report(now);
}

fn hello(quota: QuotaName) -> Hello {
    Hello {
        session: SessionId(1),
        consumer: "gtm/Job/enrich".into(),
        quotas: vec![quota],
        newest: Epoch(1),
        ended: Vec::new(),
        calls: Vec::new(),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let documents = quota_file::seeds();
    let accounts = documents.iter().flat_map(|text| quota_file::accounts(text)).map(|mut account| {
        // What of it the limiter does not read would be most of the bytes.
        account.profile = Default::default();
        serde_json::to_vec(&account).unwrap_or_default()
    });
    accounts.collect()
}
