//! What answers say of the tokens that they have cost. The answers are those of the providers' references, shortened:
//! platform.openai.com/docs/api-reference (chat, responses, embeddings),
//! docs.claude.com/en/docs/build-with-claude/streaming, ai.google.dev/api/generate-content,
//! docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.

use http::StatusCode;
use proptest::prelude::*;
use quotakeeper_dialects::usage::AnswerTokens;
use quotakeeper_dialects::{Head, Profile};

use crate::answers::{headers, profile};

fn read_by(profile: &Profile, path: &str, kind: &str, body: &[u8], piece: usize) -> Option<AnswerTokens> {
    let headers = headers(&[&format!("content-type: {kind}")]);
    let head = Head { status: StatusCode::OK, headers: &headers, endpoint: None };
    let mut reader = profile.usage_reader(head, path, kind == EVENTS)?;
    body.chunks(piece.max(1)).for_each(|piece| reader.push(piece));
    Some(reader.finish())
}

fn read(provider: &str, path: &str, kind: &str, body: &str) -> AnswerTokens {
    let profile = profile(provider);
    let read = read_by(&profile, path, kind, body.as_bytes(), body.len()).unwrap();
    for piece in [1, 5, 100] {
        assert_eq!(read_by(&profile, path, kind, body.as_bytes(), piece), Some(read), "by {piece}");
    }
    read
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-123\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-123\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" there\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-123\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-123\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":8}}}\n\n",
    "data: [DONE]\n\n",
);

/// Of Groq, whose usage stands in a member of its own (console.groq.com/docs/api-reference#chat-create).
const GROQ_STREAM: &str = concat!(
    "data: {\"id\":\"chatcmpl-9\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"x_groq\":{\"id\":\"req_01\"}}\n\n",
    "data: {\"id\":\"chatcmpl-9\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-9\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"req_01\",\"usage\":{\"queue_time\":0.06,\"prompt_tokens\":18,\"prompt_time\":0.0002,\"completion_tokens\":439,\"completion_time\":0.79,\"total_tokens\":457,\"total_time\":0.79}}}\n\n",
    "data: [DONE]\n\n",
);

/// Of DeepSeek, which names its cached tokens twice (api-docs.deepseek.com/api/create-chat-completion).
const DEEPSEEK: &str = r#"{"choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":102056,"completion_tokens":252,"total_tokens":102308,"prompt_cache_hit_tokens":94464,"prompt_cache_miss_tokens":7592,"prompt_tokens_details":{"cached_tokens":94464}}}"#;

/// Of Cohere (docs.cohere.com/reference/chat and chat-stream): what is billed leaves its own additions to prompts out.
const COHERE: &str = r#"{"id":"c1","message":{"role":"assistant","content":[{"type":"text","text":"Hello"}]},"usage":{"billed_units":{"input_tokens":5,"output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":418}}}"#;
const COHERE_STREAM: &str = concat!(
    "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"c1\",\"delta\":{\"message\":{\"role\":\"assistant\"}}}\n\n",
    "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Hello\"}}}}\n\n",
    "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":5,\"output_tokens\":418},\"tokens\":{\"input_tokens\":71,\"output_tokens\":418}}}}\n\n",
);

const MESSAGE_STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"content\":[],\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":300,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"!\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const RESPONSE_STREAM: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"output\":[],\"usage\":null}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
    "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"Hi\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"output\":[{\"content\":[{\"type\":\"output_text\",\"text\":\"Hi\"}]}],\"usage\":{\"input_tokens\":37,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":11,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":48}}}\n\n",
);

/// Input, of it cached and written to a cache, output.
fn figures(read: &AnswerTokens) -> (u64, u64, u64, u64) {
    (read.input.unwrap(), read.cached, read.cache_write, read.output.unwrap())
}

#[test]
fn each_kind_of_answer_tells_its_usage() {
    let chat = r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"}}],
        "usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":3}}}"#;
    let embeddings = r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023,-0.009],"index":0}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let response = r#"{"id":"resp_1","output":[{"content":[{"text":"Hi"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":123}}"#;
    let message = r#"{"content":[{"text":"Hi!","type":"text"}],"usage":{"input_tokens":2095,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":503}}"#;
    // Thinking is no part of the candidates.
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}],"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":20,"totalTokenCount":34}}"#;
    // xAI's total holds reasoning that its completion doesn't.
    let xai = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}}"#;
    let converse = r#"{"output":{"message":{"content":[{"text":"Hi"}]}},"usage":{"inputTokens":30,"outputTokens":628,"totalTokens":658,"cacheReadInputTokens":5,"cacheWriteInputTokens":0}}"#;
    for (provider, path, kind, body, told) in [
        ("openai", CHAT, JSON, chat, (19, 3, 0, 10)),
        ("openai", CHAT, EVENTS, CHAT_STREAM, (19, 4, 0, 10)),
        ("openai", RESPONSES, JSON, response, (36, 0, 0, 87)),
        ("openai", RESPONSES, EVENTS, RESPONSE_STREAM, (37, 0, 0, 11)),
        ("openai", "/v1/embeddings", JSON, embeddings, (8, 0, 0, 0)),
        ("openai", CHAT, JSON, xai, (32, 0, 0, 103)),
        ("anthropic", MESSAGES, JSON, message, (2098, 2, 1, 503)),
        ("anthropic", MESSAGES, EVENTS, MESSAGE_STREAM, (425, 300, 100, 15)),
        ("gemini", "/v1beta/models/gemini-2.5-pro:generateContent", JSON, gemini, (9, 4, 0, 25)),
        ("bedrock", "/model/x/converse", JSON, converse, (35, 5, 0, 628)),
        ("xai", CHAT, JSON, xai, (32, 0, 0, 103)),
        ("azure", "/openai/deployments/my-gpt/chat/completions", JSON, chat, (19, 3, 0, 10)),
        ("azure", "/openai/deployments/my-gpt/chat/completions", EVENTS, CHAT_STREAM, (19, 4, 0, 10)),
        ("groq", "/openai/v1/chat/completions", EVENTS, GROQ_STREAM, (18, 0, 0, 439)),
        ("deepseek", "/chat/completions", JSON, DEEPSEEK, (102_056, 94_464, 0, 252)),
        ("cohere", "/v2/chat", JSON, COHERE, (71, 0, 0, 418)),
        ("cohere", "/v2/chat", EVENTS, COHERE_STREAM, (71, 0, 0, 418)),
        ("mistral", CHAT, EVENTS, CHAT_STREAM, (19, 4, 0, 10)),
        ("cerebras", CHAT, JSON, chat, (19, 3, 0, 10)),
        ("fireworks", "/inference/v1/chat/completions", EVENTS, CHAT_STREAM, (19, 4, 0, 10)),
        ("together", CHAT, JSON, chat, (19, 3, 0, 10)),
        ("openrouter", "/api/v1/chat/completions", EVENTS, CHAT_STREAM, (19, 4, 0, 10)),
    ] {
        let found = read(provider, path, kind, body);
        assert_eq!(figures(&found), told, "{provider} {path} {kind}");
        assert!(found.is_complete(), "{provider} {path} {kind}: {found:?}");
    }
}

#[test]
fn a_stream_of_lines_tells_its_usage_in_the_last() {
    let stream = CHAT_STREAM.replace("data: [DONE]\n\n", "").replace("data: ", "");
    for (lines, cut) in [(stream.replace("\n\n", "\r\n"), 0), (stream.clone(), 0), (stream.clone(), 2)] {
        let lines = &lines[..lines.len() - cut];
        let found = read("openai", CHAT, "application/x-ndjson; charset=utf-8", lines);
        assert_eq!((figures(&found), found.is_complete(), found.text), ((19, 4, 0, 10), true, 11));
    }
}

#[test]
fn figures_that_grow_replace_each_other() {
    let event = |text: &str, output: u64| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}}}}],\"usageMetadata\":{{\"promptTokenCount\":8,\"candidatesTokenCount\":{output},\"totalTokenCount\":{}}}}}\r\n\r\n",
            8 + output
        )
    };
    let stream = [event("One", 1), event(" two", 2), event(" three", 4)].concat();
    let path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let found = read("gemini", path, EVENTS, &stream);
    assert_eq!((figures(&found), found.is_complete(), found.text), ((8, 0, 0, 4), true, 13));
    let list = stream.replace("data: ", "").replace("\r\n\r\n", ",");
    let found = read("gemini", path, JSON, &format!("[{}]", list.trim_end_matches(',')));
    assert_eq!((figures(&found), found.is_complete()), ((8, 0, 0, 4), true));
}

#[test]
fn a_usage_that_does_not_cover_all_text_is_incomplete() {
    for (stream, cut, told, since) in [
        (MESSAGE_STREAM, "event: message_delta", Some(1), 6),
        (CHAT_STREAM, "data: {\"id\":\"chatcmpl-123\",\"choices\":[],", None, 11),
        (CHAT_STREAM, " there", None, 5),
        (RESPONSE_STREAM, "event: response.completed", None, 2),
    ] {
        let stream = &stream[..stream.find(cut).unwrap()];
        let provider = if stream.contains("message_start") { "anthropic" } else { "openai" };
        let found = read(provider, CHAT, EVENTS, stream);
        assert_eq!((found.output, found.text_since), (told, since), "{cut}");
        assert!(!found.is_complete());
    }
}

#[test]
fn a_usage_that_is_no_number_of_tokens_is_unreadable() {
    for usage in [
        r#"{"prompt_tokens":-5,"completion_tokens":7}"#,
        r#"{"prompt_tokens":5,"completion_tokens":7.5}"#,
        r#"{"prompt_tokens":"many","completion_tokens":7}"#,
        r#"{"prompt_tokens":5,"completion_tokens":1e40}"#,
        r#"{"prompt_tokens":18446744073709551615,"input_tokens":1,"completion_tokens":7}"#,
    ] {
        let found = read("openai", CHAT, JSON, &format!(r#"{{"choices":[],"usage":{usage}}}"#));
        assert!(found.unreadable && !found.is_complete(), "{usage}: {found:?}");
    }
    for nothing in [
        "",
        "{}",
        "null",
        r#"{"usage":null}"#,
        r#"{"usage":{"prompt_tokens":5}}"#,
        "{\"usage\":{\"prompt_tok",
    ] {
        let found = read("openai", CHAT, JSON, nothing);
        assert!(!found.unreadable && !found.is_complete(), "{nothing}: {found:?}");
    }
}

#[test]
fn an_event_may_be_of_any_length() {
    let text = "x".repeat(3 << 20);
    let stream = RESPONSE_STREAM.replace("\"text\":\"Hi\"}]", &format!("\"text\":\"{text}\"}}]"));
    let found = read_by(&profile("openai"), RESPONSES, EVENTS, stream.as_bytes(), 1400).unwrap();
    assert_eq!((figures(&found), found.text), ((37, 0, 0, 11), 2));
}

#[test]
fn an_answer_that_is_no_text_is_not_read() {
    let openai = profile("openai");
    assert_eq!(read_by(&openai, "/v1/audio/speech", "audio/mpeg", b"", 1), None);
    let hubspot = read_by(&profile("hubspot"), "/crm", JSON, b"{}", 1);
    assert_eq!(hubspot, None, "its answers tell nothing");
}

fn stream() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("openai", CHAT_STREAM),
        ("openai", RESPONSE_STREAM),
        ("anthropic", MESSAGE_STREAM),
    ])
}

proptest! {
    #[test]
    fn any_cutting_into_pieces_gives_the_same(
        (provider, body) in stream(),
        cuts in prop::collection::vec(1_usize..90, 1..60),
        line_break in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let body = body.replace('\n', line_break);
        let headers = headers(&["content-type: text/event-stream"]);
        let head = Head { status: StatusCode::OK, headers: &headers, endpoint: None };
        let mut reader = profile(provider).usage_reader(head, CHAT, true).unwrap();
        let (mut rest, mut cuts) = (body.as_bytes(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            reader.push(piece);
            rest = after;
        }
        prop_assert_eq!(Some(reader.finish()), read_by(&profile(provider), CHAT, EVENTS, body.as_bytes(), body.len()));
    }

    #[test]
    fn a_part_of_a_stream_never_shows_more_than_all_of_it((provider, body) in stream(), end in 0_usize..2000) {
        let all = read_by(&profile(provider), CHAT, EVENTS, body.as_bytes(), 64).unwrap();
        let part = &body.as_bytes()[..end.min(body.len())];
        let part = read_by(&profile(provider), CHAT, EVENTS, part, 64).unwrap();
        prop_assert!(part.text <= all.text);
        prop_assert!(part.input.unwrap_or(0) <= all.input.unwrap());
        prop_assert!(part.output.unwrap_or(0) <= all.output.unwrap());
        prop_assert!(!part.unreadable);
    }

    #[test]
    fn any_bytes_are_read(kind in prop::sample::select(vec![JSON, EVENTS]), body in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..20) {
        for provider in ["openai", "anthropic", "gemini"] {
            let found = read_by(&profile(provider), CHAT, kind, &body, piece).unwrap();
            prop_assert!(!found.is_complete());
        }
    }
}
