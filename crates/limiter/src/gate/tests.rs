//! Fifteen minutes on a paused clock.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt;
use quotakeeper_wire::gate::{LONGEST, OPEN_UNTIL, OPENED_AT};
use tokio::sync::mpsc;
use tokio::time::advance;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The gate of a limiter whose time of day follows the paused clock, but for what it is set by.
struct World {
    began: Instant,
    set_by: Arc<AtomicI64>,
    maps: mpsc::UnboundedSender<Option<ConfigMap>>,
    openings: Pin<Box<dyn Stream<Item = Option<Timestamp>> + Send>>,
}

fn time_of_day(began: Instant, set_by: &AtomicI64) -> Timestamp {
    let passed = i64::try_from(began.elapsed().as_millis()).unwrap();
    Timestamp::from_millisecond(1_793_714_580_000 + passed + 1000 * set_by.load(Ordering::SeqCst)).unwrap()
}

impl World {
    fn new() -> World {
        let (maps, mut received) = mpsc::unbounded_channel();
        let (began, set_by) = (Instant::now(), Arc::new(AtomicI64::new(0)));
        let clock = Arc::clone(&set_by);
        let stream = stream::poll_fn(move |context| received.poll_recv(context));
        let openings = Box::pin(openings(stream, move || time_of_day(began, &clock)));
        World { began, set_by, maps, openings }
    }

    fn now(&self) -> Timestamp {
        time_of_day(self.began, &self.set_by)
    }

    /// The result of a ConfigMap.
    async fn apply(&mut self, map: Option<ConfigMap>) -> Option<Timestamp> {
        self.maps.send(map).unwrap();
        self.openings.next().await.unwrap()
    }

    /// A change without a ConfigMap within so much time; none: nothing changed.
    async fn after(&mut self, time: Duration) -> Option<Option<Timestamp>> {
        // In steps, so that the limiter's checks run.
        for _ in 0..time.as_secs() {
            advance(Duration::from_secs(1)).await;
            if let Some(opening) = self.openings.next().now_or_never() {
                return opening;
            }
        }
        None
    }
}

fn map(opening: Opening) -> Option<ConfigMap> {
    Some(ConfigMap { data: Some(opening.data()), ..ConfigMap::default() })
}

#[tokio::test(start_paused = true)]
async fn it_closes_by_itself_when_its_time_is_over() {
    let mut world = World::new();
    assert_eq!(world.apply(None).await, None);
    let opening = Opening::beginning(world.now());
    assert_eq!(world.apply(map(opening)).await, Some(opening.open_until()));
    assert_eq!(world.after(15 * MINUTE - Duration::from_secs(1)).await, None, "it is open all the time");
    assert_eq!(world.after(Duration::from_secs(1)).await, Some(None));
    // The ConfigMap is still there, and is listed again.
    assert_eq!(world.apply(map(opening)).await, None);
    let again = Opening::beginning(world.now());
    assert_eq!(world.apply(map(again)).await, Some(again.open_until()), "another opening counts anew");
    assert_eq!(world.apply(None).await, None, "who deletes the ConfigMap closes it at once");
}

#[tokio::test(start_paused = true)]
async fn another_limiter_opens_it_for_the_rest_of_the_time() {
    let opening = Opening::beginning(World::new().now());
    advance(10 * MINUTE).await;
    let mut later = World::new();
    later.set_by.store(600, Ordering::SeqCst);
    assert_eq!(later.apply(map(opening)).await, Some(opening.open_until()));
    assert_eq!(later.after(5 * MINUTE).await, Some(None));

    let mut too_late = World::new();
    too_late.set_by.store(900, Ordering::SeqCst);
    assert_eq!(too_late.apply(map(opening)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_leaves_it_open_for_no_longer() {
    let mut world = World::new();
    let opening = Opening::beginning(world.now());
    world.apply(map(opening)).await;
    assert_eq!(world.after(10 * MINUTE).await, None);
    world.set_by.store(-240, Ordering::SeqCst);
    assert!(world.apply(map(opening)).await.is_some(), "the watch began anew");
    assert_eq!(world.after(5 * MINUTE).await, Some(None));
    assert!(opening.remaining(world.now()).is_some(), "though the time of day would allow it");
    assert_eq!(world.apply(map(opening)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_closes_it() {
    let mut world = World::new();
    world.apply(map(Opening::beginning(world.now()))).await;
    world.set_by.store(3600, Ordering::SeqCst);
    assert_eq!(world.after(2 * CHECK_EVERY).await, Some(None));
}

#[tokio::test(start_paused = true)]
async fn what_names_no_end_opens_nothing() {
    let mut world = World::new();
    let now = world.now();
    let ever = now.checked_add(2 * LONGEST).unwrap();
    for data in [
        vec![("open", "true".to_owned())],
        vec![(OPENED_AT, now.to_string())],
        vec![(OPENED_AT, now.to_string()), (OPEN_UNTIL, ever.to_string())],
    ] {
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        assert_eq!(world.apply(Some(ConfigMap { data: Some(data), ..ConfigMap::default() })).await, None);
    }
    assert_eq!(world.apply(Some(ConfigMap::default())).await, None);
    assert_eq!(world.after(60 * MINUTE).await, None, "nor later");
}
