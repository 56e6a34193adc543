//! The header of a zstd frame, and those of its blocks (RFC 8878 §3.1.1).

/// The longest header of a frame, in bytes.
pub(crate) const LONGEST: u64 = 18;
/// The largest window of a frame, in bytes; RFC 9659 allows senders no more.
pub(crate) const LARGEST_WINDOW: u64 = 8 * 1024 * 1024;
/// What stands before a block, in bytes.
pub(crate) const BLOCK_HEADER: usize = 3;

/// The window of a frame in bytes, by its header (RFC 8878 §3.1.1.1).
pub(crate) fn window(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    if descriptor & 0x20 == 0 {
        let byte = *head.get(5)?;
        let base = 1_u64 << (10 + u64::from(byte >> 3));
        return Some(base + base / 8 * u64::from(byte & 7));
    }
    // A single segment: the window is the content.
    let dictionary = dictionary(descriptor);
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let bytes = head.get(5 + dictionary..5 + dictionary + length)?;
    let size = bytes.iter().rev().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    Some(if length == 2 { size + 256 } else { size })
}

/// How long a frame's header is, by its beginning; `None`: more of it is needed.
pub(crate) fn length(head: &[u8]) -> Option<usize> {
    let descriptor = *head.get(4)?;
    let single = descriptor & 0x20 != 0;
    let content_size = match (descriptor >> 6, single) {
        (0, true) => 1,
        (0, false) => 0,
        (flag, _) => 1 << flag,
    };
    Some(5 + usize::from(!single) + dictionary(descriptor) + content_size)
}

/// Whether a checksum of four bytes follows the last block.
pub(crate) fn has_checksum(head: &[u8]) -> bool {
    head.get(4).is_some_and(|descriptor| descriptor & 4 != 0)
}

/// The largest block, in bytes (RFC 8878 §3.1.1.2.4).
pub(crate) const LARGEST_BLOCK: usize = 128 * 1024;

/// How long a block is with its header, and whether it is the last of its frame; `None`: more of it is needed.
pub(crate) fn block(bytes: &[u8]) -> Option<(usize, bool)> {
    let [first, second, third] = *bytes.first_chunk::<BLOCK_HEADER>()?;
    let header = u32::from_le_bytes([first, second, third, 0]);
    let is_one_byte_repeated = header >> 1 & 3 == 1;
    let content = if is_one_byte_repeated { 1 } else { (header >> 3) as usize };
    Some((BLOCK_HEADER + content, header & 1 == 1))
}

fn dictionary(descriptor: u8) -> usize {
    [0, 1, 2, 4][usize::from(descriptor & 3)]
}
