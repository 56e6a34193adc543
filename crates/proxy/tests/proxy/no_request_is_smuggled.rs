//! Requests that servers read differently: whatever bytes come, the provider reads no request that the proxy has not
//! counted as a call. The corpora have the shapes of RFC 9112 §11.2, of RFC 9113 §10.3, and of what is known of other
//! proxies: over the base URL, plain HTTP, TLS, and HTTP/2 that a provider of HTTP/1.1 is reached by.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use quotakeeper_proxy::{HostsListeners, Proxy};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use test_support::certificates::Ca;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{limiter, world};

const HOST: &str = "api.hubapi.com";

/// What stands where a body is, or may be taken for one.
const SECOND: &str = "GET @/second HTTP/1.1\r\nhost: api.hubapi.com\r\n\r\n";

/// Headers after the first line, and what follows the head. `@` stands for the beginning of a door's paths, `&` for
/// [`SECOND`].
const CORPUS: [(&str, &str); 34] = [
    ("content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\ncontent-length: 60\r\n", "0\r\n\r\n&"),
    ("content-length: 0\r\ncontent-length: 46\r\n", "&"),
    ("content-length: 0, 46\r\n", "&"),
    ("content-length: 46, 46\r\n", "&"),
    ("content-length: +0\r\n", "&"),
    ("content-length: 0x10\r\n", "&"),
    ("content-length: -1\r\n", "&"),
    ("content-length: 00\r\n", "&"),
    ("content-length: 18446744073709551616\r\n", "&"),
    ("content-length : 46\r\n", "&"),
    ("content-length\t: 46\r\n", "&"),
    (" content-length: 46\r\n", "&"),
    ("x: y\r\n content-length: 46\r\n", "&"),
    ("x: y\r\n\tcontent-length: 46\r\n", "&"),
    ("content-length: \r\n", "&"),
    ("transfer-encoding: xchunked\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: identity\r\ncontent-length: 0\r\n", "&"),
    ("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n&"),
    ("transfer-encoding:\x0bchunked\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n&"),
    ("transfer-encoding : chunked\r\n", "0\r\n\r\n&"),
    ("x: y\ntransfer-encoding: chunked\r\n", "0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\n", "0\r\n&\r\n"),
    ("transfer-encoding: chunked\r\n", "0\n\n&"),
    ("transfer-encoding: chunked\r\n", "2;x=\n\r\nab\r\n0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\n", "0_2\r\nab\r\n0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\n", "ffffffffffffffff2\r\nab\r\n0\r\n\r\n&"),
    ("transfer-encoding: chunked\r\n", "2\r\nabX\r\n0\r\n\r\n&"),
    ("connection: content-length\r\ncontent-length: 46\r\n", "&"),
    ("connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n&"),
];

/// Targets that a provider has read.
type Read = Arc<Mutex<Vec<String>>>;

/// A provider of HTTP/1.1, without TLS and with it.
struct Upstream {
    read: Read,
    http: TcpListener,
    https: TcpListener,
    acceptor: TlsAcceptor,
}

impl Upstream {
    async fn new(ca: &Ca) -> Self {
        let leaf = ca.issue(HOST);
        let chain = vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (http, https) = (world::socket().await.0, world::socket().await.0);
        Self { read: Read::default(), http, https, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Serves until the test ends.
    fn start(self) {
        let (read, acceptor) = (Arc::clone(&self.read), self.acceptor);
        tokio::spawn(async move {
            while let Ok((socket, _)) = self.https.accept().await {
                let (read, acceptor) = (Arc::clone(&read), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        serve(read, stream).await;
                    }
                });
            }
        });
        tokio::spawn(async move {
            while let Ok((socket, _)) = self.http.accept().await {
                tokio::spawn(serve(Arc::clone(&self.read), socket));
            }
        });
    }
}

async fn serve(read: Read, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        read.lock().unwrap().push(request.uri().to_string());
        async move {
            let _whole = request.into_body().collect().await;
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ended = serving.await;
}

/// Sends bytes in pieces, waits so long for the first of an answer, ends its side, and reads what comes. A client of TLS
/// that ends its side has hung up.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
    piece: usize,
    patience: Duration,
) {
    for part in bytes.chunks(piece) {
        if stream.write_all(part).await.is_err() {
            break;
        }
        let _sent = stream.flush().await;
    }
    let mut answer = Vec::new();
    let _begun = timeout(patience, stream.read_buf(&mut answer)).await;
    let _closed = stream.shutdown().await;
    let _end = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
}

async fn plain(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn tls(proxy: &Proxy, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(proxy.root_pem().unwrap().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = plain(proxy.https_addrs()[0]).await;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap()
}

async fn proxied() -> (Read, Proxy) {
    let ca = Ca::new();
    let upstream = Upstream::new(&ca).await;
    let (http, https) = (upstream.http.local_addr().unwrap(), upstream.https.local_addr().unwrap());
    let quota = world::plenty();
    let accounts = vec![
        world::account("demo", Some(format!("http://{http}")), quota.clone()),
        world::account("hubspot", None, quota.clone()),
    ];
    let mut settings = world::settings(accounts);
    settings.hosts = Some(HostsListeners { https: vec![world::free()], http: vec![world::free()] });
    settings.extra_cas = vec![ca.pem()];
    settings.resolve =
        vec![format!("{HOST}:80:{http}").parse().unwrap(), format!("{HOST}:443:{https}").parse().unwrap()];
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota.clone(), quota]);
    let read = Arc::clone(&upstream.read);
    upstream.start();
    (read, proxy)
}

/// What was read is what was counted, and nothing but the two good calls.
fn nothing_is_smuggled(proxy: &Proxy, read: &Read) {
    let read = read.lock().unwrap();
    assert_eq!(usize::try_from(proxy.stats().sent).unwrap(), read.len(), "{read:?}");
    assert!(read.iter().all(|target| target.ends_with("first") || target.ends_with("second")), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_reads_no_request_that_is_not_counted() {
    let (read, proxy) = proxied().await;
    let doors = [(Some(proxy.base_url_addr()), "/demo"), (Some(proxy.http_addrs()[0]), ""), (None, "")];
    for (address, begin) in doors {
        let send = async |bytes: String, piece: usize, patience: Duration| match address {
            Some(address) => exchange(plain(address).await, bytes.as_bytes(), piece, Duration::ZERO).await,
            None => exchange(tls(&proxy, "http/1.1").await, bytes.as_bytes(), piece, patience).await,
        };
        for (headers, body) in CORPUS {
            let head = format!("POST {begin}/first HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n");
            let bytes = (head + body).replace('&', SECOND).replace('@', begin);
            for piece in [bytes.len(), 3] {
                // Many wait for more of their body.
                send(bytes.clone(), piece, Duration::from_millis(200)).await;
            }
        }
        let before = read.lock().unwrap().len();
        send(SECOND.replace('@', begin), 7, Duration::from_secs(60)).await;
        assert!(
            read.lock().unwrap()[before..].iter().any(|target| target.ends_with("second")),
            "a good call"
        );
    }
    nothing_is_smuggled(&proxy, &read);
}

/// Fields of a request of HTTP/2 beside `:scheme`, and its data. Written into HTTP/1.1 as they are, each would make
/// another request of the rest. `&` stands for [`SECOND`], `@` for nothing.
const HTTP2_CORPUS: [(&[(&str, &str)], &str); 18] = [
    (&[(":method", "POST"), (":path", "/first"), (":authority", HOST), ("content-length", "0")], "&"),
    (
        &[(":method", "POST"), (":path", "/first"), (":authority", HOST), ("content-length", "4")],
        "0\r\n\r\n&",
    ),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("content-length", "0"),
            ("content-length", "46"),
        ],
        "&",
    ),
    (
        &[(":method", "POST"), (":path", "/first"), (":authority", HOST), ("transfer-encoding", "chunked")],
        "0\r\n\r\n&",
    ),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("x", "y\r\ntransfer-encoding: chunked"),
        ],
        "0\r\n\r\n&",
    ),
    (&[(":method", "POST"), (":path", "/first"), (":authority", HOST), ("x", "y\r\n\r\n&")], ""),
    (&[(":method", "POST"), (":path", "/first"), (":authority", HOST), ("x", "y\n\n&")], ""),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("x: y\r\ntransfer-encoding", "chunked"),
        ],
        "0\r\n\r\n&",
    ),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("transfer-encoding:chunked\r\nx", "y"),
        ],
        "0\r\n\r\n&",
    ),
    (
        &[(":method", "POST"), (":path", "/first"), (":authority", HOST), ("Transfer-Encoding", "chunked")],
        "0\r\n\r\n&",
    ),
    (&[(":method", "POST"), (":path", "/first HTTP/1.1\r\n\r\n&"), (":authority", HOST)], ""),
    (
        &[
            (":method", "POST"),
            (":path", "/first HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: "),
            (":authority", HOST),
        ],
        "0\r\n\r\n&",
    ),
    (&[(":method", "GET /first HTTP/1.1\r\n\r\nGET"), (":path", "/second"), (":authority", HOST)], ""),
    (&[(":method", "POST"), (":path", "/first"), (":authority", "api.hubapi.com\r\n\r\n&")], ""),
    (&[(":method", "POST"), (":path", "/first"), (":path", "/second"), (":authority", HOST)], ""),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("connection", "content-length"),
            ("content-length", "0"),
        ],
        "&",
    ),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("upgrade", "h2c"),
            ("content-length", "0"),
        ],
        "&",
    ),
    (
        &[
            (":method", "POST"),
            (":path", "/first"),
            (":authority", HOST),
            ("host", "other.example"),
            ("te", "chunked"),
        ],
        "&",
    ),
];

/// A frame (RFC 9113 §4.1) of the first stream, or of the connection for SETTINGS.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = u8::from(kind != SETTINGS);
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A literal field without indexing (RFC 7541 §6.2.2), whatever bytes it has: libraries would refuse to write it.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = match text.len() {
            short @ 0..127 => vec![short as u8],
            long => vec![127, (long - 127) as u8],
        };
        bytes.extend(text.as_bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

fn http2_request(fields: &[(&str, &str)], data: &str) -> Vec<u8> {
    let filled = |text: &str| text.replace('&', SECOND).replace('@', "");
    let mut block = field(":scheme", "https");
    for (name, value) in fields {
        block.extend(field(&filled(name), &filled(value)));
    }
    let data = filled(data);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, &[]));
    let ends = if data.is_empty() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | ends, &block));
    if !data.is_empty() {
        bytes.extend(frame(DATA, END_STREAM, data.as_bytes()));
    }
    bytes
}

/// Sends the bytes and reads until the stream has ended, its answer was reset, or nothing more comes.
async fn exchange_http2(proxy: &Proxy, bytes: &[u8], piece: usize) {
    let mut stream = tls(proxy, "h2").await;
    for part in bytes.chunks(piece) {
        if stream.write_all(part).await.is_err() {
            break;
        }
        let _sent = stream.flush().await;
    }
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    // Its SETTINGS come at once; what it says of the request is the first frame of a stream.
    for _ in 0..4 {
        match timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => write!(answer, "{}", buffer[..read].escape_ascii()).unwrap(),
            _ => break,
        }
    }
    assert!(!answer.is_empty(), "it speaks HTTP/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_written_into_http1_as_one_request() {
    let (read, proxy) = proxied().await;
    let good = [(":method", "POST"), (":path", "/second"), (":authority", HOST)];
    exchange_http2(&proxy, &http2_request(&good, "good"), usize::MAX).await;
    assert_eq!(read.lock().unwrap()[..], ["/second".to_owned()], "a good call arrives");
    for (fields, data) in HTTP2_CORPUS {
        let bytes = http2_request(fields, data);
        for piece in [bytes.len(), 5] {
            exchange_http2(&proxy, &bytes, piece).await;
        }
    }
    nothing_is_smuggled(&proxy, &read);
    let read = read.lock().unwrap();
    assert_eq!(read.iter().filter(|target| target.ends_with("second")).count(), 1, "{read:?}");
}
