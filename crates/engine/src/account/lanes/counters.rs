//! The counters of an account by their numbers, which are never used twice.

use super::{CounterId, Entry};

/// A number's place stays empty when its counter is gone: 8 bytes.
#[derive(Debug, Default)]
pub(super) struct Counters(Vec<Option<Box<Entry>>>);

impl Counters {
    pub(super) fn add(&mut self, entry: Entry) -> CounterId {
        self.0.push(Some(Box::new(entry)));
        CounterId(self.0.len() - 1)
    }

    pub(super) fn get(&self, id: CounterId) -> Option<&Entry> {
        self.0.get(id.0)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: CounterId) -> Option<&mut Entry> {
        self.0.get_mut(id.0)?.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CounterId, &Entry)> {
        let places = self.0.iter().enumerate();
        places.filter_map(|(place, entry)| Some((CounterId(place), entry.as_deref()?)))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut().filter_map(|entry| entry.as_deref_mut())
    }

    /// Forgets those of which `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(CounterId, &mut Entry) -> bool) {
        for (place, entry) in self.0.iter_mut().enumerate() {
            if entry.as_deref_mut().is_some_and(|entry| !keep(CounterId(place), entry)) {
                *entry = None;
            }
        }
    }
}
