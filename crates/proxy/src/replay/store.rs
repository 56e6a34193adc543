//! A body while it arrives: in memory, and in a file as soon as memory has no room for it.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::room::{Reservation, Room};
use super::stored::{Stored, StoredFile};

/// Parts in memory are of this size, and so are writes to a file, in bytes.
const PART: usize = 256 * 1024;
/// The first reservation of a body of unknown length, in bytes.
const FIRST: u64 = 64 * 1024;
/// What a body of unknown length reserves on disk at once, in bytes: no request that isn't a file is usually longer.
const STEP: u64 = 64 * 1024 * 1024;

/// Takes in one body.
pub(super) struct Store {
    room: Room,
    folder: Option<PathBuf>,
    /// The longest body, in bytes.
    longest: u64,
    /// Whether it needs room: beginnings don't.
    counted: bool,
    reservation: Option<Reservation>,
    file: Option<StoredFile>,
    parts: Vec<Bytes>,
    current: BytesMut,
    length: u64,
}

/// There is no room for more of the body.
#[derive(Debug)]
pub(super) struct Full;

impl Store {
    /// A store for a body of at most `longest` bytes: of unknown length, or as long as the reservation.
    pub(super) fn new(
        room: Room,
        folder: Option<PathBuf>,
        longest: u64,
        reservation: Option<Reservation>,
    ) -> Self {
        Self {
            room,
            folder,
            longest,
            counted: true,
            reservation,
            file: None,
            parts: Vec::new(),
            current: BytesMut::new(),
            length: 0,
        }
    }

    /// A store for the beginning of a body, of at most `longest` bytes, which needs no room.
    pub(super) fn beginning(room: Room, longest: u64) -> Self {
        Self { counted: false, ..Self::new(room, None, longest, None) }
    }

    /// Stores the next part. When that fails, what came before is still stored.
    pub(super) async fn push(&mut self, mut part: &[u8]) -> Result<(), Full> {
        let length = self.length + part.len() as u64;
        if length > self.longest {
            return Err(Full);
        }
        // Room in memory is given back when the body is in its file.
        let _before = self.ensure(length).await?;
        if self.on_disk() && self.file.is_none() {
            self.open().await?;
        }
        self.length = length;
        while !part.is_empty() {
            if self.current.capacity() == self.current.len() {
                self.next_part().await;
                self.current.reserve(self.part_size(part.len()));
            }
            let now = part.len().min(self.current.capacity() - self.current.len());
            self.current.put_slice(&part[..now]);
            part = &part[now..];
        }
        Ok(())
    }

    /// All that was stored, and the room that it takes.
    pub(super) async fn finish(mut self) -> (Stored, Option<Reservation>) {
        self.next_part().await;
        if let Some(reservation) = &mut self.reservation {
            reservation.shrink(self.length);
        }
        (Stored { file: self.file, parts: self.parts }, self.reservation)
    }

    fn on_disk(&self) -> bool {
        self.reservation.as_ref().is_some_and(|reservation| reservation.on_disk)
    }

    /// Small bodies take no more memory than they need.
    fn part_size(&self, at_least: usize) -> usize {
        let reserved = self.reservation.as_ref().map_or(0, Reservation::bytes);
        let stored = self.parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let left = usize::try_from(reserved.saturating_sub(stored)).unwrap_or(PART);
        if self.on_disk() { PART } else { left.clamp(at_least.min(PART), PART) }
    }

    /// Reserves room for `length` bytes in all. Returns what that has replaced.
    async fn ensure(&mut self, length: u64) -> Result<Option<Reservation>, Full> {
        let reserved = self.reservation.as_ref().map_or(0, Reservation::bytes);
        if length <= reserved || !self.counted {
            return Ok(None);
        }
        let needed = length - reserved;
        let ample = needed.max(reserved).max(FIRST);
        if !self.on_disk()
            && let Some(more) = self.room.try_memory(ample).or_else(|| self.room.try_memory(needed))
        {
            match &mut self.reservation {
                Some(reservation) => reservation.add(more),
                none => *none = Some(more),
            }
            return Ok(None);
        }
        match &mut self.reservation {
            // Whoever has room on disk must not wait for more of it: all could wait for each other.
            Some(reservation) if reservation.on_disk => {
                let more = self.room.try_disk(STEP).ok_or(Full)?;
                reservation.add(more);
                Ok(None)
            }
            in_memory => {
                let step = STEP.max(length).min(self.room.all_disk());
                if step < length {
                    return Err(Full);
                }
                let on_disk = self.room.disk(step).await.ok_or(Full)?;
                Ok(in_memory.replace(on_disk))
            }
        }
    }

    /// Moves what is in memory to a file.
    async fn open(&mut self) -> Result<(), Full> {
        let folder = self.folder.clone().ok_or(Full)?;
        let file = blocking(move || tempfile::tempfile_in(folder)).await;
        let file = file.map_err(|error| log(&error))?;
        self.file = Some(StoredFile { file: Arc::new(file), length: 0 });
        let mut parts = std::mem::take(&mut self.parts);
        parts.extend((!self.current.is_empty()).then(|| self.current.split().freeze()));
        self.current = BytesMut::new();
        for part in parts {
            self.write(part).await;
        }
        Ok(())
    }

    /// Puts the current part away.
    async fn next_part(&mut self) {
        if self.current.is_empty() {
            return;
        }
        let part = std::mem::take(&mut self.current);
        // A buffer that is mostly empty would take memory that nobody counts.
        let wasteful = part.len() < part.capacity() / 2;
        let part = if wasteful { Bytes::copy_from_slice(&part) } else { part.freeze() };
        self.write(part).await;
    }

    /// Writes to the file, or stores in memory where there is none or it failed before.
    async fn write(&mut self, part: Bytes) {
        if let Some(StoredFile { file, length }) = &mut self.file
            && self.parts.is_empty()
        {
            let (into, bytes, at) = (Arc::clone(file), part.clone(), *length);
            match blocking(move || into.write_all_at(&bytes, at)).await {
                Ok(()) => {
                    *length += part.len() as u64;
                    return;
                }
                Err(error) => {
                    log(&error);
                }
            }
        }
        self.parts.push(part);
    }
}

fn log(error: &io::Error) -> Full {
    tracing::warn!(%error, "a request's body can't be stored in a file; free some disk, or give the proxy more memory");
    Full
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the runtime is shutting down")))
}
