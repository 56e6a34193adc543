//! Whatever arrives is read or refused with a sentence, without a panic and in bounded memory.

use proptest::collection::vec;
use proptest::prelude::*;
use quotakeeper_engine::event::SessionId;
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::codec::{
    Coded, DecodeError, MOST_BYTES, MOST_DOCUMENT, MOST_NAME, MOST_TO_PROXY, MOST_WITHOUT_HELLO,
};
use quotakeeper_wire::limiter::{MOST_CALLS, MOST_ENDED, MOST_QUOTAS};
use quotakeeper_wire::message::{
    AccountIndex, AccountState, AccountUpdate, Epoch, Hello, LimiterMessage, ProxyMessage, ToLimiter, ToProxy,
};

use crate::messages::{to_limiter, to_proxy};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let _either = (ToLimiter::decode(&bytes), ToProxy::decode(&bytes));
    }

    /// Random bytes seldom look like protobuf; damaged messages do.
    #[test]
    fn damaged_messages(
        (proxys, limiters) in (to_limiter(), to_proxy()),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        for mut bytes in [proxys.to_bytes(), limiters.to_bytes()] {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(end.index(bytes.len() + 1));
            // What reads is a message like any other: writing it again loses nothing more.
            if let Ok(Some(message)) = ToLimiter::decode(&bytes) {
                prop_assert_eq!(ToLimiter::decode(&message.clone().to_bytes()), Ok(Some(message)));
            }
            if let Ok(Some(message)) = ToProxy::decode(&bytes) {
                prop_assert_eq!(ToProxy::decode(&message.clone().to_bytes()), Ok(Some(message)));
            }
        }
    }
}

/// A field of bytes, a text or a message.
fn field(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    bytes.extend(inner);
    bytes
}

/// A hello of version 1 with `list` beside.
fn hello_with(list: &[u8]) -> Vec<u8> {
    field(2, &[&[0x08, 1, 0x10, 1], list].concat())
}

fn refusal(bytes: &[u8]) -> DecodeError {
    ToLimiter::decode(bytes).unwrap_err()
}

#[test]
fn lists_are_counted_before_they_are_decoded() {
    // Two bytes each on the wire, a hundred and more in memory.
    let many = |number, count| hello_with(&field(number, &[]).repeat(count));
    let too_many = |what, most| DecodeError::TooMany { what, most };
    assert_eq!(refusal(&many(9, MOST_BYTES / 4)), too_many("calls", MOST_CALLS));
    assert_eq!(refusal(&many(8, MOST_ENDED + 1)), too_many("ended attempts", MOST_ENDED));
    assert_eq!(refusal(&many(6, MOST_WITHOUT_HELLO)), too_many("quotas", MOST_QUOTAS));
    assert_eq!(refusal(&many(6, MOST_QUOTAS + 1)), too_many("quotas", MOST_QUOTAS));
    let observations = field(8, &field(10, &field(2, &[]).repeat(MOST_WITHOUT_HELLO)));
    let what = "observations of ended attempts";
    assert_eq!(refusal(&hello_with(&observations)), too_many(what, MOST_CALLS));
}

#[test]
fn only_a_hello_may_be_large() {
    let text = "x".repeat(MOST_WITHOUT_HELLO);
    let most = MOST_WITHOUT_HELLO;
    let cancel = field(5, &field(15, text.as_bytes()));
    assert!(matches!(refusal(&cancel), DecodeError::TooLong { most: bound, .. } if bound == most));
    let two_hellos = hello_with(&field(5, text.as_bytes())).repeat(2);
    assert!(matches!(refusal(&two_hellos), DecodeError::TooLong { most: bound, .. } if bound == most));
    let huge = hello_with(&field(15, &vec![0; MOST_BYTES]));
    assert!(matches!(refusal(&huge), DecodeError::TooLong { most: MOST_BYTES, .. }));
    let to_a_proxy = ToProxy::decode(&field(15, &vec![0; MOST_TO_PROXY]));
    assert!(matches!(to_a_proxy, Err(DecodeError::TooLong { most: MOST_TO_PROXY, .. })));
}

/// A document that a proxy would refuse must not end its session: it would come again and again.
#[test]
fn a_document_that_is_too_long_becomes_a_reason() {
    let state = |length| {
        let state = AccountState::InForce { document: "x".repeat(length) };
        let body = LimiterMessage::Account { account: AccountIndex(0), update: AccountUpdate::State(state) };
        let message = ToProxy::decode(&ToProxy { epoch: Epoch(1), body }.to_bytes()).unwrap().unwrap();
        let LimiterMessage::Account { update: AccountUpdate::State(state), .. } = message.body else {
            panic!("{message:?}")
        };
        state
    };
    assert!(matches!(state(MOST_DOCUMENT), AccountState::InForce { .. }));
    assert!(matches!(state(MOST_DOCUMENT + 1), AccountState::Absent { reason } if reason.contains("524289")));
}

#[test]
fn a_hello_with_the_most_calls_fits() {
    let quotas = (0..MOST_QUOTAS).map(|number| format!("{number:0>MOST_NAME$}").into()).collect();
    let hello = Hello {
        session: SessionId(1),
        consumer: "c".repeat(MOST_NAME).into(),
        quotas,
        newest: Epoch(1),
        ended: vec![crate::samples::a_hello().ended[3].clone(); 4096],
        calls: vec![crate::samples::a_hello().calls[3].clone(); MOST_CALLS],
    };
    let message = ToLimiter { stamp: Stamp(1), body: ProxyMessage::Hello(hello) };
    assert_eq!(ToLimiter::decode(&message.clone().to_bytes()), Ok(Some(message)));
}

#[test]
fn a_text_that_is_too_long_is_refused_with_a_remedy() {
    let consumer = hello_with(&field(5, &vec![b'x'; MOST_NAME + 1]));
    assert_eq!(refusal(&consumer).to_string(), "a consumer has 513 bytes, more than 512; shorten it");
}
