//! Unmodified SDKs, many clients at once, over eleven windows: counted by the provider, nothing is over the quota and
//! nearly all of it is used.

use std::path::PathBuf;

use crate::judge::Judged;
use crate::programs::{Finds, Program, Told, for_each_sdk};
use crate::scene::Scene;

/// The quota of every story: so many calls in so many seconds.
pub const AMOUNT: u64 = 30;
pub const WINDOW_SECONDS: u64 = 3;
/// Eleven windows and a half.
const CALLS: u64 = AMOUNT * 23 / 2;
/// More than three times what a window holds. Fewer where the client waits 30 s at most.
const CLIENTS: u64 = 100;
const CLIENTS_BY_HOST: u64 = 60;

/// The provider's side of the quota, each provider counting in its own way.
pub fn rules() -> String {
    let window = WINDOW_SECONDS * 1_000;
    let tried = |counted_as| {
        format!("{{name: tried, count: {AMOUNT}, windowMillis: {window}, countedAs: {counted_as}}}")
    };
    let daily = "{name: daily, count: 250000, windowMillis: 86400000, countedAs: Fixed, endpoint: '*'}";
    format!(
        "providers:\n  openai: {{limits: [{}], answerMillis: 20, streamMillis: 5}}\n  anthropic: {{limits: [{}], answerMillis: 20, streamMillis: 5}}\n  hubspot: {{limits: [{}, {daily}], answerMillis: 20}}\n  demo: {{limits: [{}]}}\n",
        tried("Sliding"),
        tried("Bucket"),
        tried("Sliding"),
        tried("Sliding"),
    )
}

/// The user's side of it: the shipped profile, but that this machine may stand still. With the shipped bound between
/// the wire and the provider's count, 0.3 s for such windows, a stall of a second would excuse calls over the quota;
/// with three seconds there is nothing to excuse.
pub fn quota(scene: &Scene, program: &Program) -> PathBuf {
    let Program { provider, limit, counted_as, other_limits, pacing, .. } = program;
    let tier = format!(
        "    - {{name: {limit}, unit: Requests, amount: 1000, windowSeconds: 60, countedAs: {counted_as}, deliveryMillis: 3000}}
{other_limits}"
    );
    let own = format!(
        "  - {{name: {limit}, unit: Requests, amount: {AMOUNT}, windowSeconds: {WINDOW_SECONDS}}}
{pacing}"
    );
    scene.quota_of_this_machine(provider, &tier, &own)
}

pub fn scene(program: &Program) -> Scene {
    match program.finds {
        Finds::BaseUrl { .. } => Scene::new(&rules()),
        Finds::Host(_) => Scene::on_port_443(&rules()),
    }
}

pub fn clients(program: &Program) -> u64 {
    match program.finds {
        Finds::BaseUrl { .. } => CLIENTS,
        Finds::Host(_) => CLIENTS_BY_HOST,
    }
}

fn story(program: &Program) {
    let scene = scene(program);
    let quota = quota(&scene, program);
    let ended = scene.run(program.kept(&scene, &quota, CALLS, clients(program)));
    let told = Told::of(&ended);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!((told.calls, told.ok, told.failed), (CALLS, CALLS, 0), "a call was lost\n{}", ended.stderr);
    let judged = Judged::of(&scene.provider, &program.account());
    let (windows, breaches) = (judged.inner_windows(), breaches(&scene));
    let (used, each) = (judged.used(), &judged.limit.windows);
    println!(
        "{}: {} ok, {} over, {breaches} breaches, {used:.1} % of the fuller half of {windows} windows used {each:?}",
        program.name, judged.ok, judged.over
    );
    assert_eq!(judged.ok, CALLS, "the provider answered another number of calls than the program made");
    assert_eq!((judged.over, breaches), (0, 0), "over the quota, and breaches that were reported");
    assert!(windows >= 8, "too few windows: {each:?}");
    // A machine that stands still empties some windows; the simulator asks for all of them.
    assert!(used >= 85.0, "too little was used: {each:?}");
}

/// Calls that the report says were written later than the promise's bound.
pub fn breaches(scene: &Scene) -> u64 {
    let report = scene.report();
    report["accounts"].as_array().unwrap().iter().map(|account| account["breaches"].as_u64().unwrap()).sum()
}

for_each_sdk!(story);
