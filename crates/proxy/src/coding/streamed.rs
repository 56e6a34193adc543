//! Answers in the codings br and zstd, decoded as they pass, in bounded memory.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::zstd_header;

/// What windows of answers that are decoded at the same time may take together, in MiB: of the process, because its
/// memory is. An answer beyond that says nothing.
static WINDOWS: Semaphore = Semaphore::const_new(64);
/// What br decodes at once, in bytes.
const BUFFER: usize = 4096;

/// The most that one piece may decode to, in bytes; an answer whose piece is more is read no further. A few bytes of br
/// can stand for 16 MiB (RFC 7932 §9.2), and real answers for some hundred times their size.
const MOST_AT_ONCE: usize = 1024 * 1024;

/// What a piece has decoded to.
#[derive(Default)]
pub(crate) struct Decoded(Vec<u8>);

impl Write for Decoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_AT_ONCE {
            return Err(io::Error::other("a piece of the answer decodes to too much"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The room of a window of so many bytes, if there is some.
fn room(window: u64) -> Option<SemaphorePermit<'static>> {
    let mebibytes = u32::try_from(window.div_ceil(1024 * 1024)).ok()?;
    WINDOWS.try_acquire_many(mebibytes).ok()
}

/// Decodes an answer in the coding br (RFC 7932).
#[derive(Default)]
pub(crate) enum Brotli {
    #[default]
    Unread,
    Begun {
        decoder: Box<DecompressorWriter<Decoded>>,
        _room: SemaphorePermit<'static>,
    },
    /// It can't be decoded, or there is no room for it.
    Failed,
}

impl Brotli {
    /// What the next piece decodes to, as far as it can be.
    pub(super) fn push(&mut self, piece: &[u8]) -> &[u8] {
        if let (Self::Unread, Some(first)) = (&*self, piece.first()) {
            *self = match room(brotli_window(*first)) {
                Some(room) => Self::Begun {
                    decoder: Box::new(DecompressorWriter::new(Decoded::default(), BUFFER)),
                    _room: room,
                },
                None => Self::Failed,
            };
        }
        let Self::Begun { decoder, .. } = self else { return &[] };
        decoder.get_mut().0.clear();
        let decoded = decoder.write_all(piece).and_then(|()| decoder.flush());
        if decoded.is_err() {
            *self = Self::Failed;
        }
        match self {
            Self::Begun { decoder, .. } => &decoder.get_ref().0,
            _ => &[],
        }
    }
}

/// The window of a stream in bytes, by its first byte (RFC 7932 §9.1).
fn brotli_window(first: u8) -> u64 {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, less) => 8 + less,
        (_, more, _) => 17 + more,
    };
    1 << bits
}

/// Decodes an answer in the coding zstd (RFC 8878): its first frame. What is decoded comes behind it by as much as the
/// frame's window, but for the end.
#[derive(Default)]
pub(crate) struct Zstd {
    /// What has come of the header, or of a block, that is not whole.
    pending: Vec<u8>,
    state: ZstdState,
    decoded: Decoded,
}

#[derive(Default)]
enum ZstdState {
    #[default]
    Unread,
    Begun {
        decoder: Box<FrameDecoder>,
        has_checksum: bool,
        _room: SemaphorePermit<'static>,
    },
    /// It has ended, can't be decoded, or there is no room for it.
    Over,
}

impl Zstd {
    /// What is decoded when the next piece has come.
    pub(super) fn push(&mut self, piece: &[u8]) -> &[u8] {
        self.decoded.0.clear();
        if !matches!(self.state, ZstdState::Over) {
            self.pending.extend_from_slice(piece);
            if self.step().is_none() {
                (self.state, self.pending) = (ZstdState::Over, Vec::new());
            }
        }
        &self.decoded.0
    }

    /// Decodes all blocks that are whole; `None`: it is over.
    fn step(&mut self) -> Option<()> {
        if matches!(self.state, ZstdState::Unread) && !self.begin()? {
            return Some(());
        }
        let ZstdState::Begun { decoder, has_checksum, .. } = &mut self.state else { return None };
        let mut rest = self.pending.as_slice();
        while let Some((length, last)) = zstd_header::block(rest) {
            if length > zstd_header::BLOCK_HEADER + zstd_header::LARGEST_BLOCK {
                return None;
            }
            let length = length + if last && *has_checksum { 4 } else { 0 };
            let Some(mut block) = rest.get(..length) else { break };
            let decoded = decoder.decode_blocks(&mut block, BlockDecodingStrategy::UptoBlocks(1));
            rest = &rest[length..];
            decoded.ok()?;
            decoder.collect_to_writer(&mut self.decoded).ok()?;
            if last {
                return None;
            }
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        Some(())
    }

    /// Reads the header, if all of it has come; `None`: it is none that is read.
    fn begin(&mut self) -> Option<bool> {
        let Some(length) = zstd_header::length(&self.pending) else { return Some(false) };
        let Some(mut head) = self.pending.get(..length) else { return Some(false) };
        let window = zstd_header::window(head).filter(|window| *window <= zstd_header::LARGEST_WINDOW)?;
        let room = room(window)?;
        let has_checksum = zstd_header::has_checksum(head);
        let mut decoder = Box::new(FrameDecoder::new());
        decoder.init(&mut head).ok()?;
        self.state = ZstdState::Begun { decoder, has_checksum, _room: room };
        self.pending.drain(..length);
        Some(true)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// The parts in the coding br, each of which can be decoded when it has come.
    pub(crate) fn brotli(parts: &[&[u8]]) -> Vec<u8> {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), BUFFER, 5, 18);
        for part in parts {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.into_inner()
    }

    pub(crate) fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn text(lines: usize) -> Vec<u8> {
        (0..lines).flat_map(|line| format!("data: line {line} of many\n\n").into_bytes()).collect()
    }

    #[test]
    fn pieces_of_any_size_decode_to_the_same() {
        let text = text(20_000);
        for size in [1, 7, 512, 100_000] {
            let (mut br, mut decoded) = (Brotli::default(), Vec::new());
            brotli(&[&text]).chunks(size).for_each(|piece| decoded.extend_from_slice(br.push(piece)));
            assert!(decoded == text, "br in pieces of {size}");
            let (mut frame, mut decoded) = (Zstd::default(), Vec::new());
            zstd(&text).chunks(size).for_each(|piece| decoded.extend_from_slice(frame.push(piece)));
            assert!(decoded == text, "zstd in pieces of {size}");
        }
    }

    #[test]
    fn a_part_in_br_is_read_when_it_has_come() {
        let (first, second) = (text(3), text(5));
        let one = brotli(&[&first]).len() - 1;
        let both = brotli(&[&first, &second]);
        let mut decoder = Brotli::default();
        assert_eq!(decoder.push(&both[..one]), first);
        assert_eq!(decoder.push(&both[one..]), second);
    }

    #[test]
    fn what_is_no_such_answer_says_nothing() {
        for nonsense in [&b"{\"usage\":{}}"[..], &[0xff; 900], b"\x28\xb5\x2f\xfd\xff\xff"] {
            let (mut br, mut frame) = (Brotli::default(), Zstd::default());
            for piece in nonsense.chunks(3) {
                let _decoded = br.push(piece);
                assert_eq!(frame.push(piece), b"");
            }
        }
        // A block of two mebibytes never ends.
        let mut frame = Zstd::default();
        assert_eq!(frame.push(b"\x28\xb5\x2f\xfd\x00\x58\xfd\xff\xff"), b"");
        assert_eq!(frame.pending, b"");
        // A window of a gibibyte.
        assert_eq!(Zstd::default().push(b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"), b"");
    }

    #[test]
    fn a_piece_that_decodes_to_too_much_ends_the_reading() {
        let zeros = vec![0; 4 * MOST_AT_ONCE];
        let (br, frame) = (brotli(&[&zeros, b"after"]), zstd(&zeros));
        let mut decoder = Brotli::default();
        assert_eq!(br.chunks(512).map(|piece| decoder.push(piece).len()).max(), Some(0));
        assert!(matches!(decoder, Brotli::Failed));
        let mut decoder = Zstd::default();
        let most = frame.chunks(512).map(|piece| decoder.push(piece).len()).max();
        assert!(most.is_some_and(|most| most <= MOST_AT_ONCE), "{most:?}");
        assert!(matches!(decoder.state, ZstdState::Over));
    }

    #[test]
    fn windows_are_as_their_first_byte_says() {
        for (bits, first) in
            [(10, 0x21), (15, 0x71), (16, 0x0c), (17, 0x01), (18, 0x03), (22, 0x0b), (24, 0x0f)]
        {
            assert_eq!(brotli_window(first), 1 << bits, "{first:#x}");
        }
    }
}
