//! Anthropic: messages whole and streamed, the `anthropic-ratelimit-requests-*` headers and the errors.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Asked, Refusal, Reply, left, of_unit, organization};
use crate::counting::{Limit, LimitState};
use crate::tokens::{Unit, Usage};

/// `reset` is the time at which nothing counts any more ("fully replenished"), in RFC 3339, rounded up to the second.
pub(super) fn headers(
    account: &str,
    states: &[(Limit, LimitState)],
    sequence: u64,
    wall: Timestamp,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("anthropic-organization-id", organization(account)),
        ("request-id", format!("req_{sequence:016x}")),
    ];
    if let Some((limit, state)) = of_unit(states, Unit::Requests) {
        headers.push(("anthropic-ratelimit-requests-limit", limit.count.to_string()));
        headers.push(("anthropic-ratelimit-requests-remaining", left(limit, state).to_string()));
        headers.push(("anthropic-ratelimit-requests-reset", rfc3339_up(wall, state.full_in)));
    }
    let mut tokens = |unit, [limit_name, remaining, reset]: [&'static str; 3]| {
        if let Some((limit, state)) = of_unit(states, unit) {
            headers.push((limit_name, limit.count.to_string()));
            headers.push((remaining, thousands(left(limit, state)).to_string()));
            headers.push((reset, rfc3339_up(wall, state.full_in)));
        }
    };
    tokens(Unit::InputTokens, INPUT_TOKENS);
    tokens(Unit::OutputTokens, OUTPUT_TOKENS);
    tokens(Unit::TotalTokens, TOKENS);
    headers
}

const INPUT_TOKENS: [&str; 3] = [
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
];
const OUTPUT_TOKENS: [&str; 3] = [
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];
const TOKENS: [&str; 3] = [
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];

/// "Rounded to the nearest thousand" (its documentation of these headers).
fn thousands(tokens: u64) -> u64 {
    tokens.saturating_add(500) / 1_000 * 1_000
}

fn rfc3339_up(wall: Timestamp, nanos: u64) -> String {
    let at = wall.saturating_add(SignedDuration::from_nanos(nanos as i64)).unwrap_or(Timestamp::MAX);
    let second = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX).to_string()
}

/// With commas between thousands: `40,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let comma = |place: usize| place > 0 && (digits.len() - place).is_multiple_of(3);
    let grouped = digits.chars().enumerate().map(|(place, digit)| match comma(place) {
        true => format!(",{digit}"),
        false => digit.to_string(),
    });
    grouped.collect()
}

pub(super) fn refusal(refusal: &Refusal<'_>) -> Value {
    let kind = match refusal.status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let message = match refusal.exceeded {
        Some((limit, _)) if limit.counts_tokens() => format!(
            "This request would exceed your organization's rate limit of {} {} per minute (org: {}, model: {}). For details, refer to: https://docs.claude.com/en/api/rate-limits.",
            grouped(limit.count),
            match limit.unit {
                Unit::InputTokens => "input tokens",
                Unit::OutputTokens => "output tokens",
                _ => "tokens",
            },
            organization(refusal.account.unwrap_or_default()),
            refusal.model.unwrap_or("none"),
        ),
        Some((limit, _)) => format!(
            "This request would exceed your organization's rate limit {} of {} requests per {} ms (model: {}).",
            limit.name,
            limit.count,
            limit.window_millis,
            refusal.model.unwrap_or("none"),
        ),
        None => refusal.message.clone(),
    };
    let request_id = format!("req_{:016x}", refusal.sequence);
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
}

pub(super) fn message(asked: &Asked<'_>) -> Reply {
    let body = asked.body;
    let (words, cut) = (asked.words(), asked.cut());
    let stop_reason = if cut { "max_tokens" } else { "end_turn" };
    let Usage { input, cached, cache_write, output, .. } = asked.usage;
    // What a cache knew, or knows now, is told beside the rest.
    let fresh = input - cached - cache_write;
    let usage = |output: u64| {
        json!({
            "input_tokens": fresh, "cache_creation_input_tokens": cache_write, "cache_read_input_tokens": cached,
            "output_tokens": output, "service_tier": "standard",
        })
    };
    let message = |content: Value, stop_reason: Option<&str>, output: u64| {
        json!({
            "id": format!("msg_{:016x}", asked.sequence), "type": "message", "role": "assistant",
            "model": body["model"], "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": usage(output),
        })
    };
    if body["stream"] != json!(true) {
        let content = json!([{"type": "text", "text": words.concat()}]);
        return Reply::json(http::StatusCode::OK, &message(content, Some(stop_reason), output));
    }
    let mut events = vec![
        json!({"type": "message_start", "message": message(json!([]), None, 1)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(words.iter().map(
        |word| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
    ));
    events.push(json!({"type": "content_block_stop", "index": 0}));
    // Usage is cumulative: two deltas, of which only the last may be charged.
    let delta = |stop_reason: Option<&str>, output: u64| {
        let usage = json!({
            "input_tokens": fresh, "cache_creation_input_tokens": cache_write, "cache_read_input_tokens": cached,
            "output_tokens": output,
        });
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
        json!({"type": "message_delta", "delta": delta, "usage": usage})
    };
    events.push(delta(None, output.div_ceil(2)));
    events.push(delta(Some(stop_reason), output));
    events.push(json!({"type": "message_stop"}));
    let write =
        |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    Reply::events(events.into_iter().map(write).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_rounded_and_grouped() {
        assert_eq!([499, 500, 39_499, 39_500].map(thousands), [0, 1_000, 39_000, 40_000]);
        assert_eq!([7, 999, 40_000, 1_234_567].map(grouped), ["7", "999", "40,000", "1,234,567"]);
    }

    #[test]
    fn resets_are_whole_seconds_that_are_not_too_early() {
        let wall = Timestamp::UNIX_EPOCH;
        assert_eq!(rfc3339_up(wall, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_up(wall, 1), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339_up(wall, 61_000_000_000), "1970-01-01T00:01:01Z");
    }
}
