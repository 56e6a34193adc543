//! Entries by ids that go stale: an entry that was dropped is never mistaken for the one in its place.

/// The id of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    slot: u32,
    generation: u32,
}

/// Entries, each in a slot that is used again once it was dropped.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    /// How often the slot was freed.
    generation: u32,
    entry: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// An entry, unless it was dropped.
    pub(super) fn get(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.entry.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// An entry to change, unless it was dropped.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.entry.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// A new entry.
    pub(super) fn insert(&mut self, entry: T) -> Id {
        if let Some(free) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(free as usize)
        {
            slot.entry = Some(entry);
            return Id { slot: free, generation: slot.generation };
        }
        self.slots.push(Slot { generation: 0, entry: Some(entry) });
        Id { slot: (self.slots.len() - 1) as u32, generation: 0 }
    }

    /// Drops an entry.
    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(entry)
    }

    /// All entries with their ids, by slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = Id { slot: index as u32, generation: slot.generation };
            slot.entry.as_ref().map(|entry| (id, entry))
        })
    }
}
