//! What is played takes as long as arithmetic says, where arithmetic can say it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use quotakeeper_api::load::{self, Source};
use quotakeeper_wire::account::CompiledAccount;

use super::*;
use crate::campaign::tests::single;
use crate::campaign::{Present, Step, WHOLE};
use quotakeeper_engine::event::Scope;
use quotakeeper_engine::tokens::{CallSize, TokenUsage};

fn account(limits: &str) -> CompiledAccount {
    let text = format!(
        "{{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiProvider, metadata: {{name: tried}},
  spec: {{hosts: [api.tried.example], tiers: [{{name: only, limits: [{limits}]}}]}}}}
---
{{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiQuota, metadata: {{name: tried}}, spec: {{provider: {{name: tried}}}}}}
"
    );
    let source = Source { name: "quota.yaml".to_owned(), text };
    load::documents(&[source]).unwrap().accounts().unwrap().remove(0)
}

fn after(campaign: &Campaign, account: &CompiledAccount, workers: u64) -> f64 {
    match play(campaign, std::slice::from_ref(account), workers) {
        Outcome::Done { after, .. } => after.as_secs_f64(),
        Outcome::Never(why) => panic!("{why}"),
    }
}

fn near(found: f64, expected: f64, within: f64) {
    assert!((found - expected).abs() <= within, "{found} s instead of {expected} s");
}

#[test]
fn workers_alone_hold_what_no_limit_does() {
    let account = account("{name: requests, unit: Requests, amount: 1000000, windowSeconds: 60}");
    let campaign = single(1_000, Duration::from_secs(2));
    near(after(&campaign, &account, 10), 200.0, 1.0);
    near(after(&campaign, &account, 50), 40.0, 1.0);
}

#[test]
fn a_rate_holds_however_many_workers_there_are() {
    let account =
        account("{name: requests, unit: Requests, amount: 600, windowSeconds: 60, countedAs: SlidingWindow}");
    // 600 at once, and 600 in each minute after that.
    near(after(&single(6_000, Duration::from_millis(100)), &account, 500), 540.0, 15.0);
}

#[test]
fn as_many_are_under_way_as_the_rate_and_the_answers_make() {
    let account =
        account("{name: requests, unit: Requests, amount: 600, windowSeconds: 60, countedAs: SlidingWindow}");
    for workers in [100, 6_000] {
        let outcome = play(&single(6_000, Duration::from_secs(3)), std::slice::from_ref(&account), workers);
        // 10 a second, and 600 at once in the beginning.
        assert!(matches!(outcome, Outcome::Done { under_way: 30..=35, .. }), "{outcome:?}");
    }
}

#[test]
fn slots_hold_what_takes_long() {
    let account = account("{name: slots, unit: ConcurrentRequests, amount: 5}");
    near(after(&single(100, Duration::from_secs(3)), &account, 500), 60.0, 3.0);
}

#[test]
fn a_day_that_is_used_up_ends_at_midnight() {
    let account = account("{name: daily, unit: Requests, amount: 1000, period: Day}");
    let mut campaign = single(1_500, Duration::from_millis(100));
    campaign.start = "2026-12-01T18:00:00Z".parse().unwrap();
    let found = after(&campaign, &account, 50);
    near(found, 6.0 * 3600.0, 120.0);
}

#[test]
fn what_is_used_and_what_is_paused_is_known_at_the_beginning() {
    let account = account("{name: monthly, unit: Requests, amount: 1000, period: Month}");
    let mut campaign = single(200, Duration::from_millis(100));
    campaign.start = "2026-12-30T18:00:00Z".parse().unwrap();
    near(after(&campaign, &account, 50), 0.4, 1.0);
    let pauses = vec![(Scope::default(), Duration::from_secs(90))];
    let at = Some(campaign.start - Duration::from_secs(30));
    campaign.present = vec![Present { at, used: [("monthly".to_owned(), 700)].into(), pauses }];
    near(after(&campaign, &account, 50), 60.0, 5.0);
    campaign.present[0].used = [("monthly".to_owned(), 900)].into();
    // 100 are left in December.
    near(after(&campaign, &account, 50), 30.0 * 3600.0, 10.0);
    assert_eq!(crate::need::needs(&campaign, &[account])[0].least, Duration::from_secs(30 * 3600));
}

#[test]
fn a_budget_of_a_month_is_waited_for_a_year() {
    let account = account("{name: monthly, unit: Requests, amount: 1000, period: Month}");
    let mut campaign = single(12_500, Duration::from_millis(100));
    campaign.start = "2026-01-01T00:00:10Z".parse().unwrap();
    near(after(&campaign, &account, 50), 365.0 * 86_400.0 - 8.0, 120.0);
}

#[test]
fn others_take_their_part() {
    let account =
        account("{name: requests, unit: Requests, amount: 600, windowSeconds: 60, countedAs: TokenBucket}");
    let mut campaign = single(3_000, Duration::from_millis(100));
    let alone = after(&campaign, &account, 200);
    campaign.others = vec![crate::campaign::Load { call: campaign.steps[0].call.clone(), per_minute: 150 }];
    let beside = after(&campaign, &account, 200);
    near(beside / alone, 600.0 / 450.0, 0.05);
}

#[test]
fn steps_follow_each_other_with_those_that_go_on() {
    let account = account("{name: requests, unit: Requests, amount: 1000000, windowSeconds: 60}");
    let mut campaign = single(100, Duration::from_secs(1));
    let step = campaign.steps[0].clone();
    campaign.steps = vec![Step { go_on: 50, ..step.clone() }, Step { calls: 3 * WHOLE, ..step }];
    // 100 calls, and 3 for each of 50.
    near(after(&campaign, &account, 1), 250.0, 0.1);
}

#[test]
fn a_campaign_of_millions_is_played_as_one_of_thousands() {
    let limit =
        "{name: requests, unit: Requests, amount: 1000000, windowSeconds: 60, countedAs: SlidingWindow}";
    let campaign = single(3_000_000, Duration::from_millis(500));
    assert!(crate::scale::factor(&campaign, &[account(limit)]) > 1);
    // The last million begins after two minutes, and takes as long as 40,000 a second do.
    near(after(&campaign, &account(limit), 20_000), 145.0, 3.0);
}

#[test]
fn a_single_worker_may_stand_for_none() {
    let account = account(
        "{name: requests, unit: Requests, amount: 6000, windowSeconds: 60, countedAs: SlidingWindow}",
    );
    let campaign = single(1_000_000, Duration::from_millis(500));
    near(after(&campaign, &account, 1), 500_000.0, 5_000.0);
    near(after(&campaign, &account, 100), 10_000.0, 500.0);
}

#[test]
fn millions_of_calls_use_the_whole_window_of_tokens() {
    let limit = "{name: tokens, unit: TotalTokens, amount: 30000, windowSeconds: 60, countedAs: SlidingWindow, charged: Settled}";
    let mut campaign = single(600_000, Duration::from_millis(500));
    campaign.steps[0].call.usage =
        TokenUsage { input: 700, output: 200, exact: true, ..TokenUsage::default() };
    let size = CallSize { text_bytes: 2_800, max_output: Some(200), choices: 1, ..CallSize::default() };
    campaign.steps[0].call.demand.size = Some(size);
    // 33 calls in a minute and the second and a half until the provider has counted them.
    near(after(&campaign, &account(limit), 100), 61.5 * 600_000.0 / 33.0, 45_000.0);
}

#[test]
fn what_takes_years_is_never_done() {
    let account = account("{name: requests, unit: Requests, amount: 100, windowSeconds: 10}");
    let campaign = single(1_000_000_000_000_000, Duration::from_millis(500));
    let forecast = crate::forecast(&campaign, std::slice::from_ref(&account));
    let said = "it is not done within 400 days".to_owned();
    assert_eq!((forecast.verdict, forecast.never), (crate::forecast::Verdict::Never, Some(said)));
}

#[test]
fn what_is_larger_than_a_limit_never_ends() {
    let account = account("{name: requests, unit: Requests, amount: 5, windowSeconds: 60}");
    let mut campaign = single(10, Duration::from_millis(100));
    campaign.steps[0].call.demand.costs.requests = quotakeeper_engine::cost::Amount(6);
    let forecast = crate::forecast(&campaign, std::slice::from_ref(&account));
    let said = "a single call draws more of requests of tried than the 5 that it has";
    assert_eq!((forecast.end, forecast.never), (None, Some(said.to_owned())));
    assert_eq!(forecast.verdict, crate::forecast::Verdict::Never);
}
