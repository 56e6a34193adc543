//! Storage of the units that a limit holds, with keys that know when their unit is gone.

use crate::time::Time;

/// Names a unit; a key of a unit that has left finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnitKey {
    index: u32,
    generation: u32,
}

/// One charged call at one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// S: the provider has counted it by then, or never will.
    pub(crate) settles: Time,
    /// When it leaves the log; of meaning once it is counted.
    pub(crate) leaves: Time,
    /// Whether S has passed: it is in the bucket's level and no longer in flight.
    pub(crate) counted: bool,
    /// What it stands for.
    pub(crate) origin: Origin,
}

/// What a unit stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A call that this engine granted or was told of.
    Call,
    /// A grant that an earlier incarnation may have made after its last commit.
    Reserve,
    /// Use of the time before this engine, of which nothing is known.
    Past,
    /// Use of the account by others, seen in the provider's headers.
    Others,
}

/// Units by key; a freed place is used again under another generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units {
    places: Vec<(u32, Option<Unit>)>,
    free: Vec<u32>,
}

impl Units {
    pub(crate) fn insert(&mut self, unit: Unit) -> UnitKey {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.1 = Some(unit);
            return UnitKey { index, generation: place.0 };
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push((0, Some(unit)));
        UnitKey { index, generation: 0 }
    }

    pub(crate) fn get(&self, key: UnitKey) -> Option<&Unit> {
        let place = self.places.get(key.index as usize)?;
        place.1.as_ref().filter(|_| place.0 == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: UnitKey) -> Option<&mut Unit> {
        let place = self.places.get_mut(key.index as usize)?;
        let generation = place.0;
        place.1.as_mut().filter(|_| generation == key.generation)
    }

    pub(crate) fn remove(&mut self, key: UnitKey) -> Option<Unit> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.0 != key.generation {
            return None;
        }
        let unit = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        Some(unit)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (UnitKey, &Unit)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = UnitKey { index: index as u32, generation: place.0 };
            place.1.as_ref().map(|unit| (key, unit))
        })
    }
}
