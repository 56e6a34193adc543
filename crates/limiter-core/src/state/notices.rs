//! What proxies have seen that the authors of their workloads should know; also of those that have left: a program that
//! can make no call may end within a second, and its pod with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quotakeeper_engine::time::Time;
use quotakeeper_wire::message::NoticeKind;
use quotakeeper_wire::name::AccountKey;
use quotakeeper_wire::status::ConsumerNotice;

use super::{Connection, LimiterState};

/// The workloads of an account whose notices are reported; more would make a report too long to read.
const MOST_CONSUMERS: usize = 1000;
/// How long notices are kept after their proxy has left.
const KEPT: Duration = Duration::from_secs(60);
/// The most notices that are kept; the oldest are dropped.
const MOST_KEPT: usize = 1000;

/// The notices of proxies that have left, oldest first.
#[derive(Debug, Default)]
pub(super) struct LeftNotices(VecDeque<LeftNotice>);

#[derive(Debug)]
struct LeftNotice {
    left: Time,
    account: AccountKey,
    notice: ConsumerNotice,
}

impl LeftNotices {
    /// The proxy of a connection has left.
    pub(super) fn keep(&mut self, connection: &Connection, now: Time) {
        for account in connection.accounts.iter().flatten() {
            for notice in connection.notices(account) {
                self.0.push_back(LeftNotice { left: now, account: account.clone(), notice });
            }
        }
        while self.0.len() > MOST_KEPT || self.0.front().is_some_and(|first| now.since(first.left) > KEPT) {
            self.0.pop_front();
        }
    }

    fn of<'n>(&'n self, account: &'n AccountKey, now: Time) -> impl Iterator<Item = ConsumerNotice> + 'n {
        let kept = self.0.iter().filter(move |it| it.account == *account && now.since(it.left) <= KEPT);
        kept.map(|it| it.notice.clone())
    }
}

impl LimiterState {
    /// What the proxies of each workload have seen of an account.
    pub(super) fn notices(&self, account: &AccountKey, now: Time) -> Vec<ConsumerNotice> {
        let mut seen: BTreeMap<(String, NoticeKind), ConsumerNotice> = BTreeMap::new();
        let connected = self.connections.values().flat_map(|connection| connection.notices(account));
        for notice in connected.chain(self.left_notices.of(account, now)) {
            let key = (notice.consumer.to_string(), notice.kind);
            if let Some(known) = seen.get_mut(&key) {
                known.proxies += 1;
            } else if seen.len() < MOST_CONSUMERS {
                seen.insert(key, notice);
            }
        }
        seen.into_values().collect()
    }
}

impl Connection {
    /// What its proxy has seen of an account.
    fn notices(&self, account: &AccountKey) -> impl Iterator<Item = ConsumerNotice> {
        let consumer = self.session.consumer();
        let notices = self.index_of(account).into_iter().flat_map(|index| self.session.notices(index));
        notices.map(|(kind, detail)| ConsumerNotice {
            consumer: consumer.into(),
            kind,
            detail: detail.to_owned(),
            proxies: 1,
        })
    }
}
