//! A plain client over each kind of connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use counting_provider::{CountedAs, Entry, Limit, Options, Provider, Rules, start};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire {
    H1,
    H2,
    TlsH1,
    TlsH2,
}

pub const WIRES: [Wire; 4] = [Wire::H1, Wire::H2, Wire::TlsH1, Wire::TlsH2];

pub enum Client {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    /// Connects as a client of `host` would.
    pub async fn connect(provider: &Provider, wire: Wire, host: &str) -> Self {
        match wire {
            Wire::H1 | Wire::H2 => {
                let stream = TcpStream::connect(provider.http().unwrap()).await.unwrap();
                Self::over(stream, wire == Wire::H2).await
            }
            Wire::TlsH1 | Wire::TlsH2 => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(provider.ca_pem().as_bytes()).unwrap()).unwrap();
                let ring = Arc::new(rustls::crypto::ring::default_provider());
                let mut config = ClientConfig::builder_with_provider(ring)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                let protocol: &[u8] = if wire == Wire::TlsH2 { b"h2" } else { b"http/1.1" };
                config.alpn_protocols = vec![protocol.to_vec()];
                let stream = TcpStream::connect(provider.https().unwrap()).await.unwrap();
                let name = ServerName::try_from(host.to_owned()).unwrap();
                let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
                Self::over(stream, wire == Wire::TlsH2).await
            }
        }
    }

    /// Connects in cleartext with HTTP/1.1.
    pub async fn plain(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), false).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, h2: bool) -> Self {
        let io = TokioIo::new(stream);
        if h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::H2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::H1(sender)
        }
    }

    /// Sends a request and returns as soon as the answer's head is there.
    pub async fn begin(&mut self, mut request: Request<String>) -> hyper::Result<http::Response<Incoming>> {
        let host = request.uri().authority().unwrap().to_string();
        match self {
            Self::H1(sender) => {
                // HTTP/1.1 has the path in its first line and the host in a header.
                *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
                request.headers_mut().insert("host", host.parse().unwrap());
                sender.ready().await?;
                sender.send_request(request.map(|body| Full::new(Bytes::from(body)))).await
            }
            Self::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request.map(|body| Full::new(Bytes::from(body)))).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<String>) -> hyper::Result<Answer> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        })
    }
}

pub fn get(host: &str, path: &str, key: &str) -> Request<String> {
    let request = Request::get(format!("http://{host}{path}"));
    request.header("authorization", format!("Bearer {key}")).body(String::new()).unwrap()
}

pub fn post(host: &str, path: &str, key: &str, body: &Value) -> Request<String> {
    let request = Request::post(format!("http://{host}{path}")).header("content-type", "application/json");
    request.header("authorization", format!("Bearer {key}")).body(body.to_string()).unwrap()
}

pub fn chat(key: &str, model: &str) -> Request<String> {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Whose turn is it?"}]});
    post("api.openai.com", "/v1/chat/completions", key, &body)
}

pub fn demo(key: &str) -> Request<String> {
    get("api.demo.example", "/anything/at/all", key)
}

pub fn sliding(count: u64, window_millis: u64) -> Limit {
    Limit::new("requests", count, window_millis, CountedAs::Sliding)
}

/// Long enough that no window ends in a test, however slow the machine.
pub const HOUR: u64 = 3_600_000;

pub fn limits(limits: Vec<Limit>) -> Rules {
    Rules { limits: Some(limits), ..Rules::default() }
}

pub async fn provider() -> Provider {
    start(Options::default()).await.unwrap()
}

/// Waits until the log says so; an account's log, since what is waited for happens after the client has its answer.
pub async fn until(provider: &Provider, account: &str, holds: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
    for _ in 0..3_000 {
        let log = provider.log(account);
        if holds(&log) {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after 30 s the log still says {:#?}", provider.log(account));
}
