//! Storage of the units that a limit holds, with keys that know when their unit is gone.

use serde::{Deserialize, Serialize};

use crate::cost::Amount;
use crate::time::Time;

/// Names a unit; a key of a unit that has left finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitKey {
    index: u32,
    generation: u32,
}

/// One charge at one limit: a call's, or of many calls that nobody has to know apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// S: the provider has counted it by then, or never will.
    pub(crate) settles: Time,
    /// When it leaves the log; of meaning once it is counted.
    pub(crate) leaves: Time,
    /// How much is charged. [`Units`] keeps the sum, so only it changes it.
    cost: Amount,
    /// Compared with the key's: another unit may have been in the same place before.
    generation: u32,
    /// Whether S has passed: it is in the bucket's level and no longer in flight.
    pub(crate) counted: bool,
    /// What it stands for.
    pub(crate) origin: Origin,
}

/// What a unit stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A call that this engine granted, or learned of from its proxy.
    Call,
    /// Grants that an earlier incarnation may have made after its last commit.
    Reserve,
    /// Use of the time before this engine, of which nothing is known.
    Past,
    /// Use of the account by others, seen in the provider's headers.
    Others,
}

impl Unit {
    /// A unit that is in flight until `settles`.
    pub(crate) fn in_flight(cost: Amount, settles: Time, origin: Origin) -> Unit {
        Unit { settles, leaves: Time::NEVER, cost, generation: 0, counted: false, origin }
    }

    /// A unit that the provider has counted.
    pub(crate) fn counted(cost: Amount, settles: Time, leaves: Time, origin: Origin) -> Unit {
        Unit { settles, leaves, cost, generation: 0, counted: true, origin }
    }

    pub(crate) fn cost(&self) -> Amount {
        self.cost
    }
}

/// Units by key; a freed place is used again under another generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units {
    places: Vec<Option<Unit>>,
    /// The keys that units in free places will have.
    free: Vec<UnitKey>,
    amount: Amount,
}

impl Units {
    pub(crate) fn insert(&mut self, unit: Unit) -> UnitKey {
        self.amount += unit.cost;
        if let Some(key) = self.free.pop() {
            self.places[key.index as usize] = Some(Unit { generation: key.generation, ..unit });
            return key;
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Some(Unit { generation: 0, ..unit }));
        UnitKey { index, generation: 0 }
    }

    pub(crate) fn get(&self, key: UnitKey) -> Option<&Unit> {
        self.places.get(key.index as usize)?.as_ref().filter(|unit| unit.generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: UnitKey) -> Option<&mut Unit> {
        self.places.get_mut(key.index as usize)?.as_mut().filter(|unit| unit.generation == key.generation)
    }

    pub(crate) fn remove(&mut self, key: UnitKey) -> Option<Unit> {
        let unit = self.get(key).copied()?;
        self.places[key.index as usize] = None;
        self.free.push(UnitKey { generation: key.generation.wrapping_add(1), ..key });
        self.amount -= unit.cost;
        Some(unit)
    }

    /// Has a unit stand for another amount.
    pub(crate) fn set_cost(&mut self, key: UnitKey, cost: Amount) {
        if let Some(unit) = self.get_mut(key) {
            let before = std::mem::replace(&mut unit.cost, cost);
            self.amount = self.amount - before + cost;
        }
    }

    /// The sum of what they stand for.
    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (UnitKey, &Unit)> {
        self.places.iter().enumerate().filter_map(|(index, unit)| {
            let unit = unit.as_ref()?;
            Some((UnitKey { index: index as u32, generation: unit.generation }, unit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_takes_32_bytes_like_one_without_an_amount() {
        assert_eq!(size_of::<Option<Unit>>(), 32);
    }

    #[test]
    fn the_sum_follows_every_change_and_a_stale_key_finds_nothing() {
        let mut units = Units::default();
        let unit = |cost| Unit::in_flight(Amount(cost), Time(1), Origin::Call);
        let (small, big) = (units.insert(unit(1)), units.insert(unit(500)));
        assert_eq!(units.amount(), Amount(501));
        units.set_cost(big, Amount(20));
        assert_eq!(units.amount(), Amount(21));
        units.remove(small);
        let next = units.insert(unit(7));
        assert_eq!(units.amount(), Amount(27));
        assert!(units.get(small).is_none());
        units.set_cost(small, Amount(99));
        assert_eq!((units.amount(), units.get(next).map(Unit::cost)), (Amount(27), Some(Amount(7))));
    }
}
