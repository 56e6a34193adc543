//! OpenAI's Responses API: one message of text, whole or as events; usage comes with the last event.

use serde_json::{Value, json};

use super::{Asked, Reply};
use crate::tokens::Usage;

pub(super) fn response(asked: &Asked<'_>) -> Reply {
    let body = asked.body;
    let (words, cut) = (asked.words(), asked.cut());
    let text = words.concat();
    let Usage { input, output, cached, reasoning, .. } = asked.usage;
    let item_id = format!("msg_{:016x}", asked.sequence);
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let item = |status: &str, content: Value| json!({"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content});
    let object = |status: &str, output: Value, usage: Value| {
        let incomplete =
            if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null };
        json!({
            "id": format!("resp_{:016x}", asked.sequence), "object": "response", "created_at": asked.wall.as_second(),
            "status": status, "error": null, "incomplete_details": incomplete, "instructions": null,
            "max_output_tokens": body["max_output_tokens"], "metadata": {}, "model": body["model"], "output": output,
            "parallel_tool_calls": true, "previous_response_id": null, "temperature": 1.0, "tool_choice": "auto",
            "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": usage,
        })
    };
    let end = if cut { "incomplete" } else { "completed" };
    let usage = json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": reasoning}, "total_tokens": input + output,
    });
    let whole = object(end, json!([item(end, json!([part(&text)]))]), usage);
    if body["stream"] != json!(true) {
        return Reply::json(http::StatusCode::OK, &whole);
    }
    let place = json!({"item_id": item_id, "output_index": 0, "content_index": 0});
    let at_place = |more: Value| merge(place.clone(), more);
    let begun = object("in_progress", json!([]), Value::Null);
    let mut events = vec![
        ("response.created", json!({"response": begun})),
        ("response.in_progress", json!({"response": begun})),
        ("response.output_item.added", json!({"output_index": 0, "item": item("in_progress", json!([]))})),
        ("response.content_part.added", at_place(json!({"part": part("")}))),
    ];
    events.extend(
        words
            .iter()
            .map(|word| ("response.output_text.delta", at_place(json!({"delta": word, "logprobs": []})))),
    );
    events.push(("response.output_text.done", at_place(json!({"text": text, "logprobs": []}))));
    events.push(("response.content_part.done", at_place(json!({"part": part(&text)}))));
    let done = item(end, json!([part(&text)]));
    events.push(("response.output_item.done", json!({"output_index": 0, "item": done})));
    events.push((if cut { "response.incomplete" } else { "response.completed" }, json!({"response": whole})));
    let write = |(number, (kind, data)): (usize, (&str, Value))| {
        let data = merge(json!({"type": kind, "sequence_number": number}), data);
        format!("event: {kind}\ndata: {data}\n\n")
    };
    Reply::events(events.into_iter().enumerate().map(write).collect())
}

fn merge(mut into: Value, more: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut into, more) {
        into.extend(more);
    }
    into
}
