use super::*;

const LANE: LaneId = LaneId(0);

fn arrival(consumer: &str) -> Arrival<'_> {
    Arrival {
        lane: LANE,
        group: GroupId::default(),
        consumer,
        weight: 1,
        turns: 1,
        deadline: Time::NEVER,
        again: false,
    }
}

/// A queue that remembers where each call stands, as the engine does.
#[derive(Default)]
struct Line {
    queue: Queue,
    positions: BTreeMap<CallKey, QueuePosition>,
}

impl Line {
    fn push(&mut self, arrival: Arrival<'_>, calls: impl IntoIterator<Item = u64>) {
        for call in calls {
            let key = CallKey { session: SessionId(1), call: CallId(call) };
            self.positions.insert(key, self.queue.push(arrival, key));
        }
    }

    fn serve(&mut self, turns: usize) -> Vec<u64> {
        let mut next = || {
            let call = self.queue.head(LANE)?.call;
            let position = self.positions.remove(&call)?;
            self.queue.take(position, position.turns()).map(|key| key.call.0)
        };
        (0..turns).filter_map(|_| next()).collect()
    }
}

#[test]
fn a_large_consumer_and_a_small_one_alternate() {
    let mut line = Line::default();
    line.push(arrival("large"), 0..20);
    line.push(arrival("small"), 100..103);
    let served = line.serve(6);
    assert_eq!(served.iter().filter(|call| **call >= 100).count(), 3, "{served:?}");
}

#[test]
fn weights_are_shares() {
    let mut line = Line::default();
    line.push(Arrival { weight: 3, ..arrival("three") }, 0..100);
    line.push(arrival("one"), 1000..1100);
    let served = line.serve(80);
    assert_eq!(served.iter().filter(|call| **call < 1000).count(), 60);
}

#[test]
fn a_call_of_cost_five_takes_five_turns() {
    let mut line = Line::default();
    line.push(Arrival { turns: 5, ..arrival("big") }, 0..100);
    line.push(arrival("small"), 1000..1100);
    let served = line.serve(60);
    assert_eq!(served.iter().filter(|call| **call < 1000).count(), 10);
}

#[test]
fn a_call_that_was_sent_back_comes_first_then_the_earliest_deadline() {
    let mut line = Line::default();
    line.push(Arrival { deadline: Time(30), ..arrival("a") }, [1]);
    line.push(Arrival { deadline: Time(20), ..arrival("a") }, [2]);
    line.push(Arrival { deadline: Time(90), again: true, ..arrival("a") }, [3]);
    assert_eq!(line.serve(3), [3, 2, 1]);
}

#[test]
fn a_consumer_that_was_idle_saves_nothing_up() {
    let mut line = Line::default();
    line.push(arrival("late"), [500]);
    assert_eq!(line.serve(1), [500]);
    line.push(arrival("steady"), 0..10);
    line.serve(8);
    line.push(arrival("late"), 501..511);
    let served = line.serve(4);
    assert!(served.iter().filter(|call| **call >= 500).count() <= 3, "{served:?}");
}

#[test]
fn a_consumer_behind_a_closed_lane_saves_nothing_up() {
    let closed = LaneId(1);
    let mut line = Line::default();
    line.push(Arrival { lane: closed, ..arrival("search") }, 500..510);
    line.push(arrival("steady"), 0..40);
    line.serve(20);
    line.push(arrival("search"), 600..610);
    let served = line.serve(10);
    assert!(served.iter().filter(|call| **call >= 600).count() <= 6, "{served:?}");
}

#[test]
fn calls_ahead_are_counted_as_turns_not_as_calls() {
    let mut line = Line::default();
    line.push(arrival("large"), 0..50);
    assert!(line.queue.ahead_of(GroupId::default(), "small", 1) <= 1);
    assert_eq!(line.queue.ahead_of(GroupId::default(), "large", 1), 50);
}

#[test]
fn big_calls_are_ahead_by_their_turns() {
    let mut line = Line::default();
    line.push(arrival("small"), 0..20);
    line.push(Arrival { turns: 10, ..arrival("big") }, 100..110);
    assert_eq!(
        line.queue.ahead_of(GroupId::default(), "small", 1),
        22,
        "its own 20 calls, and two of the big ones"
    );
}
