//! However an answer is framed and coded, a rejection in it means the same: found behind a large beginning too, sent
//! again, and paused for what it says.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use quotakeeper_proxy::Event;
use quotakeeper_wire::message::AccountUpdate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{client, limiter, world};

const BODY: &str = r#"{"messages":[],"model":"gpt-4o"}"#;
const ANSWERED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    fn encode(self, text: &[u8]) -> (&'static str, Vec<u8>) {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
        match self {
            Self::Identity => ("", text.to_vec()),
            Self::Gzip => {
                gzip.write_all(text).unwrap();
                ("content-encoding: gzip\r\n", gzip.finish().unwrap())
            }
            Self::Deflate => {
                deflate.write_all(text).unwrap();
                ("content-encoding: deflate\r\n", deflate.finish().unwrap())
            }
        }
    }
}

/// A rejection behind half a megabyte.
fn rejection() -> Vec<u8> {
    let before = "x".repeat(500_000);
    let error = r#"{"message":"Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 30000. Please try again in 700ms.","type":"tokens","code":"rate_limit_exceeded"}"#;
    format!(r#"{{"before":"{before}","error":{error}}}"#).into_bytes()
}

async fn read_request(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(BODY.as_bytes()) {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    socket
}

/// Rejects the first call in this form, and answers the second.
async fn provide(listener: TcpListener, framing: Framing, coding: Coding) {
    let mut socket = read_request(&listener).await;
    let (encoding, body) = coding.encode(&rejection());
    let framed = match framing {
        Framing::Length => format!("content-length: {}\r\n", body.len()),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::UntilClose => String::new(),
    };
    let head = format!(
        "HTTP/1.1 429 No\r\ncontent-type: application/json\r\nconnection: close\r\n{encoding}{framed}\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    match framing {
        Framing::Chunked => {
            for piece in body.chunks(4_001) {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                socket.write_all(&chunk).await.unwrap();
            }
            socket.write_all(b"0\r\n\r\n").await.unwrap();
        }
        Framing::Length | Framing::UntilClose => socket.write_all(&body).await.unwrap(),
    }
    socket.shutdown().await.unwrap();
    let mut socket = read_request(&listener).await;
    socket.write_all(ANSWERED).await.unwrap();
    socket.shutdown().await.unwrap();
}

/// What paused, and why.
async fn verdict(framing: Framing, coding: Coding) -> String {
    let (listener, url) = world::socket().await;
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("openai", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let mut events = proxy.subscribe();
    tokio::spawn(provide(listener, framing, coding));
    let request = client::request("POST", "/openai/v1/chat/completions", BODY);
    let got = client::send(proxy.base_url_addr(), request).await;
    assert_eq!((got.status.as_u16(), proxy.stats().forced), (200, 1), "{framing:?} {coding:?}");
    loop {
        if let Event::Quota { update: AccountUpdate::Paused { scope, reason, .. }, .. } =
            events.recv().await.unwrap()
        {
            return format!("{scope}: {reason}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_means_the_same_in_any_form() {
    let mut verdicts = JoinSet::new();
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
            verdicts.spawn(async move { (framing, coding, verdict(framing, coding).await) });
        }
    }
    for (framing, coding, verdict) in verdicts.join_all().await {
        assert_eq!(verdict, "limit tokens, model gpt-4o: rate_limit_exceeded", "{framing:?} {coding:?}");
    }
}
