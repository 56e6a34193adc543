//! No answer of any shape stops an account for longer than it says, or than until the next probe: any status, headers
//! and body, read with each built-in profile and handed to an engine of its account.
#![allow(clippy::unwrap_used)]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use quotakeeper_api::compile;
use quotakeeper_dialects::profile::Class;
use quotakeeper_dialects::{Head, Reading, Verdict, catalogue};
use quotakeeper_engine::Engine;
use quotakeeper_engine::cost::Demand;
use quotakeeper_engine::event::{
    Action, Ask, Attempt, CallId, Event, Fingerprint, Pulse, RejectionClass, SessionId,
};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_engine::tokens::{CallEnd, CallSize};
use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// The longest pause of rejections that name no time: one second, doubled six times.
const LONGEST_UNNAMED: Duration = Duration::from_secs(64);
/// The longest time until a provider that refuses is asked again.
const LONGEST_STOP: Duration = Duration::from_secs(15 * 60);
/// The longest that one workload's word holds the others.
const WITHOUT_WITNESS: Duration = Duration::from_secs(60);
/// What is not of the answer: the time until a call that was counted leaves a bucket, and guards of the clocks.
const SLACK: Duration = Duration::from_secs(6);
/// Workloads, each with a session and a credential of its own.
const WORKLOADS: [u64; 2] = [1, 2];

/// An answer before it is read.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

fn now() -> Timestamp {
    "2026-10-05T14:00:00Z".parse().unwrap()
}

/// Every header that a profile looks at, and those that all of them share.
fn header_names(profile: &Profile) -> Vec<String> {
    let of_limits = profile.headers.iter().flat_map(|header| {
        let names = [&header.hard, &header.remaining, &header.used, &header.reset, &header.header];
        names.into_iter().flatten().cloned().collect::<Vec<_>>()
    });
    let of_rejections = profile.rejections.iter().flat_map(|rejection| {
        let waits = rejection.wait.iter().filter_map(|source| source.header.clone());
        waits.chain(rejection.headers.iter().map(|condition| condition.name.clone())).collect::<Vec<_>>()
    });
    let shared = ["retry-after", "retry-after", "retry-after-ms", "date", "x-should-retry", "content-type"];
    let names = of_limits.chain(of_rejections).chain(shared.map(str::to_owned));
    // A limit's state may stand in the body, at JSON pointers.
    names.filter(|name| name.parse::<HeaderName>().is_ok()).collect()
}

/// The words that a profile looks for in bodies.
fn words(profile: &Profile) -> Vec<String> {
    let conditions = profile.rejections.iter().flat_map(|rejection| &rejection.body);
    let words = conditions.flat_map(|condition| condition.equals.iter().chain(&condition.contains)).cloned();
    words.chain(["rate_limit_error", "rate_limit_exceeded", "requests", ""].map(str::to_owned)).collect()
}

/// As somebody may write a time.
const TIMES: [&str; 27] = [
    "0",
    "-1",
    "-99999999999",
    "1e400",
    "NaN",
    "inf",
    "2814, 2",
    "1.5, -3, NaN",
    "99999999999999999999999999",
    "18446744073709551615",
    "31536000",
    "4102444800",
    "253402300799999",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Mon, 05 Oct 2026 16:00:00 +0200",
    "Mon, 05 Oct 2026 23:00:00 PST",
    "Mon, 05 Oct 2026 14:20:00 GMT, Tue, 06 Oct 2026 14:00:00 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "9999-12-31T23:59:59Z",
    "2026-10-05T16:20:00+02:00",
    "2026-10-05T14:20:00.5Z",
    "6m0s",
    "99999h59m",
    "1h2m3.5s",
    "-5s",
    "false",
    "true",
];

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(&TIMES[..]).prop_map(str::to_owned),
        2 => "-?[0-9]{1,6}",
        1 => "[-+]?[0-9]{0,25}(\\.[0-9]{0,9})?",
        1 => "\\PC{0,30}",
    ]
}

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => time().prop_map(String::into_bytes),
        1 => select(vec!["application/json", "text/html", "text/event-stream"]).prop_map(|it| it.into()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn body(words: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let word = select(words);
    let error = (word.clone(), word.clone(), word, time(), any::<bool>()).prop_map(
        |(kind, code, text, time, listed)| {
            let message = format!("{text}. Please try again in {time}.");
            let details = [json!({"retryDelay": time, "quotaId": text})];
            let error = json!({
                "error": {"type": kind, "code": code, "status": kind, "message": message, "details": details},
                "type": "error", "message": message, "policyName": text, "errorCode": code, "retryAfter": time,
            });
            if listed { json!([error]).to_string() } else { error.to_string() }.into_bytes()
        },
    );
    prop_oneof![
        6 => error,
        1 => time().prop_map(|time| format!("<html>error code: 1015, try again in {time}").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..120),
    ]
}

fn answer(profile: &Profile) -> impl Strategy<Value = Answer> + use<> {
    let status = prop_oneof![
        6 => select(vec![429_u16, 429, 400, 402, 403, 500, 503, 529]),
        1 => Just(200),
        1 => 100_u16..600,
    ];
    let line = (select(header_names(profile)), header_value());
    let lines = proptest::collection::vec(line, 0..8);
    (status, lines, body(words(profile))).prop_map(|(status, lines, body)| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(name.parse::<HeaderName>().unwrap(), value);
            }
        }
        Answer { status: status.try_into().unwrap(), headers, body }
    })
}

/// A time as the engine waits for it: two clocks may drift apart.
fn stretched(time: Duration) -> Duration {
    time + time / 1000
}

/// A provider's profile, and answers of it.
fn answers(most: usize) -> impl Strategy<Value = (String, Vec<(Answer, bool)>)> {
    select(catalogue::names()).prop_flat_map(move |name| {
        let told = (answer(&profile(name)), any::<bool>());
        (Just(name.to_owned()), proptest::collection::vec(told, 1..=most))
    })
}

fn profile(name: &str) -> Profile {
    catalogue::find(name).unwrap().resolve(|base| catalogue::find(base).ok()).unwrap()
}

/// An engine of an account with nobody's calls but those of two workloads, which always want one.
struct World {
    account: Account,
    engine: Engine,
    now: Time,
    actions: Vec<Action>,
    calls: u64,
    /// The workloads of the calls that wait.
    waiting: BTreeSet<u64>,
    class: CallClass,
    /// The longest window of which an answer has told the state.
    observed: Duration,
}

impl World {
    fn new(provider: &str) -> World {
        let profile = profile(provider);
        let tier = profile.tiers.last().unwrap().name.clone();
        let quota = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota", "metadata": {"name": provider},
            "spec": {"provider": {"name": provider, "tier": tier}},
        });
        let mut compiled = compile::account(&serde_json::from_value(quota).unwrap(), profile).unwrap();
        // Nothing but answers holds a call.
        compiled.engine.queue.max_wait = SECOND * 40_000_000;
        for limit in &mut compiled.engine.limits {
            limit.amount = limit.amount.max(100_000);
        }
        let now = Time(3_600_000_000_000);
        let account = Account::new(AccountIndex(0), &compiled, None).unwrap();
        let class =
            account.engine_class(&CallShape { model: Some("gpt-4o".to_owned()), ..CallShape::default() });
        World {
            account,
            engine: Engine::new(compiled.engine, now),
            now,
            actions: Vec::new(),
            calls: 0,
            waiting: BTreeSet::new(),
            class,
            observed: Duration::ZERO,
        }
    }

    fn tell(&mut self, event: Event) {
        self.engine.handle(self.now, event, &mut self.actions);
    }

    fn alive(&mut self) {
        for workload in WORKLOADS {
            let pulse = Pulse { stamp: Stamp(self.now.0), latest: self.now };
            self.tell(Event::Heartbeat { session: SessionId(workload), pulse });
        }
    }

    fn ask(&mut self, workload: u64) {
        if !self.waiting.insert(workload) {
            return;
        }
        self.calls += 1;
        // Small: one of unknown size would wait until the one before has left its window.
        let size = Some(CallSize { text_bytes: 4, max_output: Some(1), ..CallSize::default() });
        self.tell(Event::Ask(Ask {
            session: SessionId(workload),
            call: CallId(self.calls),
            consumer: format!("ns/Job/{workload}").as_str().into(),
            demand: Demand { size, ..self.class.clone().into() },
            credential: Fingerprint(workload),
            patience: None,
            waited: Duration::ZERO,
            attempts: 0,
        }));
    }

    /// The first grant to one of these workloads, if there is one until then; the others ask for nothing.
    fn next_grant(&mut self, of: &[u64], until: Time) -> Option<Attempt> {
        let mut hasty = 0;
        while hasty < 10_000 {
            self.alive();
            of.iter().for_each(|workload| self.ask(*workload));
            let mut granted = None;
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Grant { attempt, .. } if granted.is_none() => {
                        self.waiting.remove(&attempt.session.0);
                        granted = Some(attempt);
                    }
                    // One at a time: the other was not written.
                    Action::Grant { attempt, .. } => self.tell(Event::Unused { attempt, again: true }),
                    Action::Refuse { session, .. } => {
                        self.waiting.remove(&session.0);
                    }
                    Action::Paused { .. } | Action::Resumed { .. } => {}
                }
            }
            if granted.is_some() || self.now >= until {
                return granted;
            }
            let next = self.now.max(self.engine.next_wake().unwrap_or(until)).min(until);
            // A call that waits for a day is looked at each second.
            hasty += u32::from(next.since(self.now) < Duration::from_millis(1));
            self.now = next;
            self.tell(Event::Wake);
        }
        panic!(
            "the engine was woken 10,000 times within a millisecond of the time before, and granted nothing"
        );
    }

    /// The call is answered like this; where that makes sense it is sent `again`. Returns for how long that may stop
    /// the account.
    fn answered(&mut self, attempt: Attempt, answer: &Answer, again: bool) -> Duration {
        let Answer { status, headers, body } = answer;
        let head = Head { status: *status, headers, endpoint: None };
        let Reading { verdict, observations, .. } = self.account.profile.read(head, Some(body), now());
        let observations = engine_observations(observations);
        for seen in &observations {
            let limits = self.engine.config().limits.iter();
            let window = limits.filter(|limit| limit.name == seen.limit).map(|limit| limit.window).max();
            self.observed = self.observed.max(window.unwrap_or_default());
        }
        let mut told = Duration::ZERO;
        let mut rejection = None;
        if let Verdict::Rejected { class, scope, shared_with, wait, reason } = verdict {
            told = match class {
                Class::Terminal => LONGEST_STOP,
                _ => wait.unwrap_or(LONGEST_UNNAMED),
            };
            let (account, call) = (&self.account, &self.class);
            rejection = engine_rejection(class, &scope, shared_with, wait, &reason, account, call);
        }
        let latest = self.now;
        match rejection {
            None => {
                self.tell(Event::FirstByte { attempt, latest, observations });
                self.tell(Event::Done { attempt, end: CallEnd::Seen, usage: None });
            }
            Some(rejection) => {
                let again =
                    again && matches!(rejection.class, RejectionClass::Quota | RejectionClass::Concurrency);
                if again {
                    self.waiting.insert(attempt.session.0);
                }
                self.tell(Event::Rejected { attempt, latest, observations, rejection, again });
            }
        }
        told
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn some_call_may_go_when_the_answers_words_or_the_next_probes_time_are_over(
        (provider, answers) in answers(8),
    ) {
        let mut w = World::new(&provider);
        let mut stops_until = w.now;
        for (answer, first) in answers {
            let until = stops_until.max(w.now) + stretched(w.observed) + SLACK;
            // Whoever has a turn; the other asks as well.
            let order = if first { [1, 2] } else { [2, 1] };
            let attempt = w.next_grant(&order, until);
            prop_assert!(attempt.is_some(), "{} s are over", until.since(w.now).as_secs());
            let told = w.answered(attempt.unwrap(), &answer, true);
            stops_until = stops_until.max(w.now + stretched(told));
        }
        let until = stops_until.max(w.now) + stretched(w.observed) + SLACK;
        prop_assert!(w.next_grant(&WORKLOADS, until).is_some());
    }

    #[test]
    fn another_workload_with_another_credential_is_held_for_a_minute_at_most(
        (provider, answers) in answers(1),
    ) {
        let mut w = World::new(&provider);
        let attempt = w.next_grant(&[1], w.now).unwrap();
        let told = w.answered(attempt, &answers[0].0, false).min(WITHOUT_WITNESS);
        let until = w.now + stretched(told) + stretched(w.observed) + SLACK;
        prop_assert!(w.next_grant(&[2], until).is_some_and(|attempt| attempt.session.0 == 2));
    }
}
