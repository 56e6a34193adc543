//! What a call may cost is told with its question, and what it has cost with its end, where a limit counts tokens.

use std::io::Write;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use quotakeeper_dialects::profile::{CreditCost, Endpoint, ToldCredits};
use quotakeeper_engine::config::{AccountConfig, LimitConfig, Unit};
use quotakeeper_engine::tokens::{CallEnd, CallSize, TokenUsage};
use quotakeeper_proxy::Proxy;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{NoticeKind, ProxyMessage, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::client::{self, Got};
use crate::limiter::{Asked, Hand};
use crate::world;

/// A proxy before a provider that gives one answer to every request, and a hand that grants.
struct Scene {
    proxy: Proxy,
    hand: Hand,
}

/// What the provider writes, and whether it then closes the connection.
#[derive(Clone)]
struct Answer {
    parts: Vec<Vec<u8>>,
    closes: bool,
}

impl Answer {
    fn json(body: &str) -> Answer {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Answer { parts: vec![head.into_bytes(), body.into()], closes: false }
    }

    /// In chunks of one piece each.
    fn chunked(fields: &str, pieces: &[&[u8]]) -> Answer {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut parts = vec![head.into_bytes()];
        for piece in pieces {
            parts.push([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        parts.push(b"0\r\n\r\n".to_vec());
        Answer { parts, closes: false }
    }
}

async fn scene(provider: &str, quota: AccountConfig, answer: Answer) -> Scene {
    scene_seen(provider, quota, answer).await.0
}

/// The same, and the last request as the provider got it.
async fn scene_seen(provider: &str, quota: AccountConfig, answer: Answer) -> (Scene, Arc<Mutex<Vec<u8>>>) {
    scene_of(|url| world::account(provider, Some(url), quota), answer).await
}

/// The same with the account that leads to a URL.
async fn scene_of(
    account: impl FnOnce(String) -> CompiledAccount,
    answer: Answer,
) -> (Scene, Arc<Mutex<Vec<u8>>>) {
    let (listener, url) = world::socket().await;
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let last = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (answer, last) = (answer.clone(), Arc::clone(&last));
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"~end~\"}") {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                last.lock().unwrap().clone_from(&request);
                for part in answer.parts {
                    if socket.write_all(&part).await.is_err() {
                        return;
                    }
                }
                if !answer.closes {
                    let _closed = socket.read_buf(&mut request).await;
                }
            });
        }
    });
    let (proxy, peer) = world::start(world::settings(vec![account(url)])).await;
    let hand = Hand::connect(&peer, 1).await;
    (Scene { proxy, hand }, seen)
}

impl Scene {
    fn send(&self, path: &'static str, body: &'static str) -> JoinHandle<Got> {
        let address = self.proxy.base_url_addr();
        tokio::spawn(async move { client::send(address, client::request("POST", path, body)).await })
    }

    /// Grants the next call; returns its size.
    async fn grant(&mut self) -> Option<CallSize> {
        loop {
            if let ProxyMessage::Ask { account, call, details, .. } = self.hand.hear().await {
                self.hand.grant(Asked { account, call }, 1).await;
                return details.size;
            }
        }
    }

    /// How the next attempt ends.
    async fn ended(&mut self) -> (CallEnd, Option<TokenUsage>) {
        loop {
            if let ProxyMessage::Report { report: Report::Done { end, usage }, .. } = self.hand.hear().await {
                return (end, usage);
            }
        }
    }
}

const CHAT: &str = "/openai/v1/chat/completions";
const HELLO: &str = r#"{"model":"gpt-4o","n":2,"max_tokens":50,"messages":[{"role":"user","content":"Hello"}],"user":"~end~"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_question_says_how_large_the_call_is() {
    let mut scene = scene("openai", world::plenty_of_tokens(), Answer::json("{}")).await;
    let call = scene.send(CHAT, HELLO);
    let size = scene.grant().await.unwrap();
    assert_eq!(
        (size.max_output, size.choices, size.media_tokens, size.stored_input),
        (Some(50), 2, 0, false)
    );
    assert!((5..=HELLO.len() as u64).contains(&size.text_bytes), "{}", size.text_bytes);
    assert_eq!(call.await.unwrap().status, 200);

    // It is the decoded text that counts.
    let text = format!(r#"{{"model":"gpt-4o","messages":["{}"],"user":"~end~"}}"#, "word ".repeat(10_000));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let address = scene.proxy.base_url_addr();
    let request = Request::post(CHAT)
        .header("host", "127.0.0.1:15801")
        .header("content-encoding", "gzip")
        .body(client::body(gzip.finish().unwrap()))
        .unwrap();
    let call = tokio::spawn(async move { client::send(address, request).await });
    let size = loop {
        if let ProxyMessage::Ask { details, .. } = scene.hand.hear().await {
            break details.size.unwrap();
        }
    };
    assert!(size.text_bytes > 50_000, "{}", size.text_bytes);
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_measured_where_no_limit_counts_tokens() {
    let mut scene = scene("openai", world::plenty(), Answer::json("{}")).await;
    let call = scene.send(CHAT, HELLO);
    assert_eq!(scene.grant().await, None);
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(scene.ended().await, (CallEnd::Seen, None));
}

/// The credits that are asked for a call with this body, and what is told of them at its end, where calls cost ten for
/// each detail until their answers say more.
async fn credits(body: &'static str, answer: Answer) -> (u64, CallEnd, Option<TokenUsage>) {
    let mut quota = world::plenty();
    let credits = LimitConfig { name: "credits".to_owned(), unit: Unit::Credits, ..quota.limits[0].clone() };
    quota.limits.push(credits);
    let made = |url: String| {
        let mut account = world::account("demo", Some(url), quota);
        let paths = vec!["/enrich".to_owned()];
        account.profile.endpoints =
            vec![Endpoint { name: "enrich".to_owned(), paths, ..Endpoint::default() }];
        account.profile.credits = vec![CreditCost {
            endpoint: Some("enrich".to_owned()),
            each: Some(10),
            times: Some("/details".to_owned()),
            otherwise: Some(4),
            dearer: None,
            told: Some(ToldCredits { at: vec!["/cost".to_owned()], header: Some("x-cost".to_owned()) }),
        }];
        account
    };
    let (mut scene, _) = scene_of(made, answer).await;
    let call = scene.send("/demo/enrich", body);
    let asked = loop {
        if let ProxyMessage::Ask { account, call, details, .. } = scene.hand.hear().await {
            scene.hand.grant(Asked { account, call }, 1).await;
            break details.credits;
        }
    };
    assert_eq!(call.await.unwrap().status, 200);
    let (end, usage) = scene.ended().await;
    (asked, end, usage)
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_are_told_as_the_request_and_the_answer_say() {
    const TWO: &str = r#"{"details":[{},{}],"user":"~end~"}"#;
    const NONE: &str = r#"{"user":"~end~"}"#;
    let seen = |credits| Some(TokenUsage { credits: Some(credits), exact: true, ..TokenUsage::default() });
    let told = credits(TWO, Answer::json(r#"{"cost": 7}"#)).await;
    assert_eq!(told, (20, CallEnd::Seen, seen(7)));
    let in_header = Answer::chunked("content-type: text/csv\r\nx-cost: 6", &[b"a,b"]);
    assert_eq!(credits(NONE, in_header).await, (40, CallEnd::Seen, seen(6)));
    for silent in [r#"{"cost": -7}"#, r#"{"cost": "free"}"#, r#"{"cost": 1e15}"#, "{}", "no json"] {
        assert_eq!(credits(TWO, Answer::json(silent)).await, (20, CallEnd::Seen, None), "{silent}");
    }
}

/// The usage that is told of a call with this answer, and how it ended.
async fn used(
    provider: &str,
    path: &'static str,
    body: &'static str,
    answer: Answer,
) -> (CallEnd, TokenUsage) {
    let mut scene = scene(provider, world::plenty_of_tokens(), answer).await;
    let call = scene.send(path, body);
    scene.grant().await;
    assert_eq!(call.await.unwrap().status, 200);
    let (end, usage) = scene.ended().await;
    (end, usage.unwrap())
}

fn exact(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input, output, exact: true, ..TokenUsage::default() }
}

const EVENTS: &str = "content-type: text/event-stream";
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[],"user":"~end~"}"#;
const START: &str =
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hello there, this is text of some length.\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\ndata: [DONE]\n\n";
const CHAT_ANSWER: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;

fn gzipped(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_answer_tells_what_it_has_cost() {
    let embed = r#"{"model":"text-embedding-3-small","input":"Hello","user":"~end~"}"#;
    let embedded = r#"{"data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let response = r#"{"output":[{"content":[{"text":"Hi"}]}],"usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}"#;
    let message = r#"{"model":"claude-haiku-4-5","max_tokens":99,"messages":[],"user":"~end~"}"#;
    let reply = r#"{"content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":20,"cache_read_input_tokens":300,"output_tokens":5}}"#;
    let compressed = gzipped(CHAT_ANSWER);
    let json_gzip = "content-type: application/json\r\ncontent-encoding: gzip";
    let stream = [START, USAGE].concat();
    let (first, second) = stream.as_bytes().split_at(stream.len() - 40);
    let cached = TokenUsage { cached: 300, ..exact(320, 5) };
    for (provider, path, body, answer, usage) in [
        ("openai", CHAT, HELLO, Answer::json(CHAT_ANSWER), exact(9, 12)),
        (
            "openai",
            CHAT,
            HELLO,
            Answer::chunked(json_gzip, &[&compressed[..20], &compressed[20..]]),
            exact(9, 12),
        ),
        ("openai", CHAT, STREAM, Answer::chunked(EVENTS, &[first, second]), exact(19, 10)),
        ("openai", "/openai/v1/responses", HELLO, Answer::json(response), exact(36, 87)),
        ("openai", "/openai/v1/embeddings", embed, Answer::json(embedded), exact(8, 0)),
        ("anthropic", "/anthropic/v1/messages", message, Answer::json(reply), cached),
    ] {
        assert_eq!(used(provider, path, body, answer).await, (CallEnd::Seen, usage), "{provider} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_usage_no_less_is_told_than_was_seen() {
    let text = r#"{"choices":[{"message":{"content":"Hello there"}}]}"#;
    let bad = r#"{"choices":[{"message":{"content":"Hello there"}}],"usage":{"prompt_tokens":-4,"completion_tokens":3}}"#;
    let absurd = r#"{"choices":[{"message":{"content":"Hello there"}}],"usage":{"prompt_tokens":4,"completion_tokens":9000000000000000000}}"#;
    for (body, answer) in [
        (HELLO, Answer::json(text)),
        (HELLO, Answer::json(bad)),
        (HELLO, Answer::json(absurd)),
        (STREAM, Answer::chunked(EVENTS, &[START.as_bytes(), b"data: [DONE]\n\n"])),
    ] {
        let (end, usage) = used("openai", CHAT, body, answer.clone()).await;
        assert_eq!((end, usage.exact), (CallEnd::Seen, false));
        let least = if body == HELLO { "Hello there".len() } else { 41 };
        assert!((least as u64..1000).contains(&usage.output), "{usage:?}");
        assert!((5..1000).contains(&usage.input), "{usage:?}");
    }
}

/// What is not told costs no less than was held: people are told of it, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_tell_its_cost_is_reported_and_counted() {
    let whole = |usage: &str| {
        Answer::json(&format!(r#"{{"choices":[{{"message":{{"content":"Hi"}}}}],"usage":{usage}}}"#))
    };
    let json = "content-type: application/json\r\ncontent-encoding";
    let lzma = Answer::chunked(&format!("{json}: lzma"), &[b"?"]);
    let absurd = r#"{"prompt_tokens":4,"completion_tokens":9000000000000000000}"#;
    for (answer, reason, words) in [
        (whole("{}"), "Absent", "does not say what it has cost; if it should, correct `tokens.usage` or"),
        (
            whole(r#"{"prompt_tokens":-4}"#),
            "Unreadable",
            "says what it has cost by something that is no such",
        ),
        (whole(r#"{"prompt_tokens":"1e99"}"#), "Unreadable", "says what it has cost by something that is no"),
        (
            whole(absurd),
            "Absurd",
            "tells more tokens than its model can read and write; correct `contextTokens`",
        ),
        (lzma, "UnknownEncoding", "is compressed in a way that is not read; let the client accept gzip,"),
    ] {
        let mut scene = scene("openai", world::plenty_of_tokens(), answer).await;
        let calls = [scene.send(CHAT, HELLO), scene.send(CHAT, HELLO)];
        scene.grant().await;
        let notice = loop {
            match scene.hand.hear().await {
                ProxyMessage::Ask { account, call, .. } => scene.hand.grant(Asked { account, call }, 1).await,
                ProxyMessage::Notice { notice, .. } => break notice,
                _ => {}
            }
        };
        let begin = "POST *: its answer ";
        assert!(notice.detail.starts_with(&format!("{begin}{words}")), "{}", notice.detail);
        assert_eq!(notice.kind, NoticeKind::UnknownCost);
        scene.ended().await;
        // The other one may still wait.
        for call in calls {
            call.abort();
        }
        let line =
            format!(r#"quotakeeper_proxy_missing_usages_total{{quota="gtm/openai",reason="{reason}"}} "#);
        let metrics = scene.proxy.metrics_text();
        assert!(metrics.lines().any(|found| found.starts_with(&line)), "{line} in\n{metrics}");
    }
}

/// A client that does not ask for the usage of its stream doesn't get it, but the provider is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_its_usage_though_its_client_did_not_ask() {
    let plain = r#"{"model":"gpt-4o","stream":true,"messages":[],"user":"~end~"}"#;
    let declined =
        r#"{"stream_options":{"include_usage":false},"stream":true,"model":"gpt-4o","user":"~end~"}"#;
    let stream = [START, USAGE].concat();
    let (first, second) = stream.as_bytes().split_at(stream.len() - 40);
    let without = format!("{START}data: [DONE]\n\n");
    for (name, value, body, asked, gets) in [
        ("accept", "*/*", plain, true, without.as_str()),
        ("accept", "*/*", STREAM, false, &stream),
        ("accept", "*/*", declined, false, &stream),
        ("content-digest", "sha-256=:AAAA:", plain, false, &stream),
    ] {
        let answer = Answer::chunked(EVENTS, &[first, second]);
        let (mut scene, requests) = scene_seen("openai", world::plenty_of_tokens(), answer).await;
        let mut request = client::request("POST", CHAT, body);
        request.headers_mut().insert(name, value.parse().unwrap());
        let address = scene.proxy.base_url_addr();
        let call = tokio::spawn(async move { client::send(address, request).await });
        scene.grant().await;
        assert_eq!(call.await.unwrap().text(), gets, "{body}");
        assert_eq!(scene.ended().await, (CallEnd::Seen, Some(exact(19, 10))), "{body}");
        let seen = requests.lock().unwrap().clone();
        let sent = String::from_utf8(seen).unwrap();
        let sent = sent.split_once("\r\n\r\n").unwrap().1;
        let wanted = body.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        assert_eq!(sent, if asked { wanted.as_str() } else { body });
    }
}

/// A provider may go on when its client is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_in_a_stream_is_a_loss_of_what_was_seen() {
    let mut answer = Answer::chunked(EVENTS, &[START.as_bytes()]);
    // The end never comes.
    answer.parts.pop();
    let mut scene = scene("openai", world::plenty_of_tokens(), answer).await;
    let address = scene.proxy.base_url_addr();
    let call = tokio::spawn(async move {
        let mut connection = client::Client::http1(address).await;
        let mut answer = connection.begin(client::request("POST", CHAT, STREAM)).await.unwrap();
        let _first = http_body_util::BodyExt::frame(answer.body_mut()).await.unwrap().unwrap();
        // Until the test hangs up.
        std::future::pending::<()>().await;
    });
    scene.grant().await;
    // Heartbeats tell the progress meanwhile.
    let produced = loop {
        if let ProxyMessage::Heartbeat { produced } = scene.hand.hear().await {
            break produced;
        }
    };
    assert!((20..100).contains(&produced[0].output), "{produced:?}");
    call.abort();
    let (end, usage) = scene.ended().await;
    let usage = usage.unwrap();
    assert_eq!((end, usage.exact, usage.output), (CallEnd::Lost, false, produced[0].output));
}

/// Nothing follows a stream's last event: a client that hangs up then has all of it, and its use is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_after_the_last_event_is_an_end_that_was_seen() {
    let response = "event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":19,\"output_tokens\":10,\"total_tokens\":29}}}\n\n";
    let delta = "event: message_delta\ndata: {\"usage\":{\"input_tokens\":19,\"output_tokens\":10}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for (provider, path, first, last, end) in [
        ("openai", CHAT, START, USAGE, CallEnd::Seen),
        ("openai", "/openai/v1/responses", "", response, CallEnd::Seen),
        ("anthropic", "/anthropic/v1/messages", delta, stop, CallEnd::Seen),
        ("anthropic", "/anthropic/v1/messages", delta, ": message_stop\n\n", CallEnd::Lost),
    ] {
        let mut answer = Answer::chunked(EVENTS, &[&[first, last].concat().into_bytes()]);
        // The last chunk never comes.
        answer.parts.pop();
        let mut scene = scene(provider, world::plenty_of_tokens(), answer).await;
        let address = scene.proxy.base_url_addr();
        let call = tokio::spawn(async move {
            let mut connection = client::Client::http1(address).await;
            let mut answer = connection.begin(client::request("POST", path, STREAM)).await.unwrap();
            let mut read = 0;
            while read < first.len() + last.len() {
                let frame = http_body_util::BodyExt::frame(answer.body_mut()).await.unwrap().unwrap();
                read += frame.data_ref().map_or(0, |data| data.len());
            }
        });
        scene.grant().await;
        call.await.unwrap();
        let expected = (end, end == CallEnd::Seen, 10);
        let (end, usage) = scene.ended().await;
        let usage = usage.unwrap();
        assert_eq!((end, usage.exact, usage.output), expected, "{provider} {path}: {usage:?}");
    }
}

/// Nothing is produced for a request that the provider refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_costs_nothing() {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";
    let answer = Answer { parts: vec![head.into(), b"{}".to_vec()], closes: false };
    let mut scene = scene("openai", world::plenty_of_tokens(), answer).await;
    let call = scene.send(CHAT, HELLO);
    scene.grant().await;
    assert_eq!(call.await.unwrap().status, 400);
    assert_eq!(scene.ended().await, (CallEnd::Seen, Some(exact(0, 0))));
}

/// The answer tells what the response has cost when it was made, not what reading it costs.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_an_old_answer_is_not_charged_for_it() {
    let stored =
        r#"{"status":"completed","usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}"#;
    let counted = "{\"input\":\"Hello\",\"model\":\"gpt-4o\",\"user\":\"~end~\"}";
    let path = "/openai/v1/responses/input_tokens";
    assert_eq!(used("openai", path, counted, Answer::json(stored)).await, (CallEnd::Seen, exact(0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_seen_only_where_the_framing_says_so() {
    let fields = "content-type: text/plain";
    let whole = Answer::chunked(fields, &[b"one", b"two"]);
    let mut cut = whole.clone();
    cut.parts.pop();
    let broken = Answer { closes: true, ..cut };
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").into_bytes();
    let until_closed = Answer { parts: vec![head, b"onetwo".to_vec()], closes: true };
    for (answer, end) in [
        (whole, CallEnd::Seen),
        (Answer::json("onetwo"), CallEnd::Seen),
        (broken, CallEnd::Lost),
        (until_closed, CallEnd::Lost),
    ] {
        let parts = answer.parts.len();
        let mut scene = scene("openai", world::plenty(), answer).await;
        let address = scene.proxy.base_url_addr();
        let call = tokio::spawn(async move {
            let mut connection = client::Client::http1(address).await;
            // It may break off before its head has left the proxy.
            if let Ok(answer) = connection.begin(client::request("POST", CHAT, HELLO)).await {
                let _cut = http_body_util::BodyExt::collect(answer.into_body()).await;
            }
        });
        scene.grant().await;
        call.await.unwrap();
        assert_eq!(scene.ended().await.0, end, "{parts} parts");
    }
}
