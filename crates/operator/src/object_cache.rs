//! What a watch has told, kept as small views of the objects.
//!
//! Every replica watches, so that the next leader is warm. A view holds what is needed of an object
//! and no more; a change that leaves the view as it was wakes nobody.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tracing::{debug, warn};

/// Notifies when something has changed that its listeners work from.
#[derive(Clone, Debug)]
pub struct Signal(watch::Sender<u64>);

impl Default for Signal {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Signal {
    /// Wakes all listeners.
    pub fn notify(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hears every change from now on, many at once as one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// The views of one kind of object, by `namespace/name`, or `name` where there is no namespace.
#[derive(Debug)]
pub struct ObjectCache<T> {
    what: &'static str,
    inner: Mutex<Inner<T>>,
    signal: Signal,
}

#[derive(Debug)]
struct Inner<T> {
    known: BTreeMap<String, T>,
    /// What a list that has begun has told so far.
    coming: Option<BTreeMap<String, T>>,
    synced: bool,
}

impl<T: Clone + PartialEq> ObjectCache<T> {
    /// An empty cache that notifies `signal`.
    pub fn new(what: &'static str, signal: Signal) -> Self {
        let inner = Inner { known: BTreeMap::new(), coming: None, synced: false };
        Self { what, inner: Mutex::new(inner), signal }
    }

    /// Everything on it; nothing before it was filled once.
    pub fn all(&self) -> Option<BTreeMap<String, T>> {
        let inner = self.lock();
        inner.synced.then(|| inner.known.clone())
    }

    /// One view.
    pub fn get(&self, name: &str) -> Option<T> {
        self.lock().known.get(name).cloned()
    }

    /// Whether it was filled once.
    pub fn synced(&self) -> bool {
        self.lock().synced
    }

    /// What it holds, for people: `quotas`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Takes an event of the watch. `view` is what is kept of an object; none: nothing.
    pub fn take<K: ResourceExt>(&self, event: Event<K>, view: &impl Fn(K) -> Option<T>) {
        let mut inner = self.lock();
        let changed = match event {
            Event::Init => {
                inner.coming = Some(BTreeMap::new());
                false
            }
            Event::InitApply(object) => {
                let key = key(&object);
                if let (Some(coming), Some(view)) = (&mut inner.coming, view(object)) {
                    coming.insert(key, view);
                }
                false
            }
            Event::InitDone => {
                let new = inner.coming.take().unwrap_or_default();
                let changed = !inner.synced || new != inner.known;
                inner.known = new;
                inner.synced = true;
                changed
            }
            Event::Apply(object) => {
                let key = key(&object);
                match view(object) {
                    Some(view) if inner.known.get(&key) == Some(&view) => false,
                    Some(view) => {
                        inner.known.insert(key, view);
                        true
                    }
                    None => inner.known.remove(&key).is_some(),
                }
            }
            Event::Delete(object) => inner.known.remove(&key(&object)).is_some(),
        };
        drop(inner);
        if changed {
            self.signal.notify();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a cache from a watch that starts again by itself, for ever.
pub async fn fill<K, T>(
    cache: Arc<ObjectCache<T>>,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    view: impl Fn(K) -> Option<T>,
) where
    K: ResourceExt + Debug,
    T: Clone + PartialEq,
{
    let mut events = std::pin::pin!(events);
    let mut told = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => cache.take(event, &view),
            Err(error) => {
                let sentence = error.to_string();
                if sentence == told {
                    debug!(what = cache.what, error = sentence, "the watch still fails");
                } else {
                    warn!(what = cache.what, error = sentence, "the watch is interrupted; trying on");
                    told = sentence;
                }
            }
        }
    }
}

/// `namespace/name`, or `name` where there is no namespace.
pub fn key(object: &impl ResourceExt) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, value: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.metadata.namespace = Some("ns".to_owned());
        map.data = Some([("value".to_owned(), value.to_owned())].into());
        map
    }

    fn view(map: ConfigMap) -> Option<String> {
        map.data?.remove("value").filter(|value| value != "none")
    }

    #[test]
    fn only_what_changes_a_view_rings() {
        let signal = Signal::default();
        let heard = signal.subscribe();
        let notified = || *heard.borrow();
        let cache = ObjectCache::new("maps", signal);
        for event in [Event::Init, Event::InitApply(object("a", "1"))] {
            cache.take(event, &view);
        }
        assert_eq!((cache.all(), notified()), (None, 0), "a list that is not whole is not believed");
        cache.take(Event::InitDone, &view);
        assert_eq!((cache.get("ns/a"), notified()), (Some("1".to_owned()), 1));
        cache.take(Event::Apply(object("a", "1")), &view);
        assert_eq!(notified(), 1);
        cache.take(Event::Apply(object("a", "2")), &view);
        cache.take(Event::Apply(object("a", "none")), &view);
        cache.take(Event::Delete(object("a", "2")), &view);
        assert_eq!((cache.get("ns/a"), notified()), (None, 3));
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_its_end() {
        let cache = ObjectCache::new("maps", Signal::default());
        let list = |cache: &ObjectCache<String>, names: &[&str]| {
            cache.take(Event::<ConfigMap>::Init, &view);
            for name in names {
                cache.take(Event::InitApply(object(name, "1")), &view);
            }
        };
        list(&cache, &["a", "b"]);
        cache.take(Event::<ConfigMap>::InitDone, &view);
        list(&cache, &["b"]);
        assert_eq!(cache.all().map(|all| all.len()), Some(2), "the old one holds until the new one is whole");
        cache.take(Event::<ConfigMap>::InitDone, &view);
        assert_eq!(cache.all().map(|all| all.into_keys().collect()), Some(vec!["ns/b".to_owned()]));
    }
}
