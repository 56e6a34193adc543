//! Content codings of answers, as far as a rejection's body must be read. What goes to the client stays as it
//! came.

mod streamed;

use std::borrow::Cow;
use std::io::{Read, Write};

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use flate2::write;
use http::{HeaderMap, header};

use streamed::{Brotli, Zstd};

/// The most of an answer that is read, and decoded, in bytes.
pub(crate) const READ: usize = 1024 * 1024;

/// The beginning of the decoded body; none where the coding is unknown. `body` may end anywhere.
pub(crate) fn decoded<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    // How much of it came in the last frame makes no difference.
    let start = &body[..body.len().min(READ)];
    let coding = match headers.get(header::CONTENT_ENCODING) {
        None => return Some(Cow::Borrowed(start)),
        Some(value) => value.to_str().ok()?.trim().to_ascii_lowercase(),
    };
    match coding.as_str() {
        "" | "identity" => Some(Cow::Borrowed(start)),
        "gzip" | "x-gzip" => Some(Cow::Owned(beginning(GzDecoder::new(body)))),
        // RFC 9110 §8.4.1.2: zlib, but some servers send the bare stream.
        "deflate" => {
            let decoded = beginning(ZlibDecoder::new(body));
            Some(Cow::Owned(match decoded.is_empty() {
                true => beginning(DeflateDecoder::new(body)),
                false => decoded,
            }))
        }
        "br" | "zstd" => {
            let mut decoder = Decoder::new(headers)?;
            let mut read = Vec::new();
            for piece in body.chunks(PIECE) {
                read.extend_from_slice(decoder.push(piece));
                if read.len() >= READ {
                    break;
                }
            }
            read.truncate(READ);
            Some(Cow::Owned(read))
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

/// What is decoded at once, in bytes: little, because compression may hide much.
pub(crate) const PIECE: usize = 512;

/// Decodes an answer in pieces.
pub(crate) enum Decoder {
    Identity(Vec<u8>),
    Gzip(Box<write::GzDecoder<Vec<u8>>>),
    Zlib(Box<write::ZlibDecoder<Vec<u8>>>),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// The decoder for an answer's coding; none where that is unknown.
    pub(crate) fn new(headers: &HeaderMap) -> Option<Self> {
        let coding = match headers.get(header::CONTENT_ENCODING) {
            None => String::new(),
            Some(value) => value.to_str().ok()?.trim().to_ascii_lowercase(),
        };
        Some(match coding.as_str() {
            "" | "identity" => Self::Identity(Vec::new()),
            "gzip" | "x-gzip" => Self::Gzip(Box::new(write::GzDecoder::new(Vec::new()))),
            "deflate" => Self::Zlib(Box::new(write::ZlibDecoder::new(Vec::new()))),
            "br" => Self::Brotli(Box::default()),
            "zstd" => Self::Zstd(Box::default()),
            _ => return None,
        })
    }

    /// Decodes the next piece, as far as it can be. What can't be decoded says nothing.
    pub(crate) fn push(&mut self, piece: &[u8]) -> &[u8] {
        fn decoded(decoder: &mut impl Write, piece: &[u8]) {
            let _undecodable = decoder.write_all(piece).and_then(|()| decoder.flush());
        }
        match self {
            Self::Identity(text) => {
                text.clear();
                text.extend_from_slice(piece);
                text
            }
            Self::Gzip(decoder) => {
                decoder.get_mut().clear();
                decoded(decoder, piece);
                decoder.get_ref()
            }
            Self::Zlib(decoder) => {
                decoder.get_mut().clear();
                decoded(decoder, piece);
                decoder.get_ref()
            }
            Self::Brotli(decoder) => decoder.push(piece),
            Self::Zstd(decoder) => decoder.push(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
            ("br", streamed::tests::brotli(&[text])),
            ("zstd", streamed::tests::zstd(text)),
            ("identity", text.to_vec()),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
            assert_eq!(decoded(&headers, &body).unwrap(), &text[..], "{coding}");
            assert!(decoded(&headers, &body[..body.len() - 1]).is_some(), "{coding}, cut");
            assert!(decoded(&headers, b"\x1f\x8b nonsense").is_some(), "{coding}, nonsense");
        }
        let headers = [(header::CONTENT_ENCODING, "lzma".parse().unwrap())].into_iter().collect();
        assert_eq!(decoded(&headers, text), None);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&vec![0; 4 * READ]).unwrap();
        let headers = [(header::CONTENT_ENCODING, "gzip".parse().unwrap())].into_iter().collect();
        assert_eq!(decoded(&headers, &gzip.finish().unwrap()).unwrap().len(), READ);
    }
}
