//! OpenAI: chat completions whole and streamed, models, the `x-ratelimit-*-requests` headers and the errors.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Asked, Refusal, Reply, left, of_unit, organization};
use crate::counting::{Limit, LimitState};
use crate::tokens::{Unit, Usage};

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
    if let Some((limit, state)) = of_unit(states, Unit::Requests) {
        headers.push(("x-ratelimit-limit-requests", limit.count.to_string()));
        headers.push(("x-ratelimit-remaining-requests", left(limit, state).to_string()));
        headers.push(("x-ratelimit-reset-requests", duration(state.full_in)));
    }
    if let Some((limit, state)) = of_unit(states, Unit::TotalTokens) {
        headers.push(("x-ratelimit-limit-tokens", limit.count.to_string()));
        headers.push(("x-ratelimit-remaining-tokens", left(limit, state).to_string()));
        headers.push(("x-ratelimit-reset-tokens", duration(state.full_in)));
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
    let error = |message: &str, kind: &str, code: Option<&str>| json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    match (refusal.exceeded, refusal.status) {
        (Some((limit, _)), _) if limit.unit == Unit::Dollars => {
            error(NO_MONEY, "insufficient_quota", Some("insufficient_quota"))
        }
        (Some((limit, state)), _) => {
            let kind = if limit.counts_tokens() { "tokens" } else { "requests" };
            error(&over(refusal, limit, state), kind, Some("rate_limit_exceeded"))
        }
        (None, 401) => error(&refusal.message, "invalid_request_error", Some("invalid_api_key")),
        (None, 429) => error(&refusal.message, "requests", Some("rate_limit_exceeded")),
        (None, 500..) => error(&refusal.message, "server_error", None),
        (None, _) => error(&refusal.message, "invalid_request_error", None),
    }
}

const NO_MONEY: &str = "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.";

/// The sentence about a limit; of tokens in OpenAI's own words.
fn over(refusal: &Refusal<'_>, limit: &Limit, state: &LimitState) -> String {
    let model = refusal.model.unwrap_or("this endpoint");
    let organization = organization(refusal.account.unwrap_or_default());
    let (count, used, again) = (limit.count, state.used, duration(state.next_in));
    let LimitWords { name, requested } = match limit.counts_tokens() {
        true => LimitWords { name: per(limit), requested: refusal.requested },
        false => {
            let name = format!("{} ({count} per {} ms)", limit.name, limit.window_millis);
            LimitWords { name, requested: 1 }
        }
    };
    if state.next_in == u64::MAX {
        return format!(
            "Request too large for {model} in organization {organization} on {name}: Limit {count}, Requested {requested}. The input or output tokens must be reduced in order to run successfully. Visit https://platform.openai.com/account/rate-limits to learn more."
        );
    }
    format!(
        "Rate limit reached for {model} in organization {organization} on {name}: Limit {count}, Used {used}, Requested {requested}. Please try again in {again}."
    )
}

struct LimitWords {
    name: String,
    requested: u64,
}

fn per(limit: &Limit) -> String {
    match limit.window_millis {
        60_000 => "tokens per min (TPM)".to_owned(),
        86_400_000 => "tokens per day (TPD)".to_owned(),
        millis => format!("tokens per {millis} ms"),
    }
}

/// Four numbers, as floats or as OpenAI's SDKs ask for them: base64 of little-endian 32-bit floats.
pub(super) fn embeddings(asked: &Asked<'_>) -> Reply {
    let embedding = match asked.body["encoding_format"].as_str() {
        Some("base64") => json!("AAAAPwAAgL8AAAA+AACAPw=="),
        _ => json!([0.5, -1.0, 0.125, 1.0]),
    };
    let texts = asked.body["input"].as_array().filter(|texts| texts.iter().any(|text| !text.is_number()));
    let data: Vec<Value> = (0..texts.map_or(1, Vec::len))
        .map(|index| json!({"object": "embedding", "index": index, "embedding": embedding}))
        .collect();
    let usage = json!({"prompt_tokens": asked.usage.input, "total_tokens": asked.usage.input});
    let list = json!({"object": "list", "data": data, "model": asked.body["model"], "usage": usage});
    Reply::json(http::StatusCode::OK, &list)
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
    let (words, choices) = (asked.words(), asked.wanted.choices.max(1));
    let finish_reason = if asked.cut() { "length" } else { "stop" };
    let usage = chat_usage(&asked.usage);
    if body["stream"] != json!(true) {
        let message =
            json!({"role": "assistant", "content": words.concat(), "refusal": null, "annotations": []});
        let choice = |index: u64| json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason});
        let all = (0..choices).map(choice).collect();
        return Reply::json(http::StatusCode::OK, &chat_object(asked, "chat.completion", all, Some(&usage)));
    }
    // With include_usage every chunk has the field, null in all but an extra last one without choices.
    let include_usage = body["stream_options"]["include_usage"] == json!(true);
    let null_usage = include_usage.then_some(&Value::Null);
    let event = |choices: Value, usage| {
        let object = chat_object(asked, "chat.completion.chunk", choices, usage);
        format!("data: {object}\n\n")
    };
    let chunks = |delta: Value, finish: Option<&str>| -> String {
        let choice =
            |index: u64| json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        (0..choices).map(|index| event(choice(index), null_usage)).collect()
    };
    let mut events = vec![chunks(json!({"role": "assistant", "content": "", "refusal": null}), None)];
    events.extend(words.iter().map(|word| chunks(json!({"content": word}), None)));
    events.push(chunks(json!({}), Some(finish_reason)));
    if include_usage {
        events.push(event(json!([]), Some(&usage)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    Reply::events(events)
}

fn chat_usage(usage: &Usage) -> Value {
    let Usage { input, cached, output, reasoning, .. } = *usage;
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

fn chat_object(asked: &Asked<'_>, kind: &str, choices: Value, usage: Option<&Value>) -> Value {
    let mut object = json!({
        "id": format!("chatcmpl-{:016x}", asked.sequence), "object": kind, "created": asked.wall.as_second(),
        "model": asked.body["model"], "choices": choices, "system_fingerprint": "fp_counting",
        "service_tier": "default",
    });
    if let Some(usage) = usage {
        object["usage"] = usage.clone();
    }
    object
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
