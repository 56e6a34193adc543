//! What calls use is learned from those before. Estimates can be too low: the provider may reject calls, and running
//! answers may exceed a limit unseen, but not by much.

use quotakeeper_engine::config::{
    ArrivalFormula, ArrivalOutput, Charged, CountedAs, LimitConfig, Reserving, TokenLimit,
};

use super::counting;
use crate::random::Random;
use crate::scenario::{Arrivals, Disk, Growth, Pace, Scenario, TokenWork};
use crate::stories::{Story, calm, ms, seconds, story};

pub(super) const STORIES: &[Story] = &[
    story(
        "tokens-long-tail",
        "8 % of the answers are 160 times as long as the others, from the first call on",
        long_tail,
    ),
    story("tokens-growing", "all answers, or one workload's, become twenty times as long at once", growing),
    story(
        "tokens-jobs",
        "a Job of thirty calls after the other, each of which allows far more than it uses",
        jobs,
    ),
    story("tokens-debt", "answers that were underestimated, and a limiter that dies", debt),
    story(
        "tokens-estimated",
        "a provider whose tokens have a quarter of the bytes that its formula says",
        estimated,
    ),
    story(
        "tokens-slow-headers",
        "answers that begin after a minute or two and say what remains",
        slow_headers,
    ),
    story("tokens-share", "30 % of a limit, of which a neighbour uses the other 70 % to the full", share),
    story("tokens-others", "others use a fifth of a limit, as answers say", others),
    story(
        "tokens-over-reserving",
        "a workload that allows eight times what it uses, beside others",
        over_reserving,
    ),
];

/// A minute's limit of tokens in a bucket whose answers come at so many tokens a second, with what they use learned.
pub(super) fn learning(
    random: &mut Random,
    work: TokenWork,
    charged: Charged,
    (amount, speed): (u64, u64),
) -> Scenario {
    let mut scenario = calm(random, (6_000, seconds(60), ms(300)));
    let longest = seconds(200);
    let mut work = work;
    work.pace = Pace::TokensPerSecond(speed, longest - seconds(10));
    work.parts = 100;
    work.provider.rejects = true;
    let unit = super::tokens(random, (amount, seconds(60)), counting(charged, Reserving::Learned));
    scenario.account.limits.push(LimitConfig { counted_as: CountedAs::TokenBucket, ..unit });
    scenario.account.pause.max_call = longest;
    // A slow disk gets few commits.
    scenario.disk = Some(Disk { takes: ms(200), fails: 0 });
    scenario.upstream.thinks = ms(500);
    scenario.tokens = Some(work);
    // A few pods, each with more calls than run at once.
    scenario.pods = (0..6).map(|pod| format!("team/job-{}", pod % 3)).collect();
    scenario.workload.arrivals = Arrivals::Backlog(20);
    scenario.workload.leaves = 10_000;
    scenario.length = seconds(600);
    scenario.expects.tokens_peak_at_most = Some(130);
    scenario
}

fn long_tail(random: &mut Random) -> Scenario {
    let mut work = TokenWork::new((40, 400), (8_000, 8_000), 50, Charged::AsProduced);
    (work.outputs.long_per_million, work.outputs.long) = (80_000, 8_000);
    let mut scenario = learning(random, work, Charged::AsProduced, (400_000, 100));
    scenario.workload.arrivals = Arrivals::Backlog(80);
    scenario.length = seconds(300);
    scenario.expects.rejected_at_most = Some(1);
    // It is about 40; learned from ended calls alone it is 55 to 65.
    scenario.expects.tokens_peak_at_most = Some(60);
    scenario
}

fn growing(random: &mut Random) -> Scenario {
    let mut work = TokenWork::new((40, 400), (8_000, 8_000), 100, Charged::AsProduced);
    let workload = random.chance(500_000).then(|| "team/job-1".to_owned());
    work.outputs.grows = Some(Growth { at: seconds(200), times: 20, workload });
    let mut scenario = learning(random, work, Charged::AsProduced, (100_000, 100));
    scenario.expects.tokens_used_at_least = Some(4_000);
    scenario
}

/// Of each workload there are thirty calls, and nothing is known of it when they begin.
fn jobs(random: &mut Random) -> Scenario {
    let work = TokenWork::new((40, 400), (16_000, 16_000), 500, Charged::AsProduced);
    let mut scenario = learning(random, work, Charged::AsProduced, (100_000, 100));
    scenario.pods = (0..40).map(|pod| format!("team/job-{pod}")).collect();
    scenario.workload.arrivals = Arrivals::Jobs(30, 2);
    // In this time 1,200 calls use all of it.
    scenario.length = seconds(400);
    scenario.expects.tokens_used_at_least = Some(6_000);
    scenario
}

fn debt(random: &mut Random) -> Scenario {
    let mut work = TokenWork::new((40, 400), (8_000, 8_000), 40, Charged::AsProduced);
    work.outputs.grows = Some(Growth { at: seconds(100), times: 100, workload: None });
    let mut scenario = learning(random, work, Charged::AsProduced, (30_000, 200));
    scenario.workload.leaves = 0;
    scenario.faults.limiter_crash_at = Some(seconds(random.between(110, 170)));
    scenario.length = seconds(400);
    scenario.expects.tokens_peak_at_most = Some(400);
    scenario.expects.rejected_at_most = Some(20);
    scenario
}

fn estimated(random: &mut Random) -> Scenario {
    let charged = *random.pick(&[Charged::AtArrival, Charged::Settled]);
    let mut work = TokenWork::new((400, 8_000), (200, 200), 100, charged);
    work.bytes_per_token = 1;
    let mut scenario = learning(random, work, charged, (200_000, 100));
    for limit in scenario.account.limits.iter_mut().skip(1) {
        let formula = ArrivalFormula { bytes_per_token: 4, output: ArrivalOutput::Added, exact: false };
        limit.tokens = limit.tokens.map(|tokens| TokenLimit { arrival: Some(formula), ..tokens });
    }
    if let Some(work) = &mut scenario.tokens {
        work.provider.tells = 1_000;
    }
    scenario
}

fn slow_headers(random: &mut Random) -> Scenario {
    let mut work = TokenWork::new((400, 4_000), (400, 400), 200, Charged::AtArrival);
    work.provider.tells = 1_000;
    let mut scenario = learning(random, work, Charged::AtArrival, (60_000, 100));
    for limit in scenario.account.limits.iter_mut().skip(1) {
        let formula = ArrivalFormula { bytes_per_token: 4, output: ArrivalOutput::Added, exact: false };
        limit.tokens = limit.tokens.map(|tokens| TokenLimit { arrival: Some(formula), ..tokens });
    }
    scenario.upstream.thinks = seconds(*random.pick(&[60, 120]));
    scenario.workload.arrivals = Arrivals::Backlog(60);
    scenario.expects.tokens_used_at_least = Some(8_000);
    scenario.expects.worst_window_at_least = Some(50);
    scenario
}

fn share(random: &mut Random) -> Scenario {
    let mut work = TokenWork::new((40, 400), (4_000, 4_000), 500, Charged::AsProduced);
    work.provider.tells = 1_000;
    work.provider.others_percent = 70;
    let mut scenario = learning(random, work, Charged::AsProduced, (60_000, 100));
    for limit in scenario.account.limits.iter_mut().skip(1) {
        limit.declared = Some(200_000);
    }
    scenario.expects.tokens_used_at_least = Some(8_000);
    scenario.expects.worst_window_at_least = Some(50);
    scenario
}

/// The provider counts a sliding window, and rejects what does not fit into it.
fn others(random: &mut Random) -> Scenario {
    let mut work = TokenWork::new((40, 400), (1_000, 1_000), 300, Charged::AtArrival);
    work.provider.tells = 1_000;
    work.provider.others_percent = 20;
    let reserving = *random.pick(&[Reserving::Bound, Reserving::Learned]);
    let mut scenario = learning(random, work, Charged::AtArrival, (100_000, 200));
    for limit in scenario.account.limits.iter_mut().skip(1) {
        let formula = ArrivalFormula { bytes_per_token: 4, output: ArrivalOutput::Added, exact: true };
        limit.counted_as = CountedAs::SlidingWindow;
        limit.tokens = limit.tokens.map(|tokens| TokenLimit { arrival: Some(formula), reserving, ..tokens });
    }
    if reserving == Reserving::Learned {
        for limit in scenario.account.limits.iter_mut().skip(1) {
            limit.tokens = limit.tokens.map(|tokens| TokenLimit { charged: Charged::Settled, ..tokens });
        }
        if let Some(work) = &mut scenario.tokens {
            work.truth = Charged::Settled;
        }
    }
    scenario.expects.rejected_at_most = Some(200);
    scenario.expects.tokens_used_at_least = Some(6_000);
    scenario.expects.worst_window_at_least = Some(50);
    scenario
}

fn over_reserving(random: &mut Random) -> Scenario {
    let charged = *random.pick(&[Charged::AsProduced, Charged::Settled]);
    let mut work = TokenWork::new((40, 40), (500, 500), 300, charged);
    work.outputs.over_reserves = Some(("team/job-0".to_owned(), 8));
    work.provider.settles_late = true;
    let mut scenario = learning(random, work, charged, (60_000, 100));
    scenario.pods = (0..4).map(|pod| format!("team/job-{pod}")).collect();
    for limit in scenario.account.limits.iter_mut().skip(1) {
        limit.tokens = limit.tokens.map(|tokens| TokenLimit { reserving: Reserving::Bound, ..tokens });
    }
    scenario.workload.leaves = 0;
    scenario.workload.arrivals = Arrivals::Backlog(40);
    scenario.expects.tokens_peak_at_most = None;
    scenario.expects.rejected_at_most = Some(0);
    scenario.expects.fair_at_least = Some(980_000);
    scenario
}
