#![allow(clippy::unwrap_used)]
use super::*;

/// What the library sees when the bytes come in pieces of `piece` bytes, partly through the direct way of bodies.
fn seen(input: &[u8], piece: usize) -> (Vec<u8>, Requests) {
    let (mut requests, mut out) = (Requests::default(), Vec::new());
    for part in input.chunks(piece) {
        let direct = usize::try_from(requests.unread()).unwrap_or(usize::MAX).min(part.len());
        out.extend_from_slice(&part[..direct]);
        requests.passed(direct as u64);
        requests.read(&part[direct..], &mut out);
    }
    (out, requests)
}

const REQUESTS: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /b HTTP/1.1\r\ncontent-length: 30\r\n\r\nGET /<not a head> HTTP/1.1\r\n\r\n",
    b"POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
      1e;ext=\x85\r\nGET /<not a head> HTTP/1.1\r\n\r\n\r\n0\r\nx-sum: <1>\r\n\r\n",
    b"POST /d HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /e HTTP/1.0\n\n",
];

#[test]
fn readable_requests_pass_unchanged_however_they_are_cut() {
    // A line end without carriage return is given one.
    let whole = REQUESTS.concat();
    let expected = [&REQUESTS[..4].concat()[..], b"GET /e HTTP/1.0\r\n\n"].concat();
    for piece in 1..=whole.len() {
        let (out, requests) = seen(&whole, piece);
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{piece}");
        assert!(requests.turned_away.is_none());
        assert_eq!(requests.heads, 5);
    }
}

#[test]
fn the_number_says_which_request_is_turned_away() {
    let input = [REQUESTS[1], REQUESTS[2], b"GET / HTTP/9\r\n\r\n", REQUESTS[0]].concat();
    for piece in [1, 7, input.len()] {
        let (out, requests) = seen(&input, piece);
        assert_eq!(requests.turned_away.unwrap().number, 3);
        assert!(out.ends_with(PLACEHOLDER), "nothing follows");
    }
}

#[test]
fn a_head_without_end_is_read_to_its_end_before_it_is_answered() {
    for (head, status) in [
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(200_000)), 414),
        (format!("GET / HTTP/1.1\r\ncookie: {}\r\n\r\n", "x".repeat(200_000)), 431),
    ] {
        let (out, requests) = seen(&head.as_bytes()[..head.len() - 1], 4096);
        assert!(out.is_empty() && requests.turned_away.is_none());
        let (out, requests) = seen(head.as_bytes(), 4096);
        assert_eq!(out, PLACEHOLDER);
        assert_eq!(requests.turned_away.unwrap().answer.status.as_u16(), status);
    }
}

#[test]
fn http2_passes_unread() {
    let (out, requests) = seen(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0<>", 3);
    assert_eq!(out, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0<>");
    assert_eq!(requests.heads, 0);
}

#[test]
fn nothing_passes_after_framing_that_cannot_be_read() {
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let long = [&b"0\r\n"[..], &b"x-a: 0123456789\r\n".repeat(1000)].concat();
    for body in [
        &b"2\r\nab\r\nxyz\r\n"[..],
        b"2\r\nabc\r\n",
        b"2\r\nab\n",
        b"+2\r\nab\r\n",
        b" 2\r\nab\r\n",
        b"2 2\r\n",
        b"\r\n",
        b"2\n",
        b"2;a=\n",
        b"2;a=\rb\r\n",
        b"0\r\nx-sum: 1\x8d\n",
        b"0\r\nx-sum: 1\rx\r\n",
        b"0\r\n\n",
        &long,
    ] {
        let input = [head, body, REQUESTS[0]].concat();
        for piece in [1, 7, input.len()] {
            let (out, requests) = seen(&input, piece);
            assert!(requests.is_broken(), "{} in pieces of {piece}", body.escape_ascii());
            assert_eq!(requests.heads, 1);
            let passed = out.escape_ascii().to_string();
            assert!(passed.len() <= [head, body].concat().escape_ascii().to_string().len(), "{passed}");
        }
    }
}
