//! Calls over loopback: through Quotakeeper, through nginx, and straight to the provider.
//!
//! The provider is the counting provider with TLS, a process of its own like everything else here.
//! Quotakeeper is the real `quotakeeper run`, in base-URL mode, with an account whose limits never
//! bind; nginx is a plain reverse proxy that keeps its connections. Beside times, the processor's
//! time of each proxy is told: on a machine with few cores, or a shared one, it is the steadier figure.
//!
//! | room | holds |
//! |---|---|
//! | [`servers`] | the processes: provider, `quotakeeper run`, nginx |
//! | [`load`] | the client that calls |
//! | [`streams`] | streams of events, with and without limits of tokens |
//! | [`processor`] | how long a process and its children have run |

pub mod load;
pub mod processor;
pub mod servers;
pub mod streams;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::rounds::Spread;
use crate::table::{Row, Unit};
use load::{Outcome, Target, drive};
use servers::{Api, Nginx, Provider, Server, Wrapped};

/// Rounds of each contestant.
const ROUNDS: usize = 7;
/// How long a round lasts.
const ROUND: Duration = Duration::from_secs(2);
/// Longer than the window of the account, whose past is unknown at first.
const WARM_UP: Duration = Duration::from_secs(3);
/// Connections for throughput; for latency there is one.
const CONNECTIONS: usize = 16;

/// As small as a call to an API is.
const SMALL: Api = Api {
    provider: "demo",
    host: "api.demo.example",
    path: "/anything",
    body: r#"{"contact":{"email":"jo@example.com","name":"Jo Example","company":"Example"},"fields":["title","phone"]}"#,
};
/// Far more than loopback carries, in a window that is soon over.
const QUOTA: &str = "\
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: bench}
spec:
  provider: {name: demo, tier: enterprise}
  limits:
  - {name: requests, unit: Requests, amount: 100000, windowSeconds: 1}
";

/// One way to the provider, and what was measured on it.
struct Way {
    name: &'static str,
    target: Target,
    process: Option<u32>,
    crowded: Vec<Round>,
    alone: Vec<Round>,
}

/// One round's figures.
struct Round {
    per_second: f64,
    first_byte: f64,
    median: f64,
    late: f64,
    processor: f64,
}

/// Measures all ways in turn. Without nginx, its lines are left out.
///
/// # Errors
/// When a process can't be started or a call is not answered with 200.
pub fn measure(binaries: &Path, nginx: Option<&Path>) -> anyhow::Result<Vec<Row>> {
    let room = tempfile::tempdir().context("no temporary folder can be made")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provider = Provider::start(binaries, room.path(), SMALL)?;
    let wrapped = Wrapped::start(binaries, &room.path().join("run"), &provider, QUOTA)?;
    let nginx = nginx.map(|program| Nginx::start(program, room.path(), &provider)).transpose()?;
    let mut ways = vec![Way::of("Quotakeeper", &wrapped), Way::of("no proxy", &provider)];
    ways.extend(nginx.as_ref().map(|nginx| Way::of("nginx", nginx)));
    in_turn(&runtime, &mut ways)?;
    wrapped.stop()?;
    Ok(rows(&ways, &FIGURES))
}

/// All rounds of all ways.
fn in_turn(runtime: &tokio::runtime::Runtime, ways: &mut [Way]) -> anyhow::Result<()> {
    for way in &*ways {
        let warm = drive(&way.target, CONNECTIONS, WARM_UP);
        runtime.block_on(warm).with_context(|| format!("the way by {} does not work", way.name))?;
    }
    for _ in 0..ROUNDS {
        for way in &mut *ways {
            let crowded = way.round(runtime, CONNECTIONS)?;
            way.crowded.push(crowded);
            let alone = way.round(runtime, 1)?;
            way.alone.push(alone);
        }
    }
    Ok(())
}

impl Way {
    fn of(name: &'static str, server: &dyn Server) -> Way {
        let (target, process) = (server.target(), server.proxy());
        Way { name, target, process, crowded: Vec::new(), alone: Vec::new() }
    }

    fn round(&self, runtime: &tokio::runtime::Runtime, connections: usize) -> anyhow::Result<Round> {
        let used = || self.process.map_or(Ok(Duration::ZERO), processor::time);
        let before = used()?;
        let outcome = runtime
            .block_on(drive(&self.target, connections, ROUND))
            .with_context(|| format!("a call by {} failed", self.name))?;
        Ok(Round::of(&outcome, used()?.saturating_sub(before)))
    }
}

impl Round {
    fn of(outcome: &Outcome, processor: Duration) -> Round {
        let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
        Round {
            per_second: outcome.calls() as f64 / outcome.took.as_secs_f64(),
            first_byte: micros(outcome.first_byte(50)),
            median: micros(outcome.quantile(50)),
            late: micros(outcome.quantile(99)),
            processor: micros(processor) / outcome.calls().max(1) as f64,
        }
    }
}

/// A figure of a round, and what it is called.
struct Figure {
    what: &'static str,
    unit: Unit,
    of: fn(&Round) -> f64,
    rounds: fn(&Way) -> &[Round],
    /// Only of ways that lead through a proxy.
    of_proxies: bool,
}

impl Figure {
    const fn crowded(what: &'static str, unit: Unit, of: fn(&Round) -> f64) -> Figure {
        Figure { what, unit, of, rounds: |way| &way.crowded, of_proxies: false }
    }

    const fn alone(what: &'static str, unit: Unit, of: fn(&Round) -> f64) -> Figure {
        Figure { rounds: |way| &way.alone, ..Figure::crowded(what, unit, of) }
    }

    const fn of_proxies(self) -> Figure {
        Figure { of_proxies: true, ..self }
    }
}

const FIGURES: [Figure; 7] = [
    Figure::crowded("small calls, 16 at a time", Unit::CallsPerSecond, |round| round.per_second),
    Figure::crowded("median latency, 16 at a time", Unit::Micros, |round| round.median),
    Figure::crowded("99th percentile, 16 at a time", Unit::Micros, |round| round.late),
    Figure::crowded("processor time a call, 16 at a time", Unit::Micros, |round| round.processor)
        .of_proxies(),
    Figure::alone("median latency, one at a time", Unit::Micros, |round| round.median),
    Figure::alone("99th percentile, one at a time", Unit::Micros, |round| round.late),
    Figure::alone("processor time a call, one at a time", Unit::Micros, |round| round.processor).of_proxies(),
];

fn rows(ways: &[Way], figures: &[Figure]) -> Vec<Row> {
    let Some((ours, peers)) = ways.split_first() else { return Vec::new() };
    let row = |figure: &Figure, peer: &Way| {
        let spread = |way: &Way| Spread::of((figure.rounds)(way).iter().map(figure.of).collect());
        Row {
            what: figure.what.to_owned(),
            unit: figure.unit,
            ours: spread(ours),
            peer: Some((peer.name, spread(peer))),
            target: None,
        }
    };
    let beside = |figure: &Figure| {
        let peers = peers.iter().filter(|peer| peer.process.is_some() || !figure.of_proxies);
        peers.map(|peer| row(figure, peer)).collect::<Vec<_>>()
    };
    figures.iter().flat_map(beside).collect()
}
