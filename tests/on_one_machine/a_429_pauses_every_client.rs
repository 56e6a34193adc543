//! A 429 of the provider in the middle: every client pauses, nothing is lost, and the run ends well.

use counting_provider::Force;

use crate::judge::{Judged, Silence};
use crate::programs::{Program, Told, for_each_sdk};
use crate::real_sdks_stay_within_the_quota::{AMOUNT, WINDOW_SECONDS, breaches, clients, quota, scene};

/// Four windows.
const CALLS: u64 = AMOUNT * 4;
/// The 429 comes after a window and a half.
const BEFORE: u64 = AMOUNT * 3 / 2;
/// Longer than a window: otherwise a burst and the wait for the next would look like a pause.
const RETRY_AFTER_SECONDS: u64 = WINDOW_SECONDS * 2;

fn story(program: &Program) {
    let (scene, account) = (scene(program), program.account());
    let quota = quota(&scene, program);
    let mut running = scene.start(program.kept(&scene, &quota, CALLS, clients(program)));
    running.until("the calls before the 429", || scene.provider.summary(&account).totals.ok >= BEFORE);
    let retry_after = Some(RETRY_AFTER_SECONDS.to_string());
    scene.provider.force(Force { account: Some(account.clone()), retry_after, ..Force::default() }).unwrap();
    let ended = running.ended();

    let told = Told::of(&ended);
    let judged = Judged::of(&scene.provider, &account);
    let silence = Silence::after_forced(&scene.provider.log(&account));
    println!(
        "{}: {} ok, {} over, {} forced; {} more arrived, then nothing for {} ms",
        program.name, judged.ok, judged.over, judged.forced, silence.before, silence.millis
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!((told.ok, told.failed), (CALLS, 0), "the 429 reached a client\n{}", ended.stderr);
    assert_eq!(
        (judged.ok, judged.forced),
        (CALLS, 1),
        "the 429 was asked for once, each call was to be answered once"
    );
    assert_eq!((judged.over, breaches(&scene)), (0, 0), "over the quota, and breaches that were reported");
    // Of a paused account nothing arrives but what was granted before the 429 was heard: a burst at most.
    assert!((silence.before as u64) < AMOUNT, "{} calls arrived after the 429", silence.before);
    assert!(silence.millis >= (RETRY_AFTER_SECONDS - 1) * 1_000, "silent for {} ms only", silence.millis);
    assert_eq!(scene.report()["rejections"], 1, "the report tells another story");
}

for_each_sdk!(story);
