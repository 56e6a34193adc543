//! Who may be connected: the decision alone, without sockets and clocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// How many connections a listener has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// Of these, pending: the server does not know yet whose they are.
    pub pending: usize,
}

/// A connection, by the order in which they came.
pub(crate) type Id = u64;

/// What becomes of a connection that has just come. `T` is what the caller keeps of each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<T> {
    /// It has a place, and another one lost its own.
    Admitted { id: Id, evicted: Option<(IpAddr, T)> },
    /// It has to wait until one leaves: so many peers hold one pending connection each.
    Waits(T),
    /// It is closed: nobody holds more than it would.
    TurnedAway,
}

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Places<T> {
    bounds: Bounds,
    next: Id,
    open: BTreeMap<Id, Open<T>>,
    pending: usize,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Open<T> {
    peer: IpAddr,
    kept: T,
}

/// One address's connections.
#[derive(Debug, Default)]
struct Peer {
    pending: BTreeSet<Id>,
    trusted: BTreeSet<Id>,
}

impl Peer {
    fn all(&self) -> usize {
        self.pending.len() + self.trusted.len()
    }

    /// The oldest, of the pending ones if there are any.
    fn oldest(&self) -> Option<Id> {
        self.pending.first().or_else(|| self.trusted.first()).copied()
    }
}

impl<T> Places<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, next: 0, open: BTreeMap::new(), pending: 0, peers: HashMap::new() }
    }

    /// Gives a place to a connection of `peer`, pending at first, or none.
    pub(crate) fn arrive(&mut self, peer: IpAddr, kept: T) -> Arrival<T> {
        let peer = peer.to_canonical();
        let victim = if self.pending >= self.bounds.pending {
            match self.largest(peer, |peer| peer.pending.len()) {
                // Whoever comes again makes room for himself.
                Some((largest, count)) if count > 1 || largest == peer => {
                    self.peers.get(&largest).and_then(|peer| peer.pending.first()).copied()
                }
                _ => return Arrival::Waits(kept),
            }
        } else if self.open.len() >= self.bounds.connections {
            let own = self.peers.get(&peer).map_or(0, Peer::all);
            let own_pending = self.peers.get(&peer).is_some_and(|peer| !peer.pending.is_empty());
            match self.largest(peer, Peer::all) {
                Some((largest, count)) if count > own + 1 || (largest == peer && own_pending) => {
                    self.peers.get(&largest).and_then(Peer::oldest)
                }
                _ => return Arrival::TurnedAway,
            }
        } else {
            None
        };
        let evicted = victim.and_then(|victim| self.leave(victim));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Open { peer, kept });
        self.peers.entry(peer).or_default().pending.insert(id);
        self.pending += 1;
        Arrival::Admitted { id, evicted }
    }

    /// The server knows now whose connection it is.
    pub(crate) fn trust(&mut self, id: Id) {
        let Some(peer) = self.open.get(&id).and_then(|open| self.peers.get_mut(&open.peer)) else { return };
        if peer.pending.remove(&id) {
            peer.trusted.insert(id);
            self.pending -= 1;
        }
    }

    /// A connection has ended; what was kept of it, unless it was gone before.
    pub(crate) fn leave(&mut self, id: Id) -> Option<(IpAddr, T)> {
        let Open { peer: address, kept } = self.open.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&address) {
            self.pending -= usize::from(peer.pending.remove(&id));
            peer.trusted.remove(&id);
            if peer.all() == 0 {
                self.peers.remove(&address);
            }
        }
        Some((address, kept))
    }

    /// The peer with the most by `count`, `own` before others with as many.
    fn largest(&self, own: IpAddr, count: impl Fn(&Peer) -> usize) -> Option<(IpAddr, usize)> {
        let counts = self.peers.iter().map(|(address, peer)| (*address, count(peer)));
        counts.max_by_key(|(address, count)| (*count, *address == own))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { connections: 6, pending: 4 };

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn admitted(places: &mut Places<Id>, number: u8) -> (Id, Option<IpAddr>) {
        match places.arrive(peer(number), 0) {
            Arrival::Admitted { id, evicted } => (id, evicted.map(|(peer, _)| peer)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_holds_most_makes_room() {
        let mut places = Places::new(BOUNDS);
        let first = admitted(&mut places, 1).0;
        for _ in 0..3 {
            assert_eq!(admitted(&mut places, 9).1, None);
        }
        assert_eq!(admitted(&mut places, 2).1, Some(peer(9)));
        assert_eq!(admitted(&mut places, 3).1, Some(peer(9)));
        assert_eq!(admitted(&mut places, 9).1, Some(peer(9)), "its own");
        assert!(places.open.contains_key(&first));
    }

    #[test]
    fn a_storm_of_single_connections_waits() {
        let mut places = Places::new(BOUNDS);
        let ids: Vec<_> = (0..4).map(|number| admitted(&mut places, number).0).collect();
        assert_eq!(places.arrive(peer(5), 7), Arrival::Waits(7));
        places.trust(ids[0]);
        assert_eq!(admitted(&mut places, 5).1, None);
        assert_eq!(places.arrive(peer(6), 7), Arrival::Waits(7));
        places.leave(ids[1]);
        assert_eq!(admitted(&mut places, 6).1, None);
    }

    #[test]
    fn pending_connections_make_room_before_trusted_ones() {
        let mut places = Places::new(BOUNDS);
        let trusted = admitted(&mut places, 9).0;
        places.trust(trusted);
        for number in [9, 9, 9] {
            admitted(&mut places, number);
        }
        for number in [1, 2] {
            let id = admitted(&mut places, number).0;
            places.trust(id);
        }
        for number in [3, 4, 5] {
            assert_eq!(admitted(&mut places, number).1, Some(peer(9)));
        }
        assert!(places.open.contains_key(&trusted));
        assert_eq!(places.arrive(peer(6), 0), Arrival::TurnedAway, "each has one");
    }

    #[test]
    fn when_everybody_is_known_the_largest_makes_room_or_nobody() {
        let mut places = Places::new(BOUNDS);
        for number in [9, 9, 9, 1, 2, 3] {
            let id = admitted(&mut places, number).0;
            places.trust(id);
        }
        let (id, evicted) = admitted(&mut places, 4);
        assert_eq!(evicted, Some(peer(9)));
        places.trust(id);
        let (id, evicted) = admitted(&mut places, 5);
        assert_eq!(evicted, Some(peer(9)));
        places.trust(id);
        assert_eq!(places.arrive(peer(6), 0), Arrival::TurnedAway);
    }

    #[test]
    fn an_address_written_as_ipv6_is_the_same_peer() {
        let mut places = Places::<Id>::new(BOUNDS);
        admitted(&mut places, 1);
        places.arrive(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into(), 0);
        assert_eq!(places.peers.len(), 1);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_the_modest_keep_their_place(
            steps in proptest::collection::vec((0u8..6, 0u8..3), 0..200),
        ) {
            let mut places = Places::new(BOUNDS);
            // Of the peer 0, which has one connection at most.
            let mut modest = None;
            for (number, what) in steps {
                let ids: Vec<Id> = places.open.keys().copied().collect();
                match what {
                    0 if number == 0 && modest.is_some() => {}
                    0 => if let Arrival::Admitted { id, .. } = places.arrive(peer(number), 0)
                        && number == 0 { modest = Some(id); },
                    1 => if let Some(id) = ids.get(usize::from(number)) { places.trust(*id); },
                    _ => if let Some(id) = ids.get(usize::from(number)).filter(|id| Some(**id) != modest) {
                        places.leave(*id);
                    },
                }
                let pending: usize = places.peers.values().map(|peer| peer.pending.len()).sum();
                prop_assert_eq!(pending, places.pending);
                prop_assert!(pending <= BOUNDS.pending && places.open.len() <= BOUNDS.connections);
                prop_assert_eq!(places.peers.values().map(Peer::all).sum::<usize>(), places.open.len());
                if let Some(id) = modest { prop_assert!(places.open.contains_key(&id)); }
            }
        }
    }
}
