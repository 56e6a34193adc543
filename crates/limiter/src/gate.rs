//! Until when the gate is open: as its ConfigMap says, and never longer.
//!
//! Both clocks have to agree. The time of day is the writer's, and is heard by another limiter too;
//! the monotonic clock ends an opening though the time of day is set back meanwhile.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use quotakeeper_wire::gate::Opening;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How often an open gate is looked at: the time of day may have been set, or the machine suspended.
const LOOK: Duration = Duration::from_secs(5);

/// Says until when the gate is open, or that it is closed (none), whenever that changes or `maps`
/// tells anything of the ConfigMap. Ends with `maps`. `now` is the time of day.
pub fn openings<'a>(
    maps: impl Stream<Item = Option<ConfigMap>> + Send + 'a,
    now: impl Fn() -> Timestamp + Send + 'a,
) -> impl Stream<Item = Option<Timestamp>> + Send + 'a {
    let maps: Pin<Box<dyn Stream<Item = Option<ConfigMap>> + Send + 'a>> = Box::pin(maps);
    stream::unfold((maps, now, Gate::default()), |(mut maps, now, mut gate)| async move {
        loop {
            let until = tokio::select! {
                map = maps.next() => gate.read(map?.as_ref(), now(), Instant::now()),
                () = gate.look() => match gate.open_until(now(), Instant::now()) {
                    None => None,
                    // As it was said before.
                    Some(_) => continue,
                },
            };
            let turned = std::mem::replace(&mut gate.said, until).is_some() != until.is_some();
            match until {
                Some(until) if turned => warn!(%until, "the gate is open: every call passes"),
                None if turned => warn!("the gate is closed: limits are enforced again"),
                _ => {}
            }
            return Some((until, (maps, now, gate)));
        }
    })
}

/// What the ConfigMap says.
#[derive(Debug, Default)]
struct Gate {
    /// The opening that it names, open or over, and when that ends by the monotonic clock.
    opening: Option<(Opening, Instant)>,
    /// What was said last.
    said: Option<Timestamp>,
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
                // Listed again, it ends no later.
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

    /// Waits until it is to be looked at; for ever while it is closed.
    async fn look(&self) {
        match (self.said, self.opening) {
            (Some(_), Some((_, ends))) => sleep_until(ends.min(Instant::now() + LOOK)).await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
