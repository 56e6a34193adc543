//! What all connections share: the book behind its lock, the clock, and the signals to fall silent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::book::Book;
use crate::counting::NANOS_PER_MILLI;
use crate::stalls::Stalls;

#[derive(Debug)]
pub(crate) struct Shared {
    // A std mutex: it is held for a decision, never across an await.
    book: Mutex<Book>,
    started: Instant,
    connections: AtomicU64,
    falls: watch::Sender<u64>,
    /// When the process stood still.
    pub(crate) stalls: Stalls,
    /// The authority of this run, as PEM.
    pub(crate) ca_pem: String,
}

impl Shared {
    pub(crate) fn new(book: Book, ca_pem: String) -> Self {
        Self {
            book: Mutex::new(book),
            started: Instant::now(),
            connections: AtomicU64::new(0),
            falls: watch::Sender::new(0),
            stalls: Stalls::default(),
            ca_pem,
        }
    }

    /// Nanoseconds since the start, on the monotonic clock.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Changes whenever the provider goes down: connections that were open then close.
    pub(crate) fn falls(&self) -> watch::Receiver<u64> {
        self.falls.subscribe()
    }

    /// Goes down for so long; with zero, comes up at once.
    pub(crate) fn down(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until = self.now().saturating_add(millis.saturating_mul(NANOS_PER_MILLI));
        self.book().down(until);
        if !time.is_zero() {
            self.falls.send_modify(|falls| *falls += 1);
        }
    }
}
