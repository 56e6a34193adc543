//! The messages of sessions, in both directions. What is decoded is written and decoded again, and a limiter with
//! accounts in force receives all that a proxy may have sent.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::{Configuration, ConnectionId, LimiterState, Outbox, Start};
use quotakeeper_wire::codec::Coded;
use quotakeeper_wire::limiter::PodIdentity;
use quotakeeper_wire::message::{Epoch, ToLimiter, ToProxy};
use test_support::accounts::{compiled, enforced, requests};

use crate::files;

/// Frames, each with two bytes of its length before it, the higher one first. The highest bit: the frame comes on a
/// connection of another pod; the next one: some time passes before it.
pub fn read(data: &[u8]) {
    let mut limiter = limiter();
    let mut now = BEGINS;
    let mut rest = data;
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let head = u16::from_be_bytes(*length);
        let (frame, after) = more.split_at(usize::from(head & 0x3FFF).min(more.len()));
        rest = after;
        now += if head & 0x4000 == 0 { Duration::from_millis(1) } else { Duration::from_secs(3) };
        if let Ok(Some(message)) = ToProxy::decode(frame) {
            assert_eq!(ToProxy::decode(&message.clone().to_bytes()), Ok(Some(message)));
        }
        let Ok(Some(message)) = ToLimiter::decode(frame) else { continue };
        assert_eq!(ToLimiter::decode(&message.clone().to_bytes()), Ok(Some(message.clone())));
        let connection = ConnectionId(u64::from(head >> 15));
        let mut out = Outbox::default();
        limiter.receive(now, connection, message, &mut out);
        limiter.wake(now, &mut out);
        for (_, message) in out.messages {
            assert!(ToProxy::decode(&message.to_bytes()).is_ok(), "a limiter's message can't be read");
        }
        for (ended, _) in out.ended {
            limiter.connect(now, ended, Some(pod(ended)));
        }
    }
    let report = limiter.report(now + Duration::from_secs(1));
    for account in report.accounts {
        for limit in account.status.limits {
            assert!(limit.reserved <= limit.used.max(limit.amount) * 4 + 65_536, "{limit:?}");
        }
    }
}

const BEGINS: Time = Time(100_000_000_000);

fn pod(connection: ConnectionId) -> PodIdentity {
    PodIdentity {
        namespace: "gtm".to_owned(),
        pod: format!("pod-{}", connection.0),
        uid: format!("uid-{}", connection.0),
        service_account: "default".to_owned(),
        consumer: format!("gtm/Job/enrich-{}", connection.0).as_str().into(),
        labels: BTreeMap::new(),
    }
}

fn limiter() -> LimiterState {
    let limits = vec![requests(10, Duration::from_secs(10)), {
        let mut search = requests(2, Duration::from_secs(60));
        (search.name, search.endpoint) = ("search".to_owned(), Some("search".to_owned()));
        search
    }];
    let accounts = ["gtm/crm", "gtm/openai", "platform/openai", "gtm/hubspot"]
        .map(|quota| compiled(&format!("demo/{quota}"), quota, enforced(limits.clone())));
    let configuration = Configuration::from(accounts.to_vec());
    let start = Start {
        configuration,
        epoch: Epoch(7),
        ledger: None,
        lost_accounts: BTreeMap::new(),
        wall: jiff::Timestamp::UNIX_EPOCH,
        fingerprint_key: None,
    };
    let mut limiter = LimiterState::new(start, BEGINS);
    for connection in [ConnectionId(0), ConnectionId(1)] {
        limiter.connect(BEGINS, connection, Some(pod(connection)));
    }
    limiter
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(0x3FFF) & 0x3FFF;
    [&length.to_be_bytes(), message].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let recorded = files("crates/wire/tests/recorded/v1", ".bin");
    let hello = files("crates/wire/tests/recorded/v1", "to_limiter_hello.bin").concat();
    let alone = recorded.iter().map(|message| framed(message));
    let behind_a_hello = recorded.iter().map(|message| [framed(&hello), framed(message)].concat());
    let all = recorded.iter().flat_map(|message| framed(message)).collect();
    alone.chain(behind_a_hello).chain([all]).collect()
}
