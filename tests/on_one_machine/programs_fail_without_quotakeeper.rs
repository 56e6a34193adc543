//! The same programs without Quotakeeper: the provider rejects them, their own retries run out, they fail.

use crate::judge::Judged;
use crate::programs::{Program, Told, for_each_sdk};
use crate::real_sdks_stay_within_the_quota::{AMOUNT, clients, scene};

/// Six windows' worth: more than enough to fail.
const CALLS: u64 = AMOUNT * 6;

fn story(program: &Program) {
    let scene = scene(program);
    let ended = scene.run(program.alone(&scene, CALLS, clients(program)));
    let told = Told::of(&ended);
    let judged = Judged::of(&scene.provider, &program.account());
    println!("{} alone: {} ok, {} failed; {} rejections", program.name, told.ok, told.failed, judged.over);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(told.failed > 0 && judged.over > 0, "it got through: {told:?}");
    assert_eq!((told.calls, told.ok), (CALLS, judged.ok), "the program and the provider disagree");
}

for_each_sdk!(story);
