//! Content codings of requests, as far as a body must be read. What goes to the provider stays as it came.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::zstd_header;

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
    source.by_ref().take(zstd_header::LONGEST).read_to_end(&mut head)?;
    if zstd_header::window(&head).is_none_or(|window| window > zstd_header::LARGEST_WINDOW) {
        return Err(io::Error::other("the zstd frame's window is unknown or above 8 MiB"));
    }
    StreamingDecoder::new(io::Cursor::new(head).chain(source)).map_err(io::Error::other)
}
