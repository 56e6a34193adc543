//! The room that all buffered bodies share, in memory and on disk.
//!
//! A body of known length gets all of its room before any of it is read, so that bodies that arrive together do not
//! hold parts of the room while each waits for the rest. Who waits is served in order; small bodies have some memory
//! of their own, so that they don't wait behind large ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a permit.
const BLOCK: u64 = 4096;
/// Beyond this, a count of blocks does not matter any more: 8 TiB.
const MOST_BLOCKS: u64 = 1 << 31;

/// The longest small body, in bytes.
const SMALL: u64 = 64 * 1024;
/// Small bodies have this part of the memory to themselves.
const PART_OF_SMALL: u64 = 8;

/// The bounds of all bodies together.
#[derive(Clone)]
pub(super) struct Room {
    small: Pool,
    memory: Pool,
    disk: Pool,
}

#[derive(Clone)]
struct Pool {
    free: Arc<Semaphore>,
    blocks: u32,
}

/// Room that a body has until this is dropped.
pub(super) struct Reservation {
    pub(super) on_disk: bool,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Room {
    /// Room of so many bytes in memory and on disk; 0: none.
    pub(super) fn new(memory: u64, disk: u64) -> Self {
        let small = memory / PART_OF_SMALL;
        Self { small: Pool::new(small), memory: Pool::new(memory - small), disk: Pool::new(disk) }
    }

    /// Room for a body, in memory where there is some now; waits for the first that has it. `None`: it never will.
    pub(super) async fn reserve(&self, bytes: u64) -> Option<Reservation> {
        if let Some(now) = self.try_memory(bytes).or_else(|| self.try_disk(bytes)) {
            return Some(now);
        }
        let (permit, on_disk) = tokio::select! {
            Some(permit) = self.small.reserve(bytes), if bytes <= SMALL => (permit, false),
            Some(permit) = self.memory.reserve(bytes) => (permit, false),
            Some(permit) = self.disk.reserve(bytes) => (permit, true),
            else => return None,
        };
        Some(Reservation::new(permit, on_disk))
    }

    /// Room in memory, if there is some now.
    pub(super) fn try_memory(&self, bytes: u64) -> Option<Reservation> {
        let small = if bytes <= SMALL { self.small.try_reserve(bytes) } else { None };
        let permit = small.or_else(|| self.memory.try_reserve(bytes))?;
        Some(Reservation::new(permit, false))
    }

    /// Room on disk, if there is some now.
    pub(super) fn try_disk(&self, bytes: u64) -> Option<Reservation> {
        self.disk.try_reserve(bytes).map(|permit| Reservation::new(permit, true))
    }

    /// Room on disk; waits for it. `None`: there never will be.
    pub(super) async fn disk(&self, bytes: u64) -> Option<Reservation> {
        self.disk.reserve(bytes).await.map(|permit| Reservation::new(permit, true))
    }

    /// How much disk there is in all, in bytes.
    pub(super) fn all_disk(&self) -> u64 {
        u64::from(self.disk.blocks) * BLOCK
    }

    #[cfg(test)]
    pub(super) fn free_memory(&self) -> u64 {
        (self.small.free.available_permits() + self.memory.free.available_permits()) as u64 * BLOCK
    }

    #[cfg(test)]
    pub(super) fn free_disk(&self) -> u64 {
        self.disk.free.available_permits() as u64 * BLOCK
    }
}

impl Pool {
    fn new(bytes: u64) -> Self {
        let blocks = u32::try_from((bytes / BLOCK).min(MOST_BLOCKS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(blocks as usize)), blocks }
    }

    fn try_reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(blocks_of(bytes)).ok()
    }

    async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let blocks = blocks_of(bytes);
        if blocks > self.blocks {
            return None;
        }
        Arc::clone(&self.free).acquire_many_owned(blocks).await.ok()
    }
}

impl Reservation {
    fn new(permit: OwnedSemaphorePermit, on_disk: bool) -> Self {
        Self { on_disk, permits: vec![permit] }
    }

    /// How many bytes have room.
    pub(super) fn bytes(&self) -> u64 {
        self.permits.iter().map(|permit| permit.num_permits() as u64 * BLOCK).sum()
    }

    /// Adds room of the same kind.
    pub(super) fn add(&mut self, more: Reservation) {
        debug_assert_eq!(self.on_disk, more.on_disk);
        self.permits.extend(more.permits);
    }

    /// Gives back what is beyond `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let mut needed = blocks_of(bytes) as usize;
        for permit in &mut self.permits {
            let surplus = permit.num_permits().saturating_sub(needed);
            drop(permit.split(surplus));
            needed -= permit.num_permits();
        }
    }
}

fn blocks_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK).min(MOST_BLOCKS)).unwrap_or(u32::MAX)
}
