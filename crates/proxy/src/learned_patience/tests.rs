#![allow(clippy::unwrap_used)]
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const ANNOUNCED: Option<Duration> = Some(Duration::from_secs(600));

fn kind(agent: &str) -> ClientKind {
    let headers = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_str(agent).unwrap())]);
    ClientKind::of(&headers, ANNOUNCED).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn versions_make_no_difference() {
    for (agent, name) in [
        ("OpenAI/JS 6.1.0", "OpenAI/JS"),
        ("python-requests/2.31.0", "python-requests"),
        ("AsyncAnthropic/Python 0.68", "AsyncAnthropic/Python"),
        ("node", "node"),
        ("undici/v6.2", "undici"),
        ("", ""),
        ("a{b}\"c/1", "abc"),
    ] {
        assert_eq!(kind(agent).name, name, "{agent}");
    }
    let own = HeaderMap::from_iter([(PATIENCE_HEADER, HeaderValue::from_static("5"))]);
    assert_eq!(ClientKind::of(&own, ANNOUNCED), None, "its own word is not doubted");
}

#[test]
fn three_hang_ups_at_about_the_same_age_are_a_timeout_until_a_client_stays_longer() {
    let (mut learned, node, mut now) = (LearnedPatience::default(), kind("node"), Instant::now());
    for age in [300, 305] {
        now += seconds(100);
        assert_eq!(learned.hung_up(&node, seconds(age), now), None);
    }
    now += seconds(100);
    assert_eq!(learned.hung_up(&node, seconds(301), now), Some(seconds(285)));
    assert_eq!(learned.believed(&node, now), Some(seconds(285)));
    assert_eq!(learned.believed(&kind("curl"), now), None);
    assert!(!learned.stayed(&node, seconds(200), now));
    assert!(learned.stayed(&node, seconds(320), now));
    assert_eq!(learned.believed(&node, now), None);
}

#[test]
fn an_unconfirmed_belief_is_forgotten() {
    let (mut learned, node, mut now) = (LearnedPatience::default(), kind("node"), Instant::now());
    for _ in 0..WITNESSES {
        now += seconds(10);
        learned.hung_up(&node, seconds(10), now);
    }
    assert!(learned.believed(&node, now + FORGOTTEN / 2).is_some());
    assert_eq!(learned.believed(&node, now + FORGOTTEN), None);
}

#[test]
fn a_program_that_ends_is_one_witness() {
    let (mut learned, node, now) = (LearnedPatience::default(), kind("node"), Instant::now());
    for _ in 0..100 {
        assert_eq!(learned.hung_up(&node, seconds(30), now), None);
    }
}

proptest! {
    /// Clients with a fixed timeout, some of whose calls are answered before: once three have hung up nothing longer
    /// than the timeout is believed, and hardly anything shorter.
    #[test]
    fn a_fixed_timeout_is_found(
        timeout in 1_000_u64..50_000,
        calls in prop::collection::vec((any::<bool>(), 0.0..1.0_f64, 0_u64..1_000), 3..60),
    ) {
        let (mut learned, node, mut now) = (LearnedPatience::default(), kind("node"), Instant::now());
        let timeout = Duration::from_millis(timeout);
        let mut hang_ups = 0;
        for (hangs_up, part, late) in calls {
            now += timeout / 4;
            if hangs_up {
                // The proxy sees it a little later.
                learned.hung_up(&node, timeout + timeout.mul_f64(late as f64 / 20_000.0), now);
                hang_ups += 1;
            } else {
                learned.stayed(&node, timeout.mul_f64(part), now);
            }
            let believed = learned.believed(&node, now);
            prop_assert_eq!(believed.is_some(), hang_ups >= WITNESSES);
            if let Some(believed) = believed {
                prop_assert!(believed <= timeout && believed >= timeout * 9 / 10, "{:?} of {:?}", believed, timeout);
            }
        }
    }

    /// Whatever happens, the table stays bounded, and nothing is believed that nobody has hung up at.
    #[test]
    fn beliefs_are_bounded_and_have_witnesses(
        events in prop::collection::vec((0_u32..100, any::<bool>(), 0_u64..700, 0_u64..400), 0..300),
    ) {
        let (mut learned, mut now) = (LearnedPatience::default(), Instant::now());
        let mut ages: HashMap<u32, Vec<Duration>> = HashMap::new();
        for (client, hangs_up, age, pause) in events {
            now += seconds(pause);
            let node = kind(&format!("client-{client}"));
            if hangs_up {
                learned.hung_up(&node, seconds(age), now);
                ages.entry(client).or_default().push(seconds(age));
            } else {
                learned.stayed(&node, seconds(age), now);
            }
            prop_assert!(learned.kinds.len() <= KINDS);
            if let Some(believed) = learned.believed(&node, now) {
                let timeout = believed + believed / (MARGIN - 1);
                let close = |age: &&Duration| age.abs_diff(timeout) < Duration::from_millis(1);
                prop_assert!(ages[&client].iter().find(close).is_some());
                if !hangs_up {
                    prop_assert!(seconds(age) <= timeout + Duration::from_millis(1));
                }
            }
        }
    }
}
