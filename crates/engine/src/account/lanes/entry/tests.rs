#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::config::{AccountConfig, CountedAs, LimitConfig, Pacing, Unit};
use crate::cost::CostsNumbers;
use crate::event::{CallId, SessionId};
use crate::window_counter::WindowEnd;

const MS: Duration = Duration::from_millis(1);

fn limit(amount: u64, unit: Unit, counted_as: CountedAs, pacing: Pacing) -> Arc<Limit> {
    let json = r#"{"mode": "Enforce", "onExceeded": "Queue", "validity": {"secs": 1, "nanos": 0}, "limits": [],
        "queue": {"maxWait": {"secs": 60, "nanos": 0}, "maxCalls": 10},
        "pause": {"fallback": {"secs": 1, "nanos": 0}, "cap": {"secs": 60, "nanos": 0},
            "probePatience": {"secs": 30, "nanos": 0}, "maxCall": {"secs": 5, "nanos": 0}}}"#;
    let mut account: AccountConfig = serde_json::from_str(json).unwrap();
    account.limits.push(LimitConfig {
        name: "limit".to_owned(),
        unit,
        amount,
        declared: None,
        model_amounts: Default::default(),
        window: MS * 2_000,
        counted_as,
        delivery: MS * 300,
        burst: Some(amount.div_ceil(2)),
        pacing,
        endpoint: None,
        except_endpoints: Vec::new(),
        models: Vec::new(),
        per_model: false,
        tokens: None,
        period: None,
    });
    Limit::all_of(&account).remove(0)
}

fn entry(limit: &Arc<Limit>, now: Time) -> Entry {
    let (config, amount) = (&limit.config, Amount(limit.config.amount));
    let counter = match config.unit {
        Unit::ConcurrentRequests => {
            Counter::Concurrency(crate::concurrency_counter::ConcurrencyCounter::new(amount))
        }
        _ => Counter::Window(WindowCounter::new(config, amount, now)),
    };
    Entry::new(limit.clone(), None, counter)
}

/// What happens to a counter.
#[derive(Clone, Debug)]
enum Step {
    Pass(u32),
    Look(u64),
    Charge(u64),
    Counted(prop::sample::Index),
    Corrected(prop::sample::Index, u64),
    Refunded(prop::sample::Index),
    Freed(prop::sample::Index),
    Observed(u64),
    Ends(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let unit = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0u32..700).prop_map(Step::Pass),
        8 => (0u64..4).prop_map(Step::Look),
        6 => (1u64..4).prop_map(Step::Charge),
        4 => unit().prop_map(Step::Counted),
        1 => (unit(), 0u64..6).prop_map(|(unit, cost)| Step::Corrected(unit, cost)),
        1 => unit().prop_map(Step::Refunded),
        2 => unit().prop_map(Step::Freed),
        1 => (1u64..30).prop_map(Step::Observed),
        1 => (0u32..3_000).prop_map(Step::Ends),
    ]
}

fn kinds() -> impl Strategy<Value = (u64, Unit, CountedAs, Pacing)> {
    let unit = prop_oneof![4 => Just(Unit::Requests), 1 => Just(Unit::ConcurrentRequests)];
    let counted = prop::sample::select(vec![
        CountedAs::Unknown,
        CountedAs::SlidingWindow,
        CountedAs::FixedWindow,
        CountedAs::TokenBucket,
    ]);
    let pacing = prop::sample::select(vec![Pacing::TokenBucket, Pacing::LeakyBucket]);
    (2u64..12, unit, counted, pacing)
}

struct Driven {
    entry: Entry,
    now: Time,
    numbers: CostsNumbers,
    charged: Vec<(UnitKey, Amount)>,
    attempts: Vec<Attempt>,
}

impl Driven {
    fn take(&mut self, step: Step) {
        let now = self.now;
        let unit = |at: prop::sample::Index, all: &[(UnitKey, Amount)]| {
            (!all.is_empty()).then(|| all[at.index(all.len())])
        };
        match step {
            Step::Pass(millis) => self.now += MS * millis,
            Step::Look(kept) => self.entry.kept = Amount(kept),
            Step::Charge(cost) => {
                let costs =
                    Costs { requests: Amount(cost), concurrent_requests: Amount(cost), ..Costs::default() };
                let number = self.attempts.len() as u32;
                let attempt = Attempt { session: SessionId(1), call: CallId(1), number };
                let costs = self.numbers.number(costs);
                if self.entry.blocked_until(now, &costs).is_none() {
                    let charged = self.entry.charge(attempt, &costs, now, now, MS * 5_000);
                    self.charged.extend(charged.map(|charged| (charged.unit, Amount(cost))));
                    self.attempts.push(attempt);
                }
            }
            Step::Counted(at) => {
                if let (Some((key, _)), Some((_, window))) =
                    (unit(at, &self.charged), self.entry.window_at(now))
                {
                    window.counted_by(now, key, now);
                }
            }
            Step::Corrected(at, cost) => {
                let unit = unit(at, &self.charged);
                if let (Some((key, charged)), Some((_, window))) = (unit, self.entry.window_at(now)) {
                    window.settle_up(now, key, charged, Amount(cost));
                }
            }
            Step::Refunded(at) => {
                if let (Some((key, _)), Some((_, window))) =
                    (unit(at, &self.charged), self.entry.window_at(now))
                {
                    window.refund(key);
                }
            }
            Step::Freed(at) => {
                if !self.attempts.is_empty() {
                    let attempt = self.attempts[at.index(self.attempts.len())];
                    self.entry.counter_mut().free_slots(attempt, now);
                }
            }
            Step::Observed(hard) => {
                self.entry.observed = Some(hard);
                self.entry.reconfigure(now);
            }
            Step::Ends(millis) => self.answer_names_an_end(millis),
        }
    }

    /// An answer names when the provider's window ends, and use by others.
    fn answer_names_an_end(&mut self, millis: u32) {
        let now = self.now;
        if let Some((_, window)) = self.entry.window_at(now) {
            let end = now + MS * millis;
            let end = Some(WindowEnd { earliest: end, latest: end + MS });
            let (at_grant, remaining) = (window.at_grant(), Amount(u64::from(millis % 5)));
            let left = crate::window_counter::Left { remaining, end, granted: now, cost: Amount::ONE };
            window.learn_of_others(now, at_grant, left);
        }
    }

    /// What the counter says that is advanced to now, whatever was known of it.
    fn said_afresh(&self, cost: Amount) -> Option<Time> {
        let mut counter = self.entry.counter.clone();
        counter.advance(self.now);
        counter.blocked_until(self.now, cost, self.entry.kept)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_it_said_before_is_what_its_counter_says(
        (amount, unit, counted_as, pacing) in kinds(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (now, limit) = (Time(3_600_000_000_000), limit(amount, unit, counted_as, pacing));
        let entry = entry(&limit, now);
        let (numbers, charged, attempts) = (CostsNumbers::default(), Vec::new(), Vec::new());
        let mut driven = Driven { entry, now, numbers, charged, attempts };
        for step in steps {
            driven.take(step);
            let afresh = driven.said_afresh(Amount::ONE);
            let costs = NumberedCosts::usual();
            prop_assert_eq!(driven.entry.blocked_until(driven.now, &costs), afresh);
        }
    }
}
