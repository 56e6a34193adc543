//! The same programs without Quotakeeper: the provider rejects them, their own retries run out, they fail.

use crate::judge::Judged;
use crate::programs::{
    ANTHROPIC_PYTHON, ANTHROPIC_PYTHON_STREAMING, HUBSPOT_PYTHON, OPENAI_NODE, OPENAI_PYTHON,
    OPENAI_PYTHON_STREAMING, Program, Told,
};
use crate::real_sdks_stay_inside_the_quota::{AMOUNT, clients, scene};
use crate::scene::is_root;

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

#[test]
fn openai_python() {
    story(&OPENAI_PYTHON);
}

#[test]
fn openai_python_streaming() {
    story(&OPENAI_PYTHON_STREAMING);
}

#[test]
fn openai_node() {
    story(&OPENAI_NODE);
}

#[test]
fn anthropic_python() {
    story(&ANTHROPIC_PYTHON);
}

#[test]
fn anthropic_python_streaming() {
    story(&ANTHROPIC_PYTHON_STREAMING);
}

#[test]
fn hubspot_python_by_its_host() {
    if is_root("finding a provider by its host") {
        story(&HUBSPOT_PYTHON);
    }
}
