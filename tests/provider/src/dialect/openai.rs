//! OpenAI: chat completions whole and streamed, models, the `x-ratelimit-*-requests` headers and the errors.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Asked, Refusal, Reply, left, organization, prompt_tokens, words};
use crate::counting::{Limit, LimitState};

const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "o4-mini"];

/// `reset` is the time until nothing counts any more ("until the rate limit resets to its initial state").
pub(super) fn headers(
    account: &str,
    states: &[(Limit, LimitState)],
    sequence: u64,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("openai-organization", organization(account)),
        ("openai-version", "2020-10-01".to_owned()),
        ("x-request-id", format!("req_{sequence:016x}")),
    ];
    if let Some((limit, state)) = states.first() {
        headers.push(("x-ratelimit-limit-requests", limit.count.to_string()));
        headers.push(("x-ratelimit-remaining-requests", left(limit, state).to_string()));
        headers.push(("x-ratelimit-reset-requests", duration(state.full_in)));
    }
    headers
}

/// A duration as OpenAI writes it: `12ms`, `1s`, `8.64s`, `6m0s`, `23h47m36.648s`; milliseconds are rounded up.
fn duration(nanos: u64) -> String {
    let millis = nanos.div_ceil(1_000_000);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let whole = SignedDuration::from_millis((millis % 60_000) as i64);
    let mut seconds = format!("{}", whole.as_secs());
    if whole.subsec_millis() > 0 {
        seconds = format!("{seconds}.{:03}", whole.subsec_millis()).trim_end_matches('0').to_owned();
    }
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

pub(super) fn refusal(refusal: &Refusal<'_>) -> Value {
    let (kind, code) = match refusal.status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let message = match refusal.exceeded {
        Some((limit, state)) => format!(
            "Rate limit reached for {} in organization {} on {} ({} per {} ms): Limit {}, Used {}, Requested 1. Please try again in {}.",
            refusal.model.unwrap_or("this endpoint"),
            organization(refusal.account.unwrap_or_default()),
            limit.name,
            limit.count,
            limit.window_millis,
            limit.count,
            state.used,
            duration(state.next_in),
        ),
        None => refusal.message.clone(),
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

pub(super) fn models() -> Reply {
    let data: Vec<Value> = MODELS
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system"}))
        .collect();
    Reply::json(http::StatusCode::OK, &json!({"object": "list", "data": data}))
}

pub(super) fn transcription() -> Reply {
    Reply::json(http::StatusCode::OK, &json!({"text": "Each call waits its turn."}))
}

pub(super) fn file(asked: &Asked<'_>) -> Reply {
    let (id, now) = (format!("file-{:016x}", asked.sequence), asked.wall.as_second());
    let file = json!({
        "id": id, "object": "file", "bytes": asked.body["file"], "created_at": now, "filename": "batch.jsonl",
        "purpose": asked.body["purpose"], "status": "processed",
    });
    Reply::json(http::StatusCode::OK, &file)
}

pub(super) fn batch(asked: &Asked<'_>) -> Reply {
    let id = asked.path.rsplit('/').next().unwrap_or_default();
    let batch = json!({
        "id": id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1",
        "completion_window": "24h", "status": "in_progress", "created_at": asked.wall.as_second(),
    });
    Reply::json(http::StatusCode::OK, &batch)
}

pub(super) fn chat_completion(asked: &Asked<'_>) -> Reply {
    let body = asked.body;
    let most = body.get("max_completion_tokens").or(body.get("max_tokens")).and_then(Value::as_u64);
    let (words, cut) = words(most);
    let finish_reason = if cut { "length" } else { "stop" };
    let (prompt, completion) = (prompt_tokens(&body["messages"]), words.len() as u64);
    let usage = json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    });
    let id = format!("chatcmpl-{:016x}", asked.sequence);
    let object = |kind: &str, choices: Value, usage: Option<&Value>| {
        let mut object = json!({
            "id": id, "object": kind, "created": asked.wall.as_second(), "model": body["model"],
            "choices": choices, "system_fingerprint": "fp_counting", "service_tier": "default",
        });
        if let Some(usage) = usage {
            object["usage"] = usage.clone();
        }
        object
    };
    if body["stream"] != json!(true) {
        let message =
            json!({"role": "assistant", "content": words.concat(), "refusal": null, "annotations": []});
        let choices =
            json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason}]);
        return Reply::json(http::StatusCode::OK, &object("chat.completion", choices, Some(&usage)));
    }
    // With include_usage every chunk has the field, null in all but an extra last one without choices.
    let include_usage = body["stream_options"]["include_usage"] == json!(true);
    let null_usage = include_usage.then_some(&Value::Null);
    let event = |data: Value| format!("data: {data}\n\n");
    let chunk = |delta: Value, finish: Option<&str>| {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        event(object("chat.completion.chunk", choices, null_usage))
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": "", "refusal": null}), None)];
    events.extend(words.iter().map(|word| chunk(json!({"content": word}), None)));
    events.push(chunk(json!({}), Some(finish_reason)));
    if include_usage {
        events.push(event(object("chat.completion.chunk", json!([]), Some(&usage))));
    }
    events.push("data: [DONE]\n\n".to_owned());
    Reply::events(events)
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        const MILLI: u64 = 1_000_000;
        for (nanos, text) in [
            (0, "0ms"),
            (1, "1ms"),
            (12 * MILLI, "12ms"),
            (999 * MILLI + 1, "1s"),
            (1_000 * MILLI, "1s"),
            (8_640 * MILLI, "8.64s"),
            (10_000 * MILLI, "10s"),
            (360_000 * MILLI, "6m0s"),
            (3_600_000 * MILLI, "1h0m0s"),
            (85_656_648 * MILLI, "23h47m36.648s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
