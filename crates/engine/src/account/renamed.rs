//! Limits that have another name in the configuration that a limiter starts with than in its ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lanes::Limit;
use super::ledger::{Snapshot, SnapshotLimit};
use crate::cost::Amount;
use crate::mutant::{self, Mutant};

/// The new name of each limit of the ledger whose name is gone, where one of another name counts the same: another name
/// is no new count.
fn new_names(known: &BTreeMap<String, SnapshotLimit>, limits: &[Arc<Limit>]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    if mutant::active(Mutant::RenameStartsAnew) {
        return names;
    }
    let gone = known.iter().filter(|(name, _)| limits.iter().all(|limit| limit.config.name != **name));
    for (name, old) in gone {
        let same = |limit: &&Arc<Limit>| {
            let new = &limit.config.name;
            let taken = known.contains_key(new) || names.values().any(|taken| taken == new);
            !taken && old.is_continued_by(&limit.in_ledger())
        };
        if let Some(limit) = limits.iter().find(same) {
            names.insert(name.clone(), limit.config.name.clone());
        }
    }
    names
}

fn rename<T>(by_name: &mut BTreeMap<String, T>, names: &BTreeMap<String, String>) {
    let taken: Vec<_> =
        names.iter().filter_map(|(old, new)| Some((new.clone(), by_name.remove(old)?))).collect();
    by_name.extend(taken);
}

/// Gives what the ledger has of limits the names that these have now.
pub(super) fn rename_limits(
    limits: &[Arc<Limit>],
    snapshot: &mut Snapshot,
    reserve: &mut BTreeMap<String, Amount>,
) {
    let names = new_names(&snapshot.limits, limits);
    rename(&mut snapshot.limits, &names);
    rename(reserve, &names);
    for counter in &mut snapshot.counters {
        if let Some(name) = names.get(&counter.limit) {
            counter.limit.clone_from(name);
        }
    }
    for pause in &mut snapshot.pauses {
        if let Some(limit) = pause.scope.limit.as_mut()
            && let Some(name) = names.get(limit)
        {
            limit.clone_from(name);
        }
    }
}
