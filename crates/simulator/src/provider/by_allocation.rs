//! What allocations draw, and how many calls of each workload the provider serves at the same time.

use std::collections::BTreeMap;

use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::name::AllocationName;

use crate::clock::Moment;

/// Calls by their allocation and their workload.
#[derive(Debug)]
pub(super) struct ByAllocation {
    /// The most calls of a workload at the same time.
    most: Option<u64>,
    under_way: BTreeMap<String, u64>,
    /// Calls beyond it.
    pub(super) over: u64,
    /// When calls of each allocation arrived, and what they have drawn.
    drawn: BTreeMap<AllocationName, Vec<(Moment, u64)>>,
}

impl ByAllocation {
    pub(super) fn new(account: &AccountConfig) -> ByAllocation {
        ByAllocation {
            most: account.sharing.max_concurrent_per_workload.map(u64::from),
            under_way: BTreeMap::new(),
            over: 0,
            drawn: BTreeMap::new(),
        }
    }

    /// A call is served.
    pub(super) fn begins(&mut self, workload: &str) {
        if let Some(most) = self.most {
            let under_way = self.under_way.entry(workload.to_owned()).or_default();
            *under_way += 1;
            self.over += u64::from(*under_way > most);
        }
    }

    /// The answer to a call has left that arrived then and has drawn so much.
    pub(super) fn ends(
        &mut self,
        workload: &str,
        allocation: Option<&AllocationName>,
        arrived: Moment,
        drawn: u64,
    ) {
        if let Some(under_way) = self.under_way.get_mut(workload) {
            *under_way -= 1;
        }
        if let Some(allocation) = allocation {
            self.drawn.entry(allocation.clone()).or_default().push((arrived, drawn));
        }
    }

    /// What an allocation has drawn of calls that arrived in `[from, to)`.
    pub(super) fn drawn_by(&self, allocation: &str, from: Moment, to: Moment) -> u64 {
        let calls = self.drawn.get(allocation).into_iter().flatten();
        calls.filter(|(arrived, _)| (from..to).contains(arrived)).map(|(_, drawn)| drawn).sum()
    }
}
