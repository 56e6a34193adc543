//! Connections that a door has closed before their peers were done with them: how many, by reason.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There were too many, and its peer's address held most.
    GaveWay,
    /// There were too many, and its peer's address held as many as any: it was not let in.
    TurnedAway,
    /// TLS failed, or took too long.
    Handshake,
    /// No whole request came in time.
    Late,
    /// After an answer nothing more came in time.
    Idle,
    /// It made more requests than one connection may.
    TooManyRequests,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 6] = [
        Reason::GaveWay,
        Reason::TurnedAway,
        Reason::Handshake,
        Reason::Late,
        Reason::Idle,
        Reason::TooManyRequests,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What one door has closed since the start. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ClosedConnections(Arc<[AtomicU64; Reason::ALL.len()]>);

impl ClosedConnections {
    /// One more.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

/// The doors of a process by name, as metrics: `closed_connections_total{door,reason}`.
#[derive(Clone, Debug, Default)]
pub struct Doors(pub Vec<(&'static str, ClosedConnections)>);

impl Collector for Doors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Connections that this process has closed before their peers were done with them, by reason: GaveWay or TurnedAway (there were too many), Handshake (TLS failed), Late (no whole request came in time), Idle, TooManyRequests";
        let mut family = encoder.encode_descriptor("closed_connections", help, None, MetricType::Counter)?;
        for (door, closed) in &self.0 {
            for reason in Reason::ALL {
                let labels = [("door", (*door).to_owned()), ("reason", reason.to_string())];
                ConstCounter::new(closed.of(reason)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
