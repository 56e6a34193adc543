//! Content codings of requests, as far as a body must be read. What goes to the provider stays as it came.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The longest window of a zstd frame, in bytes; RFC 9659 allows senders no more.
const WINDOW: u64 = 8 * 1024 * 1024;
/// The longest header of a zstd frame (RFC 8878 §3.1.1).
const ZSTD_HEADER: u64 = 18;

/// A content coding that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// The coding of a request's body; `None`: one that isn't read, or several.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let name = match (lines.next(), lines.next()) {
            (None, _) => return Some(Self::Identity),
            (Some(value), None) => value.to_str().ok()?.trim().to_ascii_lowercase(),
            _ => return None,
        };
        match name.as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// A reader of what `body` decodes to.
    pub(crate) fn decoded<'r>(self, body: impl Read + 'r) -> Box<dyn Read + 'r> {
        match self {
            Self::Identity => Box::new(body),
            Self::Gzip => Box::new(MultiGzDecoder::new(body)),
            Self::Zstd => Box::new(ZstdFrame::Unread(body)),
        }
    }
}

/// The first frame of a zstd body, in memory of one window. Senders of requests make one frame.
enum ZstdFrame<R: Read> {
    Unread(R),
    Begun(Box<Frame<R>>),
    Failed,
}

type Frame<R> = StreamingDecoder<io::Chain<io::Cursor<Vec<u8>>, R>, FrameDecoder>;

impl<R: Read> Read for ZstdFrame<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Self::Begun(frame) = self {
            return frame.read(into);
        }
        match std::mem::replace(self, Self::Failed) {
            Self::Unread(source) => {
                *self = Self::Begun(Box::new(begin(source)?));
                self.read(into)
            }
            _ => Err(io::Error::other("no zstd frame")),
        }
    }
}

/// Begins a frame whose window is small enough.
fn begin<R: Read>(mut source: R) -> io::Result<Frame<R>> {
    let mut head = Vec::new();
    source.by_ref().take(ZSTD_HEADER).read_to_end(&mut head)?;
    if window(&head).is_none_or(|window| window > WINDOW) {
        return Err(io::Error::other("the zstd frame's window is unknown or above 8 MiB"));
    }
    StreamingDecoder::new(io::Cursor::new(head).chain(source)).map_err(io::Error::other)
}

/// The window of a zstd frame in bytes, by its header (RFC 8878 §3.1.1.1).
fn window(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    if descriptor & 0x20 == 0 {
        let byte = *head.get(5)?;
        let base = 1_u64 << (10 + u64::from(byte >> 3));
        return Some(base + base / 8 * u64::from(byte & 7));
    }
    // A single segment: the window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let bytes = head.get(5 + dictionary..5 + dictionary + length)?;
    let size = bytes.iter().rev().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    Some(if length == 2 { size + 256 } else { size })
}
