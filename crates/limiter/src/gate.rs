//! Follows the gate's ConfigMap, and closes the gate in time.
//!
//! Two clocks are compared. The end in the ConfigMap is a time of day, which every limiter can read; the
//! monotonic clock ends an opening even if the time of day is set back meanwhile.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use quotakeeper_wire::gate::Opening;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How often an open gate is checked: the time of day may have been set, or the machine suspended.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Yields until when the gate is open, or none while it is closed: whenever that changes, and for each item of
/// `maps`. Ends with `maps`. `now` is the time of day.
pub fn openings<'a>(
    maps: impl Stream<Item = Option<ConfigMap>> + Send + 'a,
    now: impl Fn() -> Timestamp + Send + 'a,
) -> impl Stream<Item = Option<Timestamp>> + Send + 'a {
    let maps: Pin<Box<dyn Stream<Item = Option<ConfigMap>> + Send + 'a>> = Box::pin(maps);
    stream::unfold((maps, now, Gate::default()), |(mut maps, now, mut gate)| async move {
        loop {
            let until = tokio::select! {
                map = maps.next() => gate.read(map?.as_ref(), now(), Instant::now()),
                () = gate.next_check() => match gate.open_until(now(), Instant::now()) {
                    None => None,
                    // Nothing has changed.
                    Some(_) => continue,
                },
            };
            let changed = std::mem::replace(&mut gate.last, until).is_some() != until.is_some();
            match until {
                Some(until) if changed => warn!(%until, "the gate is open: every call passes"),
                None if changed => warn!("the gate is closed: limits are enforced again"),
                _ => {}
            }
            return Some((until, (maps, now, gate)));
        }
    })
}

/// The state of the gate.
#[derive(Debug, Default)]
struct Gate {
    /// The opening in the ConfigMap, current or past, and its end by the monotonic clock.
    opening: Option<(Opening, Instant)>,
    /// What was yielded last.
    last: Option<Timestamp>,
}

impl Gate {
    fn read(&mut self, map: Option<&ConfigMap>, now: Timestamp, instant: Instant) -> Option<Timestamp> {
        let data = map.map(|map| map.data.clone().unwrap_or_default());
        let opening = data.and_then(|data| {
            let read = Opening::read(&data);
            read.inspect_err(|error| warn!(%error, "the gate stays closed")).ok()
        });
        self.opening = opening.map(|opening| {
            let ends = instant + opening.remaining(now).unwrap_or_default();
            match self.opening {
                // The same opening, listed again: it ends no later.
                Some((known, known_end)) if known == opening => (opening, ends.min(known_end)),
                _ => (opening, ends),
            }
        });
        self.open_until(now, instant)
    }

    fn open_until(&self, now: Timestamp, instant: Instant) -> Option<Timestamp> {
        let (opening, ends) = self.opening?;
        (opening.remaining(now).is_some() && instant < ends).then(|| opening.open_until())
    }

    /// Waits until the gate has to be checked; for ever while it is closed.
    async fn next_check(&self) {
        match (self.last, self.opening) {
            (Some(_), Some((_, ends))) => sleep_until(ends.min(Instant::now() + CHECK_EVERY)).await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
