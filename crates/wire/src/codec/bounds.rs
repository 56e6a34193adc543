//! How much a message may hold.
//!
//! A hello may be large, everything else is small. Two bytes on the wire can stand for a hundred
//! in memory, so the entries of a large hello are counted before they are decoded.

use std::borrow::Cow;

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, skip_field};

use super::DecodeError;
use crate::limiter::{MOST_CALLS, MOST_ENDED, MOST_QUOTAS};
use crate::printable::printable;

/// The most bytes of a hello.
pub const MOST_BYTES: usize = 8 << 20;
/// The most bytes of any other message to a limiter.
pub const MOST_WITHOUT_HELLO: usize = 64 << 10;
/// The most bytes of an account's document.
pub const MOST_DOCUMENT: usize = 512 << 10;
/// The most bytes of a message to a proxy: one that holds a document.
pub const MOST_TO_PROXY: usize = MOST_DOCUMENT + MOST_WITHOUT_HELLO;
/// The most bytes of a name: of a workload, a quota, a limit, an endpoint, a model.
pub const MOST_NAME: usize = 512;
/// The most bytes of a reason that a provider or a person gives.
pub const MOST_REASON: usize = 1024;
/// The most limits that one answer's headers may report.
pub const MOST_OBSERVATIONS: usize = 64;
/// The most answers that one heartbeat may say have grown.
pub const MOST_PRODUCED: usize = 1024;
/// The most capabilities that one end may name.
pub const MOST_CAPABILITIES: usize = 64;

/// Field numbers on the way from [`super::generated::ToLimiter`] to the lists of a hello.
const HELLO: u32 = 2;
const CAPABILITIES: [u32; 2] = [HELLO, 3];
const QUOTAS: [u32; 2] = [HELLO, 6];
const ENDED: [u32; 2] = [HELLO, 8];
const CALLS: [u32; 2] = [HELLO, 9];
const OBSERVATIONS: [u32; 4] = [HELLO, 8, 10, 2];

/// Checks a message to a limiter before it is decoded.
pub(super) fn check_to_limiter(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.len() <= MOST_WITHOUT_HELLO {
        return Ok(());
    }
    let most = if count(bytes, &[HELLO])? == 1 { MOST_BYTES } else { MOST_WITHOUT_HELLO };
    check_length(bytes, most)?;
    let lists: [(&[u32], &'static str, usize); 5] = [
        (&CAPABILITIES, "capabilities", MOST_CAPABILITIES),
        (&QUOTAS, "quotas", MOST_QUOTAS),
        (&CALLS, "calls", MOST_CALLS),
        (&ENDED, "ended attempts", MOST_ENDED),
        (&OBSERVATIONS, "observations of ended attempts", MOST_CALLS),
    ];
    for (path, what, most) in lists {
        if count(bytes, path)? > most {
            return Err(DecodeError::TooMany { what, most });
        }
    }
    Ok(())
}

/// Checks a message to a proxy before it is decoded.
pub(super) fn check_to_proxy(bytes: &[u8]) -> Result<(), DecodeError> {
    check_length(bytes, MOST_TO_PROXY)
}

fn check_length(bytes: &[u8], most: usize) -> Result<(), DecodeError> {
    if bytes.len() > most {
        return Err(DecodeError::TooLong { bytes: bytes.len(), most });
    }
    Ok(())
}

/// How often a field occurs that `path` leads to, through messages in messages.
fn count(mut bytes: &[u8], path: &[u32]) -> Result<usize, DecodeError> {
    let Some((&first, rest)) = path.split_first() else { return Ok(1) };
    let mut found = 0;
    while bytes.has_remaining() {
        let (number, kind) = decode_key(&mut bytes)?;
        if number != first || kind != WireType::LengthDelimited {
            skip_field(kind, number, &mut bytes, Default::default())?;
            continue;
        }
        let length = decode_varint(&mut bytes)?;
        let inner = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
        // The decoder refuses truncated messages with an error of its own.
        let Some((inner, after)) = inner else { return Ok(found) };
        bytes = after;
        found += count(inner, rest)?;
    }
    Ok(found)
}

/// A name, within its bound.
pub(super) fn name(what: &'static str, text: String) -> Result<String, DecodeError> {
    within(what, text, MOST_NAME)
}

/// An account's document, within its bound.
pub(super) fn document(text: String) -> Result<String, DecodeError> {
    within("an account's document", text, MOST_DOCUMENT)
}

/// A reason, within its bound. It reaches terminals, logs and texts of other workloads: what does not print, or changes the
/// direction of what follows, becomes a question mark.
pub(super) fn reason(text: String) -> Result<String, DecodeError> {
    let text = within("a reason", text, MOST_REASON)?;
    Ok(match printable(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(clean) => clean,
    })
}

fn within(what: &'static str, text: String, most: usize) -> Result<String, DecodeError> {
    match text.len() {
        bytes if bytes > most => Err(DecodeError::TextTooLong { what, bytes, most }),
        _ => Ok(text),
    }
}

/// As much of a name as a receiver accepts.
pub(super) fn cut_name(text: String) -> String {
    cut(text, MOST_NAME)
}

/// As much of a reason as a receiver accepts.
pub(super) fn cut_reason(text: String) -> String {
    cut(text, MOST_REASON)
}

fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

/// Checks the length of a list that is decoded.
pub(super) fn check_count(what: &'static str, named: usize, most: usize) -> Result<(), DecodeError> {
    if named > most {
        return Err(DecodeError::TooMany { what, most });
    }
    Ok(())
}
