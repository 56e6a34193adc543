//! Streams of events: what reading their usage costs, and whether it holds anything back.

use std::path::Path;

use anyhow::Context;

use super::servers::{Api, Nginx, Provider, Wrapped};
use super::{Figure, Way, in_turn, rows};
use crate::table::{Row, Unit};

/// Events of a stream, in a millisecond each.
const EVENTS: f64 = 200.0;
const CHAT: Api = Api {
    provider: "chat",
    host: "api.openai.com",
    path: "/v1/chat/completions",
    body: r#"{"model":"gpt-4o-mini","stream":true,"max_tokens":200,"messages":[{"role":"user","content":"[play output=200]"}]}"#,
};

/// Limits that never bind, with or without one of tokens: without, nothing of an answer is read.
const PROVIDER: &str = "
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: chat}
spec:
  extends: openai
  tiers:
  - name: passing
    limits: [{name: requests, unit: Requests, amount: 100000, windowSeconds: 1}]
  - name: reading
    limits:
    - {name: requests, unit: Requests, amount: 100000, windowSeconds: 1}
    - {name: tokens, unit: TotalTokens, amount: 1000000000, windowSeconds: 10}
";

fn quota(tier: &str) -> String {
    let spec = format!("{{provider: {{name: chat, tier: {tier}}}}}");
    format!(
        "{PROVIDER}---\napiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {{name: bench}}\nspec: {spec}\n"
    )
}

const FIGURES: [Figure; 3] = [
    Figure::alone("first byte of a stream, one at a time", Unit::Micros, |round| round.first_byte),
    Figure::alone("end of a stream of 200 events, one at a time", Unit::Micros, |round| round.median),
    Figure::crowded("processor time an event, 16 streams at a time", Unit::Micros, |round| {
        round.processor / EVENTS
    })
    .of_proxies(),
];

/// Measures all ways in turn: Quotakeeper with a limit of tokens, beside itself without one, no proxy, and nginx.
///
/// # Errors
/// When a process can't be started or a call is not answered with 200.
pub fn measure(binaries: &Path, nginx: Option<&Path>) -> anyhow::Result<Vec<Row>> {
    let room = tempfile::tempdir().context("no temporary folder can be made")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provider = Provider::start(binaries, room.path(), CHAT)?;
    let start = |tier: &str| Wrapped::start(binaries, &room.path().join(tier), &provider, &quota(tier));
    let (reading, passing) = (start("reading")?, start("passing")?);
    let nginx = nginx.map(|program| Nginx::start(program, room.path(), &provider)).transpose()?;
    let mut ways = vec![
        Way::of("Quotakeeper", &reading),
        Way::of("itself without tokens", &passing),
        Way::of("no proxy", &provider),
    ];
    ways.extend(nginx.as_ref().map(|nginx| Way::of("nginx", nginx)));
    in_turn(&runtime, &mut ways)?;
    reading.stop()?;
    passing.stop()?;
    Ok(rows(&ways, &FIGURES))
}
