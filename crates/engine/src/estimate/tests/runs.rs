//! Whole runs of calls in small: a backlog of streams against a bucket of N tokens a minute that a provider charges
//! as they are produced. The provider's own level is judged: running streams exceed a limit without a rejection.

use super::*;
use crate::estimate::RunningCall;

/// The limit, in tokens a minute and at once.
const N: f64 = 400_000.0;
/// A step of a run, in seconds: how often progress is told.
const STEP: f64 = 0.5;
/// Tokens that a stream produces in a second.
const SPEED: f64 = 60.0;

/// A reproducible sequence of numbers.
struct Numbers(u64);

impl Numbers {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }
}

struct Stream {
    running: RunningCall,
    length: f64,
    produced: f64,
    held: f64,
    reserved: u64,
}

/// What a run showed at the provider.
#[derive(Debug)]
struct Shown {
    /// The highest level, in percent of N.
    peak: f64,
    /// Tokens that were used, in percent of what the limit lets through.
    used: f64,
}

/// Runs a backlog for `seconds`. `next` tells consumer and length of the call that is next at a time; no answer is
/// longer than `bound`.
fn run(seconds: f64, bound: u64, mut next: impl FnMut(f64, &mut Numbers) -> (String, f64)) -> Shown {
    let mut estimates = Estimates::default();
    let mut numbers = Numbers(7);
    let mut streams: Vec<Stream> = Vec::new();
    let (mut level, mut total, mut peak, mut at) = (0.0_f64, 0.0, 0.0_f64, 0.0);
    let mut head = next(0.0, &mut numbers);
    while at < seconds {
        let now = Time((at * 1e9) as u64);
        level = (level - N / 60.0 * STEP).max(0.0);
        for stream in &mut streams {
            let came = (stream.length - stream.produced).min(SPEED * STEP);
            stream.produced += came;
            level += came;
            total += came;
            estimates.produced(&mut stream.running, stream.produced as u64);
            stream.held = estimates.rest(&stream.running, stream.reserved, bound) as f64;
        }
        peak = peak.max(level);
        let (over, rest) = streams.into_iter().partition(|stream: &Stream| stream.produced >= stream.length);
        streams = rest;
        let over: Vec<Stream> = over;
        for stream in over {
            let used = usage(125, stream.length as u64);
            estimates.ended(stream.running, Some(&text(468)), Some(&used), now);
        }
        let mut held: f64 = streams.iter().map(|stream| stream.held).sum();
        while streams.len() < 4_000 {
            let job = key(&mut estimates, &head.0, "m");
            let likely = estimates.likely(job, Some(&text(468)), most(500, bound));
            let output = likely.usage.output;
            let reserved = if likely.known { output } else { output.min(N as u64 / 4) };
            if level + held + reserved as f64 > N {
                break;
            }
            held += reserved as f64;
            let length = head.1.clamp(1.0, bound as f64).round();
            let running = estimates.began(job, now);
            streams.push(Stream { running, length, produced: 0.0, held: reserved as f64, reserved });
            head = next(at, &mut numbers);
        }
        at += STEP;
    }
    Shown { peak: peak / N * 100.0, used: total / (N / 60.0 * seconds + N) * 100.0 }
}

#[test]
fn a_few_long_answers_among_short_ones_do_not_exceed_the_limit() {
    // Known by their ends alone, all answers seem short while the long ones are still running: 939 %.
    let shown = run(600.0, 16_000, |_, numbers| {
        let long = numbers.next() < 0.08;
        (
            "job".to_owned(),
            if long { 6_400.0 + 3_200.0 * numbers.next() } else { 25.0 + 50.0 * numbers.next() },
        )
    });
    assert!(shown.peak <= 130.0 && shown.used >= 30.0, "{shown:?}");
}

#[test]
fn steady_answers_use_nearly_all() {
    let shown = run(600.0, 4_096, |_, numbers| {
        let consumer = (numbers.next() * 8.0) as u32;
        (format!("job {consumer}"), numbers.exponential(500.0))
    });
    assert!(shown.peak <= 105.0 && shown.used >= 85.0, "{shown:?}");
}

#[test]
fn answers_that_become_twenty_times_as_long_at_once_are_noticed() {
    let shown = run(1_200.0, 32_000, |at, numbers| {
        let mean = if at < 600.0 { 250.0 } else { 5_000.0 };
        ("job".to_owned(), numbers.exponential(mean))
    });
    assert!(shown.peak <= 130.0 && shown.used >= 50.0, "{shown:?}");
}

#[test]
fn jobs_that_make_thirty_calls_each_profit_from_those_before() {
    let mut calls = 0;
    let shown = run(600.0, 64_000, |_, numbers| {
        calls += 1;
        (format!("job {}", calls / 30), numbers.exponential(500.0))
    });
    assert!(shown.peak <= 105.0 && shown.used >= 80.0, "{shown:?}");
}
