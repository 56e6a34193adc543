//! The consumers of an allocation, and the order of allocations.
//!
//! Two levels of turns: an allocation's among those of its priority, and a consumer's among those of its allocation.
//! Above them are the priorities, in strict order but for a floor: a lower one is *due* when it has had less than a
//! tenth of all turns since its last call, and then it goes first. It saves nothing up: what it has not used of the
//! floor is gone with its next call.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};

use super::turns::{Correction, Turns};
use super::{ConsumerId, ConsumerQueue};
use crate::mutant::{self, Mutant};
use crate::name::{AllocationName, Consumer};
use crate::sharing::{Priority, Sharing, WHOLE};

/// One turn of an allocation whose share is all.
const TURN: u64 = 1 << 16;
/// Of so many turns a lower priority has at least one, while its calls wait.
const FLOOR: u64 = 10;
/// Comes after every priority that is due.
const NOT_DUE: u64 = 1 << 63;

/// An allocation, by its number; 0 are the calls of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(u32);

impl GroupId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The consumers of an allocation.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// `None`: the calls of no allocation.
    name: Option<AllocationName>,
    /// In parts of [`WHOLE`].
    share: u64,
    priority: Priority,
    pub(super) turns: Turns,
    /// Of its consumers.
    pub(super) virtual_time: u64,
    pub(super) by_name: HashMap<Consumer, ConsumerId>,
}

impl Group {
    fn new(name: Option<AllocationName>) -> Group {
        Group {
            name,
            share: WHOLE,
            priority: Priority::Normal,
            turns: Turns::default(),
            virtual_time: 0,
            by_name: HashMap::new(),
        }
    }

    /// The virtual time that so many of its turns take.
    pub(super) fn length(&self, turns: u64) -> u64 {
        (TURN * WHOLE / self.share.max(1)).saturating_mul(turns)
    }
}

/// What is known of a priority.
#[derive(Clone, Copy, Debug, Default)]
struct Band {
    /// Of its allocations.
    virtual_time: u64,
    /// It goes before higher priorities once so many turns have been had in all.
    due: u64,
}

/// All allocations, in the order of their numbers.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    groups: Vec<Group>,
    bands: [Band; Priority::ALL.len()],
    /// Turns that were had, of all.
    had: u64,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups { groups: vec![Group::new(None)], bands: Default::default(), had: 0 }
    }
}

impl std::ops::Index<GroupId> for Groups {
    type Output = Group;
    fn index(&self, group: GroupId) -> &Group {
        &self.groups[group.index()]
    }
}

impl std::ops::IndexMut<GroupId> for Groups {
    fn index_mut(&mut self, group: GroupId) -> &mut Group {
        &mut self.groups[group.index()]
    }
}

impl Groups {
    /// Takes on how the account is shared. An allocation that is gone keeps its number, for the calls that wait.
    pub(super) fn configure(&mut self, sharing: &Sharing) {
        let (shares, of_none) = sharing.shares();
        for group in &mut self.groups {
            (group.share, group.priority) = (of_none, Priority::Normal);
        }
        for (allocation, share) in sharing.allocations.iter().zip(shares) {
            let known = self.groups.iter_mut().find(|it| it.name.as_ref() == Some(&allocation.name));
            let group = match known {
                Some(known) => known,
                None => {
                    self.groups.push(Group::new(Some(allocation.name.clone())));
                    let Some(new) = self.groups.last_mut() else { continue };
                    new
                }
            };
            let equal = mutant::active(Mutant::SharesIgnored);
            group.share = if equal { WHOLE / (sharing.allocations.len() as u64 + 1) } else { share };
            group.priority = allocation.priority;
        }
    }

    /// The numbers of the allocations, known by their names.
    pub(super) fn by_name(&self) -> BTreeMap<AllocationName, GroupId> {
        let numbered = (0..).map(GroupId).zip(&self.groups);
        numbered.filter_map(|(id, group)| Some((group.name.clone()?, id))).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.groups.iter_mut()
    }

    /// Where the next turn of an allocation stands among those of all: the lowest goes first.
    pub(super) fn place(&self, group: GroupId) -> GroupPlace {
        if self.groups.len() == 1 {
            return GroupPlace::default();
        }
        let group = &self[group];
        let due = self.bands[group.priority as usize].due;
        let starved = mutant::active(Mutant::NoFloor);
        let is_due = group.priority != Priority::Interactive && due <= self.had && !starved;
        let precedence = if is_due { due } else { NOT_DUE + group.priority as u64 };
        GroupPlace { precedence, tag: group.turns.tag }
    }

    /// A call of an allocation comes that takes so many turns.
    pub(super) fn arrive(&mut self, group: GroupId, turns: u32) {
        let now = self.bands[self[group].priority as usize].virtual_time;
        self[group].turns.arrive(turns, now);
    }

    /// A call of an allocation has its turn, which is as long as so many of cost 1.
    pub(super) fn take(&mut self, id: GroupId, turns: u64) {
        if self.groups.len() == 1 {
            return;
        }
        let group = &mut self.groups[id.index()];
        let band = &mut self.bands[group.priority as usize];
        let length = group.length(turns);
        let taken = group.turns.take(length, band.virtual_time);
        group.turns.tag = taken.next;
        *band = Band { virtual_time: taken.start, due: self.had.saturating_add(turns.saturating_mul(FLOOR)) };
        self.had = self.had.saturating_add(turns);
    }

    /// The same call took more turns, or fewer, than it had.
    pub(super) fn correct(&mut self, id: GroupId, more: u64, less: u64) {
        if self.groups.len() == 1 {
            return;
        }
        let group = &mut self.groups[id.index()];
        let band = &mut self.bands[group.priority as usize];
        let correction = Correction { more: group.length(more), less: group.length(less) };
        group.turns.tag = group.turns.correct(correction, band.virtual_time);
        // The floor is a part of what was really had.
        let floor = |turns: u64| turns.saturating_mul(FLOOR);
        band.due = band.due.saturating_add(floor(more)).saturating_sub(floor(less));
        self.had = self.had.saturating_add(more).saturating_sub(less);
    }

    /// How many calls of other allocations get a turn before one of this allocation does that has `ahead` of its own
    /// before it.
    pub(super) fn ahead_of(&self, id: GroupId, ahead: u64) -> u64 {
        if self.groups.len() == 1 {
            return 0;
        }
        let own = &self[id];
        let now = self.bands[own.priority as usize].virtual_time;
        let start = own.turns.tag.max(now).saturating_add(own.length(ahead.saturating_mul(own.turns.mean())));
        let others = || self.groups.iter().enumerate().filter(|(at, _)| *at != id.index()).map(|(_, it)| it);
        let beside = others().filter(|other| other.priority == own.priority).map(|other| {
            let each = other.length(other.turns.mean()).max(1);
            start.saturating_sub(other.turns.tag.max(now)).div_ceil(each).min(other.turns.calls)
        });
        let beside = ahead + beside.sum::<u64>();
        let waiting = |priorities: fn(Priority, Priority) -> bool| -> u64 {
            others().filter(|other| priorities(other.priority, own.priority)).map(|it| it.turns.calls).sum()
        };
        let higher = waiting(|other, own| other < own).min((beside + 1).saturating_mul(FLOOR - 1));
        let lower = waiting(|other, own| other > own).min((beside + higher) / (FLOOR - 1) + 1);
        beside - ahead + higher + lower
    }
}

/// Where the turn of an allocation stands among those of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupPlace {
    precedence: u64,
    tag: u64,
}

/// Consumers that are forgotten when there are many: of whom nothing would be remembered.
pub(super) fn idle_consumers(group: &mut Group, consumers: &[ConsumerQueue]) -> Vec<ConsumerId> {
    let mut idle = Vec::new();
    let now = group.virtual_time;
    group.by_name.retain(|_, id| {
        let keep = !consumers[id.index()].is_idle(now);
        if !keep {
            idle.push(*id);
        }
        keep
    });
    idle
}
