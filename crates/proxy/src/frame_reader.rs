//! Follows the frames of one direction of an HTTP/2 connection (RFC 9113 §4.1) through pieces that may end anywhere.

/// The client's connection preface (RFC 9113 §3.4), after which its frames follow.
pub(crate) const PREFACE: usize = 24;
pub(crate) const FRAME_HEADER: usize = 9;
pub(crate) const HEADERS: u8 = 1;
/// Its payload is the code of an error (RFC 9113 §6.4).
pub(crate) const RST_STREAM: u8 = 3;
const ERROR_CODE: usize = 4;

/// A frame, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    /// The error code of a [`RST_STREAM`].
    pub(crate) error: Option<u32>,
}

/// Reads frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// Bytes to pass before the next frame.
    skip: usize,
    start: [u8; FRAME_HEADER + ERROR_CODE],
    filled: usize,
}

impl FrameReader {
    /// A reader of frames that follow so many other bytes.
    pub(crate) fn behind(bytes: usize) -> Self {
        Self { skip: bytes, start: [0; FRAME_HEADER + ERROR_CODE], filled: 0 }
    }

    /// Calls `found` for each frame whose beginning ends in `bytes`.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            let wanted = if self.is_reset() { self.start.len() } else { FRAME_HEADER };
            let taken = (wanted - self.filled).min(bytes.len());
            self.start[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == wanted && (wanted > FRAME_HEADER || !self.is_reset()) {
                let [a, b, c, kind, _, s0, s1, s2, s3, error @ ..] = self.start;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                self.skip = length.saturating_sub(self.filled - FRAME_HEADER);
                let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
                let error = (wanted > FRAME_HEADER).then_some(u32::from_be_bytes(error));
                self.filled = 0;
                found(Frame { kind, stream, error });
            }
        }
    }

    /// Whether the frame that is being read is one whose payload is read, too.
    fn is_reset(&self) -> bool {
        self.filled >= FRAME_HEADER
            && self.start[3] == RST_STREAM
            && self.start[..3] == [0, 0, ERROR_CODE as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let frame = |kind, stream: u8, payload: &[u8]| {
            [&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream][..], payload].concat()
        };
        let sent = [
            vec![9; 5],
            frame(HEADERS, 1, &[3; 20]),
            frame(RST_STREAM, 3, &[0, 0, 0, 1]),
            frame(4, 0, &[]),
            frame(RST_STREAM, 5, &[0, 0, 0, 8]),
            frame(0, 7, &[RST_STREAM; 40]),
        ]
        .concat();
        for piece in 1..=sent.len() {
            let (mut reader, mut found) = (FrameReader::behind(5), Vec::new());
            sent.chunks(piece).for_each(|part| reader.read(part, |frame| found.push(frame)));
            let found: Vec<_> = found.iter().map(|frame| (frame.kind, frame.stream, frame.error)).collect();
            let expected = [
                (HEADERS, 1, None),
                (RST_STREAM, 3, Some(1)),
                (4, 0, None),
                (RST_STREAM, 5, Some(8)),
                (0, 7, None),
            ];
            assert_eq!(found, expected, "{piece}");
        }
    }
}
