//! Whose review is answered next. No address holds all turns, and the one that holds fewest gets the next: every pod of
//! the cluster can reach the webhook, and the API server shows no more of who it is than they do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many turns there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// At a time.
    pub(crate) all: usize,
    /// Of these, of one address.
    pub(crate) of_peer: usize,
    /// Requests of one address that wait; others are refused.
    pub(crate) waiting_of_peer: usize,
}

/// What becomes of a request that has come. `T` is what is kept of one that waits.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Admitted,
    Waits,
    TooMany,
}

/// Who holds turns and who waits: the decision alone.
#[derive(Debug)]
struct Order<T> {
    most: Most,
    held: HashMap<IpAddr, usize>,
    all: usize,
    /// In the order in which they came.
    waiting: Vec<(IpAddr, T)>,
}

impl<T> Order<T> {
    fn new(most: Most) -> Order<T> {
        Order { most, held: HashMap::new(), all: 0, waiting: Vec::new() }
    }

    fn held_by(&self, peer: IpAddr) -> usize {
        self.held.get(&peer).copied().unwrap_or(0)
    }

    fn may_begin(&self, peer: IpAddr) -> bool {
        self.all < self.most.all && self.held_by(peer) < self.most.of_peer
    }

    fn begin(&mut self, peer: IpAddr) {
        self.all += 1;
        *self.held.entry(peer).or_default() += 1;
    }

    /// `keep` makes what is kept of it, where it waits; those that `gave_up` wait no longer.
    fn ask(&mut self, peer: IpAddr, keep: impl FnOnce() -> T, gave_up: impl Fn(&T) -> bool) -> Asked {
        if self.may_begin(peer) {
            self.begin(peer);
            return Asked::Admitted;
        }
        let waiting = |waiting: &[(IpAddr, T)]| waiting.iter().filter(|(other, _)| *other == peer).count();
        if waiting(&self.waiting) >= self.most.waiting_of_peer {
            self.waiting.retain(|(_, kept)| !gave_up(kept));
            if waiting(&self.waiting) >= self.most.waiting_of_peer {
                return Asked::TooMany;
            }
        }
        self.waiting.push((peer, keep()));
        Asked::Waits
    }

    fn leave(&mut self, peer: IpAddr) {
        self.all = self.all.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&peer) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&peer);
            }
        }
    }

    /// Gives the next turn, if one is free: to the first request of the address that holds fewest.
    fn next(&mut self) -> Option<(IpAddr, T)> {
        let may = self.waiting.iter().enumerate().filter(|(_, (peer, _))| self.may_begin(*peer));
        let (place, _) = may.min_by_key(|(place, (peer, _))| (self.held_by(*peer), *place))?;
        let (peer, kept) = self.waiting.remove(place);
        self.begin(peer);
        Some((peer, kept))
    }
}

/// The turns of a kind of request.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Mutex<Order<oneshot::Sender<Turn>>>>);

impl Turns {
    pub(crate) fn new(most: Most) -> Turns {
        Turns(Arc::new(Mutex::new(Order::new(most))))
    }

    fn order(&self) -> MutexGuard<'_, Order<oneshot::Sender<Turn>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn; `None`: too many requests of this address wait already. Safe to cancel.
    pub(crate) async fn take(&self, peer: IpAddr) -> Option<Turn> {
        let peer = peer.to_canonical();
        let (sender, receiver) = oneshot::channel();
        let asked = self.order().ask(peer, || sender, oneshot::Sender::is_closed);
        match asked {
            Asked::Admitted => Some(Turn { peer, turns: Some(self.clone()) }),
            Asked::Waits => receiver.await.ok(),
            Asked::TooMany => None,
        }
    }

    fn pass_on(&self) {
        loop {
            let next = self.order().next();
            let Some((peer, waits)) = next else { return };
            if let Err(mut turn) = waits.send(Turn { peer, turns: Some(self.clone()) }) {
                // Nobody waits for it any more.
                turn.turns = None;
                self.order().leave(peer);
            }
        }
    }
}

/// A turn. Dropped, it is another's.
#[derive(Debug)]
pub(crate) struct Turn {
    peer: IpAddr,
    turns: Option<Turns>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.order().leave(self.peer);
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const C: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));
    const MOST: Most = Most { all: 4, of_peer: 3, waiting_of_peer: 2 };

    #[test]
    fn the_address_that_holds_fewest_is_next() {
        let mut order = Order::new(MOST);
        let mut ask = |peer, number: u32| order.ask(peer, || number, |_| false);
        assert_eq!(
            [1, 2, 3].map(|number| ask(A, number)),
            [Asked::Admitted, Asked::Admitted, Asked::Admitted]
        );
        assert_eq!([ask(A, 4), ask(A, 5), ask(A, 6)], [Asked::Waits, Asked::Waits, Asked::TooMany]);
        assert_eq!([ask(B, 7), ask(B, 8), ask(C, 9)], [Asked::Admitted, Asked::Waits, Asked::Waits]);
        assert_eq!(order.next(), None);
        order.leave(A);
        assert_eq!(order.next(), Some((C, 9)));
        order.leave(A);
        assert_eq!(order.next(), Some((A, 4)), "one each: the first that came");
        order.leave(C);
        assert_eq!([order.next(), order.next()], [Some((B, 8)), None]);
    }

    #[test]
    fn requests_that_were_given_up_make_room() {
        let mut order = Order::new(Most { all: 1, of_peer: 1, waiting_of_peer: 1 });
        assert_eq!(order.ask(A, || true, |given_up| *given_up), Asked::Admitted);
        assert_eq!(order.ask(A, || true, |given_up| *given_up), Asked::Waits);
        assert_eq!(order.ask(A, || false, |given_up| *given_up), Asked::Waits);
        assert_eq!(order.ask(A, || false, |given_up| *given_up), Asked::TooMany);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_is_passed_on() {
        let turns = Turns::new(Most { all: 1, of_peer: 1, waiting_of_peer: 9 });
        let first = turns.take(A).await.unwrap();
        let mut given_up = Box::pin(turns.take(B));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        let mut waits = Box::pin(turns.take(C));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(first);
        drop(waits.await.unwrap());
        let order = turns.order();
        assert_eq!((order.all, order.held.len()), (0, 0));
    }
}
