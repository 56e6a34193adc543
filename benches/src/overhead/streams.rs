//! Streams of events: what reading their usage costs, and whether it holds anything back.

use std::path::Path;

use anyhow::Context;

use super::servers::{Api, Nginx, Provider, Wrapped};
use super::{Figure, Way, in_turn, rows};
use crate::table::{Row, Unit};

/// Events of a stream, in a millisecond each.
const EVENTS: f64 = 200.0;
const CHAT: Api = Api {
    provider: "openai",
    host: "api.openai.com",
    path: "/v1/chat/completions",
    body: r#"{"model":"gpt-4o-mini","stream":true,"max_tokens":200,"messages":[{"role":"user","content":"[play output=200]"}]}"#,
};

/// Limits that never bind, with or without one of tokens: without, nothing of an answer is read.
fn quota(tokens: bool) -> String {
    let limits = "    - {name: requests, unit: Requests, amount: 100000, windowSeconds: 1}\n";
    let tokens = match tokens {
        true => "    - {name: tokens, unit: TotalTokens, amount: 1000000000, windowSeconds: 10}\n",
        false => "",
    };
    format!(
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiProvider\nmetadata: {{name: openai}}\nspec:\n  extends: openai\n  \
         tiers:\n  - name: bench\n    limits:\n{limits}{tokens}---\napiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\n\
         metadata: {{name: bench}}\nspec: {{provider: {{name: openai, tier: bench}}}}\n"
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
    let start =
        |name: &str, tokens| Wrapped::start(binaries, &room.path().join(name), &provider, &quota(tokens));
    let (reading, passing) = (start("reading", true)?, start("passing", false)?);
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
