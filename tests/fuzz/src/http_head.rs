//! A client's connection. The proxy checks each head before its HTTP library reads it: both must see the same requests,
//! or one of them is smuggled past the other.

use std::cell::LazyCell;

use quotakeeper_proxy::fuzzing;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: LazyCell<Runtime> = LazyCell::new(|| {
        Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| panic!("{error}"))
    });
}

/// The first byte says how the others are cut into pieces.
pub fn read(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = fuzzing::checked(bytes, bytes.len().max(1));
    assert_eq!(fuzzing::checked(bytes, usize::from(*piece).max(1)), whole, "it matters where reads end");
    let served = RUNTIME.with(|runtime| runtime.block_on(fuzzing::serve(bytes)));
    if whole.is_http2 {
        return;
    }
    assert!(served.read <= whole.passed, "the library has read {} of {} requests", served.read, whole.passed);
    let answers = String::from_utf8_lossy(&served.answers);
    let refused = answers.split("HTTP/1.1 ").filter(|head| head.starts_with('4') || head.starts_with('5'));
    for head in refused {
        assert!(head.contains("x-quotakeeper-reason"), "a bare error: {answers}");
    }
}

const REQUESTS: [&[u8]; 9] = [
    b"GET /a?b=c HTTP/1.1\r\nhost: proxy\r\naccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost: proxy\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n",
    b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nx-sum: 1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    b"POST /a HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    b"POST /a HTTP/1.1\r\nexpect: 100-continue\r\nconnection: close, x\r\ncontent-length: 1\r\n\r\na",
    b"GET /q?a=b c<d HTTP/1.1\nhost: a\n\n",
    b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\nCONNECT a:443 HTTP/1.1\r\n\r\n",
    b"GET http://a.example/b HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\x82\x84\x86\x41",
];

pub fn seeds() -> Vec<Vec<u8>> {
    REQUESTS.iter().map(|request| [b"\x03", *request].concat()).collect()
}
