//! The demo API: echoes what it was asked and speaks the headers of draft-ietf-httpapi-ratelimit-headers-11.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Asked, Refusal, Reply, left};
use crate::counting::{Limit, LimitState};

/// Every limit that matched, as a member of both Lists; `t` is in seconds until nothing counts any more, rounded up.
pub(super) fn headers(states: &[(Limit, LimitState)]) -> Vec<(&'static str, String)> {
    if states.is_empty() {
        return Vec::new();
    }
    let policy = |(limit, _): &(Limit, LimitState)| {
        let seconds = limit.window_millis.div_ceil(1_000);
        format!("\"{}\";q={};w={seconds}", limit.name, limit.count)
    };
    let state = |(limit, state): &(Limit, LimitState)| {
        let seconds = state.full_in.div_ceil(1_000_000_000);
        format!("\"{}\";r={};t={seconds}", limit.name, left(limit, state))
    };
    let list = |item: &dyn Fn(&(Limit, LimitState)) -> String| {
        states.iter().map(item).collect::<Vec<_>>().join(", ")
    };
    vec![("ratelimit-policy", list(&policy)), ("ratelimit", list(&state))]
}

pub(super) fn refusal(refusal: &Refusal<'_>) -> Value {
    let limit = refusal.exceeded.map(|(limit, _)| limit.name.as_str());
    json!({"status": refusal.status, "title": refusal.message, "limit": limit})
}

pub(super) fn echo(asked: &Asked<'_>) -> Reply {
    let mut body = json!({
        "method": asked.method.as_str(), "path": asked.path, "query": asked.query, "bytes": asked.length,
        "sequence": asked.sequence,
    });
    if let Some(credits) = asked.wanted.credits {
        body["cost"] = json!({"credits": credits});
        // As Shopify, Apollo and Salesloft tell it.
        body["extensions"] = json!({"cost": {"actualQueryCost": credits}});
        body["credits_consumed"] = json!(credits);
    }
    Reply { cost: asked.wanted.credits, ..Reply::json(StatusCode::OK, &body) }
}
