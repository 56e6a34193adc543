//! Requests that servers read differently: whatever bytes come, the provider reads no request that the proxy has not
//! counted as a call. The corpus has the shapes of RFC 9112 §11.2 and of what is known of other proxies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use quotakeeper_proxy::{HostsListeners, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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

async fn provider() -> (Read, SocketAddr, String) {
    let (listener, url) = world::socket().await;
    let (read, address) = (Read::default(), listener.local_addr().unwrap());
    let notes = Arc::clone(&read);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let notes = Arc::clone(&notes);
            let service = service_fn(move |request: http::Request<Incoming>| {
                notes.lock().unwrap().push(request.uri().to_string());
                async move {
                    let _whole = request.into_body().collect().await;
                    Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
                }
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(serving);
        }
    });
    (read, address, url)
}

/// Sends bytes in pieces, ends its side, and reads what comes.
async fn exchange(address: SocketAddr, bytes: &[u8], piece: usize) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    for part in bytes.chunks(piece) {
        if socket.write_all(part).await.is_err() {
            break;
        }
    }
    let _closed = socket.shutdown().await;
    let mut answer = Vec::new();
    let _end = timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
}

async fn proxied() -> (Read, Proxy) {
    let (read, address, url) = provider().await;
    let quota = world::plenty();
    let accounts = vec![
        world::account("demo", Some(url), quota.clone()),
        world::account("hubspot", None, quota.clone()),
    ];
    let mut settings = world::settings(accounts);
    settings.hosts = Some(HostsListeners { https: Vec::new(), http: vec![world::free()] });
    settings.resolve = vec![format!("{HOST}:80:{address}").parse().unwrap()];
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota.clone(), quota]);
    (read, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_reads_no_request_that_is_not_counted() {
    let (read, proxy) = proxied().await;
    let doors = [(proxy.base_url_addr(), "/demo"), (proxy.http_addrs()[0], "")];
    for (address, begin) in doors {
        for (headers, body) in CORPUS {
            let head = format!("POST {begin}/first HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n");
            let bytes = (head + body).replace('&', SECOND).replace('@', begin);
            for piece in [bytes.len(), 3] {
                exchange(address, bytes.as_bytes(), piece).await;
            }
        }
        exchange(address, SECOND.replace('@', begin).as_bytes(), 7).await;
    }
    let read = read.lock().unwrap();
    assert!(read.iter().any(|target| target.ends_with("second")), "a good call arrives");
    assert_eq!(usize::try_from(proxy.stats().sent).unwrap(), read.len(), "{read:?}");
    assert!(read.iter().all(|target| target.ends_with("first") || target.ends_with("second")), "{read:?}");
}
