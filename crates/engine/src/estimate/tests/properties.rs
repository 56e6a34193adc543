//! Properties of scales and estimates.

use proptest::prelude::*;

use super::*;
use crate::estimate::bins::{BINS, RATIOS, Scale, TOKENS};

/// The value below which a part of the sorted values lies.
fn quantile(sorted: &[u64], part: f64) -> u64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// Values of one of several kinds of distribution: even, mostly short with a long tail, two heaps.
fn outputs() -> impl Strategy<Value = Vec<u64>> {
    let even = prop::collection::vec(1_u64..4_000, 600..1_500);
    let tail =
        prop::collection::vec((0_f64..1.0).prop_map(|u| (50.0 / (1.0 - u * 0.9999)) as u64), 600..1_500);
    let heaps = prop::collection::vec(prop_oneof![8 => 20_u64..80, 2 => 6_000_u64..9_000], 600..1_500);
    prop_oneof![even, tail, heaps]
}

fn check_bin(scale: Scale, value: u64) -> Result<(), TestCaseError> {
    let bin = scale.bin(value);
    prop_assert!(bin == 0 || scale.least(bin) <= value, "{value} is below bin {bin}");
    prop_assert!(scale.most(bin).is_none_or(|most| most >= value), "{value} is above bin {bin}");
    prop_assert!(scale.bin(value.saturating_sub(1)) <= bin);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_value_is_within_its_bin(value in prop_oneof![0_u64..300, any::<u64>(), 0_u64..1 << 25]) {
        check_bin(TOKENS, value)?;
        check_bin(RATIOS, value)?;
    }

    #[test]
    fn the_quantile_is_right_within_a_bin(outputs in outputs()) {
        let mut estimates = Estimates::default();
        let job = key(&mut estimates, "job", "m");
        for output in &outputs {
            call(&mut estimates, job, text(4_000), usage(1_000, *output));
        }
        let mut sorted = outputs.clone();
        sorted.sort_unstable();
        let mean = outputs.iter().sum::<u64>() / outputs.len() as u64;
        let likely = likely(&estimates, job, 1 << 19).usage.output;
        prop_assert!(likely >= quantile(&sorted, 0.89).max(mean), "{likely}, mean {mean}");
        // One imaginary call at the bound is among 1/1,000 of a consumer's calls or fewer.
        let most = quantile(&sorted, 0.92).max(mean) as f64 * 1.2 + (1 << 19) as f64 * 0.003;
        prop_assert!((likely as f64) <= most, "{likely} > {most}, mean {mean}");
    }

    #[test]
    fn nothing_is_ever_above_the_bound(
        steps in prop::collection::vec((0_usize..4, 0_u64..3, 0_u64..100_000), 1..300),
        most_output in 0_u64..50_000,
    ) {
        let mut estimates = Estimates::default();
        let mut running = Vec::new();
        for (step, consumer, tokens) in steps {
            let job = key(&mut estimates, &format!("job {consumer}"), "m");
            match step {
                0 => running.push(estimates.began(job, NOW)),
                1 => running.iter_mut().take(3).for_each(|call| estimates.produced(call, tokens)),
                2 => running.pop().into_iter().for_each(|call| estimates.lost(call)),
                _ => call(&mut estimates, job, text(tokens), usage(tokens / 3, tokens)),
            }
            let likely = likely(&estimates, job, most_output).usage;
            prop_assert!(likely.output <= most_output && likely.input <= 4_000, "{likely:?}");
            prop_assert!(likely.cached + likely.cache_write <= likely.input, "{likely:?}");
            for call in &running {
                let (rest, came) = (estimates.rest(call, likely.output, most_output), call.produced);
                prop_assert!(came + rest <= most_output.max(came + came / 10), "{came} and {rest}");
                prop_assert!(rest >= (came / 10).min(most_output.saturating_sub(came)));
            }
        }
    }

    #[test]
    fn a_snapshot_restores_what_was_learned(outputs in prop::collection::vec((0_usize..3, 1_u64..9_000), 0..200)) {
        let mut estimates = Estimates::default();
        for (consumer, output) in outputs {
            let job = key(&mut estimates, ["a", "b", "c"][consumer], "m");
            call(&mut estimates, job, text(output * 4), usage(output, output));
        }
        let snapshot = estimates.snapshot(10);
        let json = serde_json::to_string(&snapshot).unwrap();
        let mut restored = Estimates::restored(serde_json::from_str(&json).unwrap());
        prop_assert_eq!(restored.snapshot(10), snapshot);
        for consumer in ["a", "b", "c", "new"] {
            let (before, after) = (key(&mut estimates, consumer, "m"), key(&mut restored, consumer, "m"));
            prop_assert_eq!(likely(&estimates, before, 9_000), likely(&restored, after, 9_000));
            let speed = estimates.time_to_produce(before, 100);
            prop_assert_eq!(speed, restored.time_to_produce(after, 100));
        }
    }
}

#[test]
fn bins_grow_by_a_constant_factor() {
    for (scale, factor) in [(TOKENS, 1.19), (RATIOS, 1.045)] {
        for bin in 40..BINS - 1 {
            let (least, most) = (scale.least(bin), scale.most(bin).unwrap());
            assert!(least <= most && most as f64 <= least as f64 * factor, "{bin}: {least} to {most}");
            assert_eq!((scale.bin(least), scale.bin(most)), (bin, bin));
        }
    }
}
