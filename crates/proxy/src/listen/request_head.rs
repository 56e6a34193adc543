//! The head of an HTTP/1.1 request, made readable for the HTTP library or turned away with an answer that says what
//! is wrong with it: the library alone answers with a bare 400, without body, log or count.
//!
//! Servers, and the clients that talk to them, are more lenient with a request's target than the library. What it
//! does not take is percent-encoded as the URL Standard (<https://url.spec.whatwg.org/#percent-encoded-bytes>) has
//! browsers do it; every other byte stays as it was sent.

use std::fmt::Write;

use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use httparse::{EMPTY_HEADER, Error, Status};

use crate::local_response::LocalResponse;

/// The longest head, in bytes: what the HTTP library buffers of one, with room for a word more.
pub(super) const LONGEST: usize = 63 * 1024;
/// The longest target after encoding, in bytes: the library's URLs have at most 65,534 with scheme and host.
const LONGEST_TARGET: usize = 60 * 1024;
/// The most headers.
pub(super) const MOST_HEADERS: usize = 256;

/// How the body that follows a head is framed (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes follow, often none.
    Length(u64),
    Chunked,
}

/// A head that the HTTP library takes.
#[derive(Debug)]
pub(super) struct Readable {
    pub(super) head: Vec<u8>,
    pub(super) framing: Framing,
    /// Whether it is of HTTP/1.1, not HTTP/1.0.
    pub(super) http_11: bool,
}

/// Makes a head, from the request line to the empty line, readable.
///
/// # Errors
/// The answer to a head that stays unreadable.
pub(super) fn readable(head: &[u8]) -> Result<Readable, LocalResponse> {
    let line_end = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    let (line, rest) = head.split_at(line_end);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut head = encoded(line);
    head.push(b'\r');
    head.extend_from_slice(rest);
    let http_11 = line.ends_with(b" HTTP/1.1");
    let framing = check(&head)?;
    Ok(Readable { head, framing, http_11 })
}

/// The answer to a head of more than [`LONGEST`] bytes, of which `beginning` has come.
pub(super) fn too_long(beginning: &[u8]) -> LocalResponse {
    if beginning.contains(&b'\n') { headers_too_large() } else { url_too_long() }
}

/// The request line with a target that the library takes. A line without target or version stays as it is.
fn encoded(line: &[u8]) -> Vec<u8> {
    let found = || {
        let begin = line.iter().position(|byte| *byte == b' ')? + 1;
        let end = line.iter().rposition(|byte| *byte == b' ')?;
        (begin < end && line[end..].starts_with(b" HTTP/")).then_some((begin, end))
    };
    let Some((begin, end)) = found() else { return line.to_vec() };
    let mut text = String::with_capacity(end - begin);
    let mut in_query = false;
    for byte in &line[begin..end] {
        in_query |= *byte == b'?';
        if is_encoded(*byte, in_query) {
            // Writing into a string does not fail.
            let _written = write!(text, "%{byte:02X}");
        } else {
            text.push(char::from(*byte));
        }
    }
    [&line[..begin], text.as_bytes(), &line[end..]].concat()
}

/// Whether a byte of a target is percent-encoded. A fragment's `#` has no meaning here: the library would cut the
/// target there.
fn is_encoded(byte: u8, in_query: bool) -> bool {
    match byte {
        0..=b' ' | 0x7F.. | b'"' | b'#' | b'<' | b'>' => true,
        b'`' => !in_query,
        _ => false,
    }
}

/// Whether the library takes the head, and what follows it.
fn check(head: &[u8]) -> Result<Framing, LocalResponse> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(unreadable("it ends too early")),
        Err(Error::TooManyHeaders) => return Err(headers_too_large()),
        Err(error) => return Err(unreadable(&located(head, error))),
    }
    let target = request.path.unwrap_or_default();
    if target.len() > LONGEST_TARGET {
        return Err(url_too_long());
    }
    if let Err(error) = target.parse::<Uri>() {
        return Err(unreadable(&format!("its target is no URL ({error})")));
    }
    let http_11 = request.version == Some(1);
    framing(http_11, request.headers)
}

/// What the headers say of the body, read as the library does.
fn framing(http_11: bool, headers: &[httparse::Header<'_>]) -> Result<Framing, LocalResponse> {
    let (mut length, mut chunked, mut coded) = (None, None, false);
    for field in headers {
        let named = |name: &HeaderName| field.name.eq_ignore_ascii_case(name.as_str());
        if HeaderValue::from_bytes(field.value).is_err() || field.name.parse::<HeaderName>().is_err() {
            return Err(unreadable(&format!("its header {} can't be read", field.name)));
        }
        if named(&header::TRANSFER_ENCODING) {
            let codings = String::from_utf8_lossy(field.value);
            // The library takes what stands behind the last comma for the last coding, also if that is nothing.
            let mut codings = codings.split(',').map(str::trim).rev();
            let is_last = codings.next().is_some_and(|last| last.eq_ignore_ascii_case("chunked"));
            coded |= codings.any(|coding| !coding.is_empty()) || chunked.is_some();
            chunked = Some(http_11 && is_last);
        } else if named(&header::CONTENT_LENGTH) && chunked.is_none() {
            let digits = std::str::from_utf8(field.value).ok().filter(|text| !text.starts_with('+'));
            let found =
                digits.and_then(|text| text.parse::<u64>().ok()).filter(|found| *found < u64::MAX - 2);
            if found.is_none() || length.is_some_and(|before| Some(before) != found) {
                return Err(unreadable("its Content-Length is no number, or there are two of them"));
            }
            length = found;
        }
    }
    match chunked {
        Some(true) if coded => Err(other_coding()),
        Some(true) => Ok(Framing::Chunked),
        Some(false) => Err(unreadable("its Transfer-Encoding does not end with chunked, or it is HTTP/1.0")),
        None => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// Where an unreadable head is wrong. Neither values nor unreadable names are shown: credentials may stand there.
fn located(head: &[u8], error: Error) -> String {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    for line in lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let Ok(named) = HeaderName::from_bytes(name) else {
            let wrong = name.iter().find(|byte| HeaderName::from_bytes(&[**byte]).is_err());
            let wrong = wrong.map_or("nothing".to_owned(), |byte| format!("the byte 0x{byte:02X}"));
            return format!("{wrong} stands in a header's name");
        };
        if let Some(byte) = value.iter().find(|byte| **byte < b' ' && **byte != b'\t' || **byte == 0x7F) {
            return format!("the byte 0x{byte:02X} stands in its header {named}");
        }
    }
    match error {
        Error::Version => "its version is not HTTP/1.0 or HTTP/1.1".to_owned(),
        Error::Token => "its method or target can't be read".to_owned(),
        other => format!("{other}"),
    }
}

fn unreadable(what: &str) -> LocalResponse {
    let message = format!("Quotakeeper's proxy can't read this request: {what}; mend the client's request");
    LocalResponse::new(StatusCode::BAD_REQUEST, "UnreadableRequest", message)
}

/// What is logged of a request of HTTP/2 that the library has reset: its client hears no more than that.
pub(super) fn reset() -> LocalResponse {
    unreadable(
        "it came by HTTP/2 and was reset, most often because bytes of its path are not percent-encoded (over HTTP/1.1 the \
         proxy encodes them)",
    )
}

/// A body that is coded for the transfer would have to be decoded here (RFC 9112 §6.1).
fn other_coding() -> LocalResponse {
    let message = "Quotakeeper's proxy knows no transfer coding but chunked: send Transfer-Encoding: chunked alone, and \
                   say by Content-Encoding how the body is compressed";
    LocalResponse::new(StatusCode::NOT_IMPLEMENTED, "UnknownTransferCoding", message.to_owned())
}

/// What is logged of a connection on which no request came.
pub(super) fn none_came() -> LocalResponse {
    let message = "Quotakeeper's proxy has ended a connection on which no request came".to_owned();
    LocalResponse::new(StatusCode::REQUEST_TIMEOUT, "NoRequest", message)
}

fn url_too_long() -> LocalResponse {
    let message = format!(
        "Quotakeeper's proxy takes URLs of up to {} KiB: send long parameters in a body",
        LONGEST_TARGET / 1024
    );
    LocalResponse::new(StatusCode::URI_TOO_LONG, "UrlTooLong", message)
}

fn headers_too_large() -> LocalResponse {
    let message = format!(
        "Quotakeeper's proxy takes up to {MOST_HEADERS} headers and {} KiB of them: send less",
        LONGEST / 1024
    );
    LocalResponse::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadersTooLarge", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(line: &[u8]) -> String {
        let head = [b"GET ", line, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        let text = String::from_utf8(readable(&head).unwrap().head).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }

    fn refusal(head: &[u8]) -> (u16, String) {
        let refused = readable(head).unwrap_err();
        (refused.status.as_u16(), refused.message)
    }

    #[test]
    fn targets_are_encoded_where_the_library_takes_no_raw_byte_and_nowhere_else() {
        for (sent, taken) in [
            (
                &b"/query?q=SELECT Id FROM A WHERE b<1 AND c>2"[..],
                "/query?q=SELECT%20Id%20FROM%20A%20WHERE%20b%3C1%20AND%20c%3E2",
            ),
            (b"/a\"b?c=\"d\"", "/a%22b?c=%22d%22"),
            (b"/caf\xe9?n=\xfc", "/caf%E9?n=%FC"),
            ("/é".as_bytes(), "/%C3%A9"),
            (b"/a`b?c`d", "/a%60b?c`d"),
            (b"/a\tb?c#d", "/a%09b?c%23d"),
            (b"/{a}|b^c?[d]&e='f'\\", "/{a}|b^c?[d]&e='f'\\"),
            (b"/a%20b%zz?c=%3C+d", "/a%20b%zz?c=%3C+d"),
        ] {
            assert_eq!(target(sent), taken, "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn an_unreadable_head_is_told_where_it_is_wrong() {
        for (head, status, says) in [
            (&b"GET / HTTP/1.1\r\nx-note: a\x01b\r\n\r\n"[..], 400, "0x01 stands in its header x-note"),
            (b"GET / HTTP/1.1\r\nx note: a\r\n\r\n", 400, "0x20 stands in a header's name"),
            (b"GET / HTTP/3.0\r\n\r\n", 400, "version"),
            (b"GET\r\n\r\n", 400, "method or target"),
            (b"POST / HTTP/1.1\r\ncontent-length: ten\r\n\r\n", 400, "Content-Length"),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400, "Transfer-Encoding"),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked,\r\n\r\n", 400, "Transfer-Encoding"),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501, "chunked alone"),
            (
                b"POST / HTTP/1.1\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n",
                501,
                "chunked alone",
            ),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n", 501, "chunked alone"),
        ] {
            let (found, message) = refusal(head);
            assert!(found == status && message.contains(says), "{}: {message}", head.escape_ascii());
        }
        let many = "x: y\r\n".repeat(MOST_HEADERS + 1);
        assert_eq!(refusal(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).0, 431);
        let long = "a".repeat(LONGEST_TARGET);
        assert_eq!(refusal(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()).0, 414);
    }

    #[test]
    fn the_body_is_framed_as_the_library_frames_it() {
        let framing =
            |headers: &str| readable(format!("POST / HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap().framing;
        assert_eq!(framing("host: a\r\n"), Framing::Length(0));
        assert_eq!(framing("Content-Length: 12\r\ncontent-length: 12\r\n"), Framing::Length(12));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Framing::Chunked);
        assert_eq!(framing("content-length: 3\r\ntransfer-encoding: chunked\r\n"), Framing::Chunked);
    }
}
