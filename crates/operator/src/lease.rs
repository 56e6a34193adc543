//! Who of the replicas writes: the holder of a Lease.
//!
//! Pure: what to do about the Lease that was read, at which time. The requests are in
//! `lease/contend.rs`. A lease is judged by how long it was seen unchanged on the own clock, never
//! by the times that are written in it: clocks of nodes differ.
//!
//! A holder believes in itself for [`BELIEF`] after it *asked* for the renewal that succeeded, and
//! no request of a writer lasts longer than [`REQUEST`]: whatever it sends has ended before another
//! may hold the lease.

mod contend;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use quotakeeper_api::names::OPERATOR;
use tokio::sync::watch;

pub use contend::contend;

use crate::clock;

/// How long a lease that is not renewed keeps others out.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long its holder believes in it.
pub const BELIEF: Duration = Duration::from_secs(10);
/// The longest that a request of a writer, or of a renewal, may take.
pub const REQUEST: Duration = Duration::from_secs(4);
/// How often it is renewed, and looked at by the others.
pub const RETRY: Duration = Duration::from_secs(2);

/// What one replica knows of the lease.
#[derive(Debug)]
pub struct Contender {
    identity: String,
    seen: Option<(Record, Duration)>,
}

/// What changes with every renewal.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    holder: String,
    renewed: Option<MicroTime>,
    transitions: i32,
}

/// What to do about the lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is none: create this one.
    Create(Box<Lease>),
    /// It is ours, or free: put this one in its place, if it has not changed.
    Replace(Box<Lease>),
    /// Another holds it.
    Wait,
}

impl Contender {
    /// A replica; `identity` is used by no other, and by no earlier life of this one.
    pub fn new(identity: impl Into<String>) -> Contender {
        Contender { identity: identity.into(), seen: None }
    }

    /// What to do, when the lease was read at `now` of the own clock and `wall` is the time of day.
    pub fn next(&mut self, lease: Option<&Lease>, now: Duration, wall: Timestamp) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create(Box::new(self.held(None, 0, wall)));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let record = Record {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time,
            transitions: spec.lease_transitions.unwrap_or(0),
        };
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => now,
        };
        let (holder, transitions) = (record.holder.clone(), record.transitions);
        self.seen = Some((record, since));
        if holder == self.identity {
            return Step::Replace(Box::new(self.held(Some(lease), transitions, wall)));
        }
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = seconds.map_or(DURATION, Duration::from_secs);
        if holder.is_empty() || now.saturating_sub(since) > lasts {
            return Step::Replace(Box::new(self.held(Some(lease), transitions.saturating_add(1), wall)));
        }
        Step::Wait
    }

    /// The lease without a holder, for another to take at once; none where it isn't ours.
    pub fn released(&self, lease: &Lease, wall: Timestamp) -> Option<Lease> {
        let mut lease = lease.clone();
        let spec =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))?;
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(wall));
        Some(lease)
    }

    fn held(&self, lease: Option<&Lease>, transitions: i32, wall: Timestamp) -> Lease {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let ours = spec.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let acquired = spec.filter(|_| ours).and_then(|spec| spec.acquire_time.clone());
        let fresh = || ObjectMeta { name: Some(OPERATOR.to_owned()), ..ObjectMeta::default() };
        Lease {
            metadata: lease.map_or_else(fresh, |lease| lease.metadata.clone()),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: acquired.or(Some(MicroTime(wall))),
                renew_time: Some(MicroTime(wall)),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Whether this replica may write.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Sender<Duration>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { until: watch::Sender::new(Duration::ZERO) }
    }
}

impl Leadership {
    /// Whether it may write now.
    pub fn holds(&self) -> bool {
        clock::now() < *self.until.borrow()
    }

    /// It asked at `asked` for the renewal that has succeeded.
    fn extend(&self, asked: Duration) {
        self.until.send_replace(asked.saturating_add(BELIEF));
    }

    /// It stops to believe in it, whatever the lease says.
    pub fn resign(&self) {
        self.until.send_replace(Duration::ZERO);
    }

    /// Waits until it may write.
    pub async fn gained(&self) {
        let mut until = self.until.subscribe();
        // The sender lives as long as self.
        let _ = until.wait_for(|until| clock::now() < *until).await;
    }

    /// Waits until it may write no more.
    pub async fn lost(&self) {
        let mut until = self.until.subscribe();
        loop {
            let left = until.borrow_and_update().saturating_sub(clock::now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = until.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
