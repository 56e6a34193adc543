//! The views of one kind of object.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::signal::Signal;

/// Views of one kind of object, by [`key`].
#[derive(Debug)]
pub struct ObjectCache<T> {
    what: &'static str,
    inner: Mutex<Inner<T>>,
    signal: Signal,
}

#[derive(Debug)]
struct Inner<T> {
    known: BTreeMap<String, T>,
    /// The part of a new list that has arrived so far.
    incoming: Option<BTreeMap<String, T>>,
    synced: bool,
}

/// What an event changed.
struct Change<T> {
    /// The views that were removed or replaced.
    replaced: Vec<T>,
    notify: bool,
}

impl<T> Change<T> {
    fn none() -> Self {
        Self { replaced: Vec::new(), notify: false }
    }

    fn of(replaced: Option<T>) -> Self {
        Self { replaced: replaced.into_iter().collect(), notify: true }
    }
}

impl<T: Clone + PartialEq> ObjectCache<T> {
    /// An empty cache that notifies `signal` of changes. `what` names the objects in logs and probes:
    /// `quotas`.
    pub fn new(what: &'static str, signal: Signal) -> Self {
        let inner = Inner { known: BTreeMap::new(), incoming: None, synced: false };
        Self { what, inner: Mutex::new(inner), signal }
    }

    /// All views; none before the first list is complete.
    pub fn all(&self) -> Option<BTreeMap<String, T>> {
        let inner = self.lock();
        inner.synced.then(|| inner.known.clone())
    }

    /// One view.
    pub fn get(&self, key: &str) -> Option<T> {
        self.lock().known.get(key).cloned()
    }

    /// Maps the views to what `f` finds in them, without a copy of the cache.
    pub fn filter_map<U>(&self, mut f: impl FnMut(&str, &T) -> Option<U>) -> Vec<U> {
        self.lock().known.iter().filter_map(|(key, view)| f(key, view)).collect()
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.lock().synced
    }

    /// The objects, for people: `quotas`.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Applies a watch event, and returns the views that it removed or replaced.
    ///
    /// `view` reads an object; it also gets the view before, so that an object that can't be read any
    /// more can stand by its last good state. None: the object is left out.
    pub fn apply<K: ResourceExt>(
        &self,
        event: Event<K>,
        view: &impl Fn(K, Option<&T>) -> Option<T>,
    ) -> Vec<T> {
        let change = self.lock().apply(event, view);
        if change.notify {
            self.signal.notify();
        }
        change.replaced
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: PartialEq> Inner<T> {
    fn apply<K: ResourceExt>(
        &mut self,
        event: Event<K>,
        view: &impl Fn(K, Option<&T>) -> Option<T>,
    ) -> Change<T> {
        match event {
            Event::Init => {
                self.incoming = Some(BTreeMap::new());
                Change::none()
            }
            Event::InitApply(object) => {
                let key = key(&object);
                let view = view(object, self.known.get(&key));
                if let (Some(incoming), Some(view)) = (&mut self.incoming, view) {
                    incoming.insert(key, view);
                }
                Change::none()
            }
            Event::InitDone => self.replace_all(),
            Event::Apply(object) => {
                let key = key(&object);
                match view(object, self.known.get(&key)) {
                    Some(view) if self.known.get(&key) == Some(&view) => Change::none(),
                    Some(view) => Change::of(self.known.insert(key, view)),
                    None => self.remove(&key),
                }
            }
            Event::Delete(object) => self.remove(&key(&object)),
        }
    }

    fn remove(&mut self, key: &str) -> Change<T> {
        match self.known.remove(key) {
            Some(removed) => Change::of(Some(removed)),
            None => Change::none(),
        }
    }

    fn replace_all(&mut self) -> Change<T> {
        let new = self.incoming.take().unwrap_or_default();
        let notify = !self.synced || new != self.known;
        self.synced = true;
        let old = std::mem::replace(&mut self.known, new);
        let replaced = old.into_iter().filter(|(key, view)| self.known.get(key) != Some(view));
        Change { replaced: replaced.map(|(_, view)| view).collect(), notify }
    }
}

/// `namespace/name`, or `name` of an object without a namespace.
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

    fn view(map: ConfigMap, before: Option<&String>) -> Option<String> {
        match map.data?.remove("value")?.as_str() {
            "none" => None,
            "unreadable" => before.cloned(),
            value => Some(value.to_owned()),
        }
    }

    fn list(cache: &ObjectCache<String>, objects: &[(&str, &str)]) -> Vec<String> {
        cache.apply(Event::<ConfigMap>::Init, &view);
        for (name, value) in objects {
            cache.apply(Event::InitApply(object(name, value)), &view);
        }
        cache.apply(Event::<ConfigMap>::InitDone, &view)
    }

    #[test]
    fn only_a_change_of_a_view_notifies() {
        let signal = Signal::default();
        let subscriber = signal.subscribe();
        let notified = || *subscriber.borrow();
        let cache = ObjectCache::new("maps", signal);
        for event in [Event::Init, Event::InitApply(object("a", "1"))] {
            cache.apply(event, &view);
        }
        assert_eq!((cache.all(), notified()), (None, 0), "a list that is not complete is not used");
        cache.apply(Event::<ConfigMap>::InitDone, &view);
        assert_eq!((cache.get("ns/a"), notified()), (Some("1".to_owned()), 1));
        cache.apply(Event::Apply(object("a", "1")), &view);
        assert_eq!(notified(), 1);
        cache.apply(Event::Apply(object("a", "2")), &view);
        cache.apply(Event::Apply(object("a", "none")), &view);
        cache.apply(Event::Delete(object("a", "2")), &view);
        assert_eq!((cache.get("ns/a"), notified()), (None, 3));
    }

    #[test]
    fn a_new_list_replaces_the_old_one_when_it_is_complete() {
        let cache = ObjectCache::new("maps", Signal::default());
        list(&cache, &[("a", "1"), ("b", "1")]);
        cache.apply(Event::<ConfigMap>::Init, &view);
        cache.apply(Event::InitApply(object("b", "1")), &view);
        assert_eq!(cache.all().map(|all| all.len()), Some(2), "the old one holds until then");
        cache.apply(Event::<ConfigMap>::InitDone, &view);
        assert_eq!(cache.all().map(|all| all.into_keys().collect()), Some(vec!["ns/b".to_owned()]));
    }

    #[test]
    fn what_is_removed_or_replaced_is_returned() {
        let cache = ObjectCache::new("maps", Signal::default());
        assert!(list(&cache, &[("a", "1"), ("b", "2"), ("c", "3")]).is_empty());
        assert_eq!(list(&cache, &[("a", "1"), ("b", "4")]), ["2", "3"]);
        assert!(cache.apply(Event::Apply(object("a", "1")), &view).is_empty());
        assert_eq!(cache.apply(Event::Apply(object("a", "5")), &view), ["1"]);
        assert_eq!(cache.apply(Event::Delete(object("a", "5")), &view), ["5"]);
        assert!(cache.apply(Event::Delete(object("a", "5")), &view).is_empty());
    }

    #[test]
    fn an_object_that_can_not_be_read_any_more_may_stand_by_its_last_good_state() {
        let cache = ObjectCache::new("maps", Signal::default());
        list(&cache, &[("a", "1"), ("b", "unreadable")]);
        cache.apply(Event::Apply(object("a", "unreadable")), &view);
        assert_eq!((cache.get("ns/a"), cache.get("ns/b")), (Some("1".to_owned()), None));
        list(&cache, &[("a", "unreadable"), ("b", "2")]);
        assert_eq!((cache.get("ns/a"), cache.get("ns/b")), (Some("1".to_owned()), Some("2".to_owned())));
    }
}
