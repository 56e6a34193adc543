//! Content codings of answers, as far as a rejection's body must be read. What goes to the client stays as it
//! came.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

/// The most that is decoded, in bytes.
pub(crate) const READ: usize = 64 * 1024;

/// The beginning of the decoded body; none where the coding is unknown. `body` may end anywhere.
pub(crate) fn decoded<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let coding = match headers.get(header::CONTENT_ENCODING) {
        None => return Some(Cow::Borrowed(body)),
        Some(value) => value.to_str().ok()?.trim().to_ascii_lowercase(),
    };
    match coding.as_str() {
        "" | "identity" => Some(Cow::Borrowed(body)),
        "gzip" | "x-gzip" => Some(Cow::Owned(beginning(GzDecoder::new(body)))),
        // RFC 9110 §8.4.1.2: zlib, but some servers send the bare stream.
        "deflate" => {
            let decoded = beginning(ZlibDecoder::new(body));
            Some(Cow::Owned(match decoded.is_empty() {
                true => beginning(DeflateDecoder::new(body)),
                false => decoded,
            }))
        }
        _ => None,
    }
}

/// What can be read before the first error.
fn beginning(decoder: impl Read) -> Vec<u8> {
    let mut read = Vec::new();
    // A body that was cut ends in an error after its last whole part.
    let _cut = decoder.take(READ as u64).read_to_end(&mut read);
    read
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    #[test]
    fn a_compressed_rejection_is_read() {
        let text = br#"{"error":{"code":"insufficient_quota"}}"#;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text).unwrap();
        zlib.write_all(text).unwrap();
        bare.write_all(text).unwrap();
        for (coding, body) in [
            ("gzip", gzip.finish().unwrap()),
            ("deflate", zlib.finish().unwrap()),
            ("Deflate", bare.finish().unwrap()),
            ("identity", text.to_vec()),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
            assert_eq!(decoded(&headers, &body).unwrap(), &text[..], "{coding}");
            assert!(decoded(&headers, &body[..body.len() - 1]).is_some(), "{coding}, cut");
            assert!(decoded(&headers, b"\x1f\x8b nonsense").is_some(), "{coding}, nonsense");
        }
        let headers = [(header::CONTENT_ENCODING, "br".parse().unwrap())].into_iter().collect();
        assert_eq!(decoded(&headers, text), None);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&vec![0; 100 * READ]).unwrap();
        let headers = [(header::CONTENT_ENCODING, "gzip".parse().unwrap())].into_iter().collect();
        assert_eq!(decoded(&headers, &gzip.finish().unwrap()).unwrap().len(), READ);
    }
}
