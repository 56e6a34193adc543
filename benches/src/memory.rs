//! Bytes that the limiter holds for a waiting call and for a session, counted by the allocator.
//!
//! Measured by a program of its own, `bench-memory`: an allocator that counts would slow down
//! everything that is timed. It prints figures as JSON for `bench` to read.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use quotakeeper_engine::Engine;
use quotakeeper_engine::event::{Event, SessionId};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_wire::limiter::{Greeting, Session};
use quotakeeper_wire::message::{Epoch, Hello, ProxyMessage, ToLimiter};
use serde::{Deserialize, Serialize};

use crate::decision::engine::{Account, Driven, FLOWS, consumer_name};
use crate::rounds::Spread;
use crate::table::{Row, Unit};

/// Calls that wait while their memory is counted.
const CALLS: u64 = 100_000;
/// Sessions that are open while their memory is counted.
const SESSIONS: u64 = 10_000;

/// What `bench-memory` prints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Bytes of one waiting call of a hundred of its flow.
    pub waiting_call: f64,
    /// Bytes of one waiting call that is the only one of its flow.
    pub only_call_of_flow: f64,
    /// Bytes of one idle session.
    pub session: f64,
}

/// Counts, with `live` telling the bytes that are allocated now.
///
/// # Errors
/// When calls do not wait or a session is not accepted.
pub fn count(live: &dyn Fn() -> usize) -> anyhow::Result<Figures> {
    let mut driven = Driven::new(Account::FourLimits);
    // What the first calls take along is the account's, not theirs.
    (0..FLOWS).for_each(|consumer| driven.ask(consumer));
    let waiting = driven.waiting()?;
    let before = live();
    (0..CALLS).for_each(|call| driven.ask(call % FLOWS));
    let waiting_call = grown(live(), before, CALLS);
    let now_waiting = driven.waiting()?;
    ensure!(now_waiting == waiting + CALLS, "{now_waiting} calls wait, {waiting} did before {CALLS} more");
    drop(driven);

    let mut driven = Driven::new(Account::FourLimits);
    // One flow takes all that may be granted at once.
    (0..FLOWS).for_each(|_| driven.ask(0));
    let waiting = driven.waiting()?;
    let before = live();
    (1..FLOWS).for_each(|consumer| driven.ask(consumer));
    let only_call_of_flow = grown(live(), before, FLOWS - 1);
    ensure!(driven.waiting()? == waiting + FLOWS - 1, "a call did not wait");
    drop(driven);

    Ok(Figures { waiting_call, only_call_of_flow, session: session(live)? })
}

fn grown(after: usize, before: usize, things: u64) -> f64 {
    (after as f64 - before as f64) / things as f64
}

/// Bytes of a session that has said hello and draws on one account.
fn session(live: &dyn Fn() -> usize) -> anyhow::Result<f64> {
    let now = Time(3_600_000_000_000);
    let validity = std::time::Duration::from_secs(2);
    let greeting = Greeting { epoch: Epoch(1), validity, heartbeat: validity / 4, fingerprint_key: None };
    let mut engine = Engine::new(Account::FourLimits.config(), now);
    let mut sessions = Vec::with_capacity(usize::try_from(SESSIONS)?);
    let (mut events, mut actions) = (Vec::with_capacity(16), Vec::with_capacity(16));
    let before = live();
    for number in 0..SESSIONS {
        let mut session = Session::new(greeting);
        let hello = Hello {
            session: SessionId(number),
            consumer: consumer_name(number % FLOWS).into(),
            quotas: vec!["openai/org-9f2c81d0".into()],
            newest: Epoch(0),
            ended: Vec::new(),
            calls: Vec::new(),
        };
        let message = ToLimiter { stamp: Stamp(now.0), body: ProxyMessage::Hello(hello) };
        let reply = session.receive(now, message, &mut events).context("a hello was not accepted")?;
        ensure!(reply.is_some(), "a hello was not answered");
        events.drain(..).for_each(|(_, event): (_, Event)| engine.handle(now, event, &mut actions));
        sessions.push(session);
    }
    let inline = std::mem::size_of::<Session>() as f64;
    Ok(grown(live(), before, SESSIONS) + inline)
}

/// Runs `bench-memory` and reads its figures.
///
/// # Errors
/// When it is missing or fails.
pub fn measure(binaries: &Path) -> anyhow::Result<Vec<Row>> {
    let program = binaries.join("bench-memory");
    let output = Command::new(&program).output();
    let output = output.with_context(|| format!("{} can't be run; use `make bench`", program.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {errors}", program.display());
    let figures: Figures =
        serde_json::from_slice(&output.stdout).context("bench-memory printed no figures")?;
    let row = |what: &str, figure: f64, target: &str| Row {
        what: what.to_owned(),
        unit: Unit::Bytes,
        ours: Spread::of(vec![figure]),
        peer: None,
        target: Some(target.to_owned()),
    };
    Ok(vec![
        row("waiting call, 100 a flow", figures.waiting_call, "≤ 1,024 B"),
        row("waiting call, 1 a flow", figures.only_call_of_flow, "≤ 1,024 B"),
        row("session, without its transport", figures.session, "≤ 40,960 B"),
    ])
}
