//! How many tokens a request may cost, as far as it says: never less than the provider can make of it.

use http::Method;
use proptest::prelude::*;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::request::{BodyFacts, Measure, RequestSize};
use serde_json::{Value, json};

use crate::answers::{headers, profile};

fn measured(profile: &Profile, path: &str, body: &[u8], piece: usize) -> Option<RequestSize> {
    let mut reader = profile.body_reader(&Method::POST, path, &headers(&[]), Measure::Size).unwrap();
    body.chunks(piece).for_each(|piece| reader.push(piece));
    let facts: BodyFacts = reader.finish();
    let shape = profile.describe(&Method::POST, path, &facts);
    profile.request_size(path, &facts, shape.model.as_deref())
}

fn size(provider: &str, path: &str, body: &Value) -> RequestSize {
    let text = body.to_string();
    let whole = measured(&profile(provider), path, text.as_bytes(), text.len()).unwrap();
    for piece in [1, 7, 4096] {
        assert_eq!(measured(&profile(provider), path, text.as_bytes(), piece), Some(whole), "by {piece}");
    }
    whole
}

fn chat(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}], "model": "gpt-4o"})
}

#[test]
fn a_form_counts_its_fields_and_nothing_tells_what_its_files_cost() {
    let form = |file: &str| {
        let part = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields =
            [part("model", "gpt-4o-transcribe"), part("prompt", &"word ".repeat(2000)), part("n", "3")];
        format!("{}{file}--b--\r\n", fields.concat())
    };
    let of = |text: &str, piece: usize| {
        let headers = headers(&["content-type: multipart/form-data; boundary=b"]);
        let path = "/v1/audio/transcriptions";
        let profile = profile("openai");
        let mut reader = profile.body_reader(&Method::POST, path, &headers, Measure::Size).unwrap();
        text.as_bytes().chunks(piece).for_each(|piece| reader.push(piece));
        profile.request_size(path, &reader.finish(), None)
    };
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nID3ID3\r\n";
    for piece in [1, 50, 100_000] {
        let found = of(&form(file), piece).unwrap();
        assert_eq!((found.text_bytes, found.choices, found.stored_input), (10_018, 3, true));
        assert!(!of(&form(""), piece).unwrap().stored_input);
    }
    assert_eq!(of("--b\r\nContent-Disposition: form-data", 9), None, "it breaks off");
}

#[test]
fn calls_that_cost_no_tokens_have_no_size() {
    let body = json!({"items": [{"type": "message", "content": "word ".repeat(500)}]});
    assert_eq!(size("openai", "/v1/conversations/conv_1/items", &body), RequestSize::NONE);
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

#[test]
fn all_text_counts_wherever_it_stands() {
    let text = "word ".repeat(2000);
    let schema = json!({"type": "object", "properties": {"city": {"type": "string", "description": text}}});
    for (provider, path, body) in [
        ("openai", CHAT, chat(json!(text))),
        ("openai", CHAT, chat(json!([{"type": "text", "text": text}]))),
        // What only looks like a picture is text.
        ("openai", CHAT, chat(json!(format!("data:image/png;base64,{text}")))),
        ("openai", CHAT, json!({"model": "gpt-4o", "tools": [{"function": {"parameters": schema}}]})),
        ("openai", RESPONSES, json!({"model": "gpt-4o", "input": text})),
        ("openai", RESPONSES, json!({"model": "gpt-4o", "instructions": text, "input": "Hi"})),
        ("anthropic", MESSAGES, json!({"model": "claude-haiku-4-5", "system": text, "messages": []})),
        (
            "anthropic",
            MESSAGES,
            json!({"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": [
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}]}]}),
        ),
    ] {
        let found = size(provider, path, &body).text_bytes;
        let written = body.to_string().len() as u64;
        assert!((10_000..=written).contains(&found), "{provider} {path}: {found} of {written}");
    }
}

#[test]
fn a_picture_costs_its_constant_and_no_text() {
    let picture = "A".repeat(3 << 20);
    let png = format!("iVBORw0KGgo{picture}");
    let url = format!("data:image/png;base64,{picture}");
    let part = json!([{"type": "image_url", "image_url": {"url": url, "detail": "high"}}, {"type": "text", "text": "What is it?"}]);
    let of_model = |model: &str| {
        let mut body = chat(part.clone());
        body["model"] = json!(model);
        size("openai", CHAT, &body)
    };
    assert_eq!(of_model("gpt-4o-2024-08-06").media_tokens, 1445);
    assert_eq!(of_model("gpt-4o-mini").media_tokens, 48_169);
    assert_eq!(of_model("gpt-9-vision").media_tokens, 48_169, "of an unknown model the dearest");
    assert!(of_model("gpt-4o").text_bytes < 200);

    let input = json!({"model": "gpt-4o", "input": [{"role": "user", "content": [
        {"type": "input_image", "image_url": url}, {"type": "input_image", "image_url": "https://example.com/a.png"}]}]});
    let found = size("openai", RESPONSES, &input);
    assert_eq!((found.media_tokens, found.text_bytes < 300), (2 * 1445, true));

    let source = json!({"type": "base64", "media_type": "image/png", "data": png});
    let image = json!({"type": "image", "source": source});
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [image]});
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": [image, result]}]});
    let found = size("anthropic", MESSAGES, &body);
    assert_eq!((found.media_tokens, found.text_bytes < 400), (3200, true));
    assert!(!found.stored_input);
    // PHP escapes slashes.
    let php = body.to_string().replace("iVBORw0KGgo", "\\/9j\\/");
    let found = measured(&profile("anthropic"), MESSAGES, php.as_bytes(), 1000).unwrap();
    assert_eq!((found.media_tokens, found.text_bytes < 400), (3200, true));
}

#[test]
fn a_sound_costs_by_its_length() {
    let part =
        json!([{"type": "input_audio", "input_audio": {"data": "A".repeat(400_000), "format": "mp3"}}]);
    let found = size("openai", CHAT, &chat(part));
    assert!((3000..3010).contains(&found.media_tokens), "{}", found.media_tokens);
    assert!(found.text_bytes < 200);
}

#[test]
fn completions_and_the_largest_answer_are_bounded_by_no_less_than_the_request_says() {
    for (more, choices, most) in [
        (json!({"n": 3, "max_tokens": 100}), 3, Some(100)),
        (json!({"n": 2, "best_of": 5, "max_completion_tokens": 7, "max_tokens": 9}), 5, Some(9)),
        (json!({"n": 2.0}), 2, None),
        (json!({"n": "4"}), 4, None),
        (json!({"n": 1e30}), u32::MAX, None),
        (json!({"n": -3, "max_tokens": -1}), 1, None),
        (json!({"n": null, "max_tokens": null}), 1, None),
        (json!({"n": 0, "max_tokens": 0}), 1, Some(0)),
        (json!({"max_tokens": 1e30}), 1, None),
    ] {
        let mut body = chat(json!("Hi"));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = size("openai", CHAT, &body);
        assert_eq!((found.choices, found.max_output), (choices, most), "{more}");
    }
    let embedding = json!({"model": "text-embedding-3-small", "input": ["a", "b"]});
    assert_eq!(size("openai", "/v1/embeddings", &embedding).max_output, Some(0));
}

#[test]
fn input_that_is_stored_elsewhere_is_unbounded() {
    let with = |more: Value| {
        let mut body = json!({"model": "gpt-4o", "input": "Hi"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        size("openai", RESPONSES, &body).stored_input
    };
    for stored in [
        json!({"previous_response_id": "resp_1"}),
        json!({"previous_response_id": "r".repeat(9000)}),
        json!({"conversation": "conv_1"}),
        json!({"conversation": {"id": "conv_1"}}),
        json!({"tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}),
        json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"content": [{"type": "input_file", "file_id": "file_1"}]}]}),
    ] {
        assert!(with(stored.clone()), "{stored}");
    }
    for own in [
        json!({"previous_response_id": null, "conversation": null}),
        json!({"previous_response_id": ""}),
        json!({"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "previous_response_id"}]}]}),
    ] {
        assert!(!with(own.clone()), "{own}");
    }
    let message = |tools: Value| json!({"model": "claude-haiku-4-5", "messages": [], "tools": tools});
    let stored = |tools: Value| size("anthropic", MESSAGES, &message(tools)).stored_input;
    assert!(stored(json!([{"type": "web_search_20250305", "name": "web_search"}])));
    assert!(!stored(
        json!([{"name": "mine", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}])
    ));
}

#[test]
fn a_body_that_is_not_read_to_its_end_has_no_size() {
    let openai = profile("openai");
    for body in ["", "{", r#"{"model":"gpt-4o","messages":[{"content":"Hi"#, "model=gpt-4o", "{\"model\":1}}"]
    {
        assert_eq!(measured(&openai, CHAT, body.as_bytes(), 3), None, "{body}");
    }
    let mut reader = openai.body_reader(&Method::POST, CHAT, &headers(&[]), Measure::Nothing).unwrap();
    reader.push(b"{\"model\":\"gpt-4o\"}");
    assert_eq!(openai.request_size(CHAT, &reader.finish(), None), None, "nobody wanted it");
}

/// Tokens are at most the bytes of the text: the count may not be below them, however the text is written.
#[derive(Debug, Clone, Copy)]
enum Style {
    Plain,
    Ascii,
    Pretty,
}

fn written(body: &Value, style: Style) -> String {
    match style {
        Style::Plain => body.to_string(),
        Style::Pretty => serde_json::to_string_pretty(body).unwrap(),
        Style::Ascii => body
            .to_string()
            .chars()
            .map(|letter| match letter {
                ' '..='~' => letter.to_string(),
                _ => letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            })
            .collect(),
    }
}

proptest! {
    #[test]
    fn no_text_is_lost_however_it_is_written_and_cut(
        texts in prop::collection::vec(".{0,80}", 1..6),
        style in prop::sample::select(&[Style::Plain, Style::Ascii, Style::Pretty][..]),
        piece in 1_usize..200,
    ) {
        let parts: Vec<Value> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        let body = written(&chat(json!(parts)), style);
        let found = measured(&profile("openai"), CHAT, body.as_bytes(), piece).unwrap();
        let least: usize = texts.iter().map(String::len).sum();
        prop_assert!(found.text_bytes >= least as u64);
        prop_assert!(found.text_bytes <= body.len() as u64);
        prop_assert_eq!(measured(&profile("openai"), CHAT, body.as_bytes(), body.len()), Some(found));
    }
}
