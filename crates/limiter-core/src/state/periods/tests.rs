//! Midnights, on clocks that are set, and an account whose limiter sees one pass.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use jiff::Timestamp;
use quotakeeper_engine::event::{CallId, SessionId};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::account::{CompiledAccount, StatedUse};
use quotakeeper_wire::message::{
    AccountIndex, CallDetails, Epoch, Hello, LimiterMessage, ProxyMessage, ToLimiter,
};
use serde_json::json;

use super::*;
use crate::record::Recovered;
use crate::state::{ConnectionId, LedgerStart, Start};
use quotakeeper_dialects::profile::Period;

const HOUR: Duration = Duration::from_secs(3600);

/// A node whose wall clock can be set.
struct Node {
    at: Time,
    reads: Timestamp,
}

impl Node {
    fn new(reads: &str) -> Node {
        Node { at: Time(50 * 86_400_000_000_000), reads: reads.parse().unwrap() }
    }

    fn pass(&mut self, time: Duration) {
        self.at += time;
        self.reads += time;
    }

    fn set(&mut self, reads: &str) {
        self.reads = reads.parse().unwrap();
    }

    fn clock(&self) -> WallClock {
        WallClock { at: self.at, reads: self.reads }
    }
}

fn days(zone: &str) -> Calendar {
    Calendar::new(Period::Day, zone).unwrap()
}

/// Lets time pass to the second before the end, then to the second after it, and opens the next.
fn lasts(node: &mut Node, open: &OpenPeriod, calendar: &Calendar, hours: u32) -> OpenPeriod {
    node.pass(HOUR * hours - Duration::from_secs(1));
    assert_eq!(open.next(calendar, node.clock()), None, "{}", node.reads);
    node.pass(Duration::from_secs(1) + CLOCKS_APART);
    open.next(calendar, node.clock()).unwrap()
}

#[test]
fn days_have_23_and_25_hours_where_clocks_are_changed() {
    let calendar = days("America/New_York");
    for (midnight, hours) in
        [("2026-03-08T05:00:00Z", 23), ("2026-11-01T04:00:00Z", 25), ("2026-06-01T04:00:00Z", 24)]
    {
        let mut node = Node::new(midnight);
        let open = OpenPeriod::first(&calendar, node.clock());
        let next = lasts(&mut node, &open, &calendar, hours);
        assert!(next.span.id > open.span.id);
        assert_eq!(next.begun, node.at - CLOCKS_APART - CLOCKS_APART, "{midnight}");
    }
}

#[test]
fn a_wall_clock_that_is_set_forward_opens_nothing() {
    let calendar = days("UTC");
    let mut node = Node::new("2026-03-10T10:00:00Z");
    let open = OpenPeriod::first(&calendar, node.clock());
    node.set("2026-03-11T12:00:00Z");
    node.pass(HOUR);
    assert_eq!(open.next(&calendar, node.clock()), None);
    node.set("2026-03-10T11:00:00Z");
    node.pass(HOUR * 12);
    assert_eq!(open.next(&calendar, node.clock()), None);
    node.pass(HOUR + CLOCKS_APART);
    assert_eq!(open.next(&calendar, node.clock()).unwrap().span, calendar.at(node.reads));
}

#[test]
fn a_wall_clock_that_is_set_back_opens_nothing_twice() {
    let calendar = days("UTC");
    let mut node = Node::new("2026-03-10T23:00:00Z");
    let open = OpenPeriod::first(&calendar, node.clock());
    node.pass(HOUR + CLOCKS_APART);
    let next = open.next(&calendar, node.clock()).unwrap();
    node.set("2026-03-10T20:00:00Z");
    node.pass(HOUR * 5);
    assert_eq!(next.next(&calendar, node.clock()), None, "midnight comes a second time");
}

#[test]
fn another_zone_is_in_force_from_the_next_midnight_of_the_old_one() {
    let (old, new) = (days("UTC"), days("Pacific/Auckland"));
    let mut node = Node::new("2026-06-10T11:30:00Z");
    let open = OpenPeriod::first(&old, node.clock());
    node.pass(HOUR);
    assert_eq!(open.next(&new, node.clock()), None, "it is past midnight in Auckland");
    node.pass(HOUR * 12);
    let next = open.next(&new, node.clock()).unwrap();
    assert_eq!(next.span.begin, open.span.end);
    assert_eq!(next.span.end, new.at(node.reads).end);
}

#[test]
fn after_a_time_without_a_limiter_the_period_of_now_is_open() {
    let calendar = days("UTC");
    let mut node = Node::new("2026-03-10T10:00:00Z");
    let open = OpenPeriod::first(&calendar, node.clock());
    node.pass(HOUR * 60);
    let next = open.next(&calendar, node.clock()).unwrap();
    assert_eq!(next.span, calendar.at(node.reads));
    assert!(next.begun <= open.ends, "what was charged since the end of the old one counts in the new");
}

const ME: ConnectionId = ConnectionId(1);

/// A quota of three calls a day, for calls that wait for ten minutes.
fn three_a_day() -> CompiledAccount {
    let second = |secs: u64| json!({"secs": secs, "nanos": 0});
    let document = json!({
        "format": 1, "generation": 1, "key": "crm/gtm/crm", "quota": "gtm/crm", "tier": "free", "profile": {},
        "engine": {
            "mode": "Enforce", "onExceeded": "Queue", "validity": second(2),
            "limits": [{
                "name": "daily", "unit": "Requests", "amount": 3, "window": second(25 * 3600),
                "countedAs": "FixedWindow", "delivery": second(1), "pacing": "TokenBucket",
                "period": {"kind": "Day", "timeZone": "UTC"},
            }],
            "queue": {"maxWait": second(600), "maxCalls": 1000},
            "pause": {
                "fallback": second(1), "cap": second(60), "probePatience": second(5), "maxCall": second(600),
            },
        },
    });
    CompiledAccount::load(&document.to_string()).unwrap()
}

/// A limiter with one session.
struct Limiter {
    state: LimiterState,
    out: Outbox,
}

impl Limiter {
    fn on(node: &Node) -> Limiter {
        let used = vec![StatedUse { limit: "daily".to_owned(), amount: 0, at: node.reads }];
        let account = CompiledAccount { in_force_since: Some(node.reads), used, ..three_a_day() };
        let start = Start {
            configuration: vec![account].into(),
            epoch: Epoch(1),
            ledger: Some(LedgerStart { recovered: Recovered::default(), longest_horizon: HOUR }),
            lost_accounts: BTreeMap::new(),
            wall: node.reads,
            fingerprint_key: None,
        };
        let mut state = LimiterState::new(start, node.at);
        state.opening_records(node.at);
        state.committed(node.at, &mut Outbox::default());
        state.connect(node.at, ME, None);
        Limiter { state, out: Outbox::default() }
    }

    fn hear(&mut self, node: &Node, body: ProxyMessage) {
        self.state.receive(node.at, ME, ToLimiter { stamp: Stamp(node.at.0), body }, &mut self.out);
    }

    /// What it does when it wakes on a node whose wall clock it has just read: how many it grants and refuses.
    fn wakes(&mut self, node: &Node) -> (usize, usize) {
        self.state.read_wall_clock(node.at, node.reads);
        self.hear(node, ProxyMessage::ALIVE);
        self.state.wake(node.at, &mut self.out);
        while self.state.due_records(node.at).is_some() {
            self.state.committed(node.at, &mut self.out);
        }
        let said = std::mem::take(&mut self.out).messages;
        let count = |of: fn(&LimiterMessage) -> bool| said.iter().filter(|(_, it)| of(&it.body)).count();
        let granted = count(|it| matches!(it, LimiterMessage::Grant { .. }));
        (granted, count(|it| matches!(it, LimiterMessage::Refuse { .. })))
    }
}

#[test]
fn calls_that_wait_for_midnight_get_it_on_clocks_that_tell_it_at_other_times() {
    let mut node = Node::new("2026-03-10T23:59:30Z");
    let mut limiter = Limiter::on(&node);
    let hello = Hello {
        session: SessionId(1),
        consumer: "job".into(),
        quotas: vec!["gtm/crm".into()],
        newest: Epoch(0),
        ended: Vec::new(),
        calls: Vec::new(),
    };
    limiter.hear(&node, ProxyMessage::Hello(hello));
    for call in 1..=5 {
        let (account, call) = (AccountIndex(0), CallId(call));
        let details = CallDetails::default();
        limiter.hear(&node, ProxyMessage::Ask { account, call, details, patience: None });
    }
    let mut granted = 0;
    for _ in 0..30 {
        granted += limiter.wakes(&node).0;
        node.pass(Duration::from_secs(1));
    }
    assert_eq!(granted, 3);

    node.pass(CLOCKS_APART);
    node.set("2026-03-11T00:00:01.999Z");
    assert_eq!(limiter.wakes(&node), (0, 0), "by the wall clock a millisecond is left");
    node.set("2026-03-10T23:55:00Z");
    assert_eq!(limiter.wakes(&node), (0, 0), "and now five minutes");
    let next = limiter.state.next_wake(node.at).unwrap();
    assert!(next > node.at, "it does not spin");

    node.set("2026-03-11T00:00:02Z");
    node.pass(Duration::from_secs(303));
    assert_eq!(limiter.wakes(&node), (2, 0));
}
