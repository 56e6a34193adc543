//! Times at which to look at something again, the earliest first.
//!
//! An alarm that is set anew or given up stays in the heap until it comes up or most of the heap
//! is such leftovers: taking it out at once would cost a search.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Below so many entries nothing is swept.
const FEW: usize = 64;

/// Alarms of things that are named by `K`. What each is set to, its owner knows.
#[derive(Clone, Debug)]
pub(crate) struct Alarms<K>(BinaryHeap<Reverse<(Time, K)>>);

impl<K> Default for Alarms<K>
where
    K: Ord,
{
    fn default() -> Self {
        Alarms(BinaryHeap::new())
    }
}

impl<K: Ord + Copy> Alarms<K> {
    /// Sets an alarm. `owners` are alive, with one alarm each, which `set` returns: the new one for this owner.
    pub(crate) fn set(&mut self, at: Time, key: K, owners: usize, set: impl Fn(K) -> Option<Time>) {
        if self.0.len() > 3 * owners + FEW {
            self.0.retain(|Reverse((at, key))| set(*key) == Some(*at));
        }
        self.0.push(Reverse((at, key)));
        self.changed(key, set);
    }

    /// The alarm of this owner is another now, or none.
    pub(crate) fn changed(&mut self, key: K, set: impl Fn(K) -> Option<Time>) {
        if self.0.peek().is_some_and(|Reverse((_, first))| *first == key) {
            self.sweep_first(set);
        }
    }

    /// The first alarm.
    pub(crate) fn first(&self) -> Option<(Time, K)> {
        self.0.peek().map(|Reverse(first)| *first)
    }

    /// Takes out the first alarm.
    pub(crate) fn pop(&mut self, set: impl Fn(K) -> Option<Time>) {
        self.0.pop();
        self.sweep_first(set);
    }

    /// What stands first is set.
    fn sweep_first(&mut self, set: impl Fn(K) -> Option<Time>) {
        while let Some(&Reverse((at, key))) = self.0.peek()
            && set(key) != Some(at)
        {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_what_is_set_rings_and_leftovers_are_swept() {
        let mut alarms = Alarms::default();
        let mut owners = BTreeMap::new();
        for round in 0..1000u64 {
            for key in 0..10u64 {
                let at = Time(round * 100 + key);
                owners.insert(key, at);
                alarms.set(at, key, owners.len(), |key| owners.get(&key).copied());
            }
        }
        assert!(alarms.0.len() <= 3 * 10 + FEW + 1);
        owners.remove(&0);
        alarms.changed(0, |key| owners.get(&key).copied());
        let mut rung = Vec::new();
        while let Some((at, key)) = alarms.first() {
            assert_eq!(owners.remove(&key), Some(at));
            alarms.pop(|key| owners.get(&key).copied());
            rung.push(key);
        }
        assert_eq!(rung, (1..10).collect::<Vec<_>>());
    }
}
