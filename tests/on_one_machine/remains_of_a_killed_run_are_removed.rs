//! A run that is killed can't remove its certificate and its hosts file: the next run does, and leaves those of the
//! living alone.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::programs::HUBSPOT_PYTHON;
use crate::real_sdks_stay_within_the_quota::{quota, rules};
use crate::scene::{Scene, is_root};

/// The names of what runs have in the temporary folder now.
fn files(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.path("tmp")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn kept(scene: &Scene, script: &str) -> Command {
    let mut command = scene.quotakeeper(&quota(scene, &HUBSPOT_PYTHON));
    command.env("TMPDIR", scene.path("tmp")).args(["--", "sh", "-c", script]);
    command
}

#[test]
fn the_next_run_removes_the_remains_of_a_killed_one() {
    if !is_root("a run that plays its providers' hosts") {
        return;
    }
    let scene = Scene::on_port_443(&rules());
    fs::create_dir(scene.path("tmp")).unwrap();
    let mut living = scene.start(kept(&scene, "touch living && exec sleep 600"));
    living.until("the living run", || scene.path("living").exists());
    let of_the_living = files(&scene);
    let count = of_the_living.len();
    assert!(count >= 2, "at least a certificate and a hosts file: {of_the_living:?}");

    let mut killed = scene.start(kept(&scene, "touch killed && exec sleep 600"));
    killed.until("the run to be killed", || scene.path("killed").exists());
    killed.signal_all(Signal::SIGKILL);
    assert_eq!(killed.ended().code, 128 + 9);
    assert_eq!(files(&scene).len(), 2 * count);

    let next = scene.run(kept(&scene, "ls tmp; cat \"$SSL_CERT_FILE\" > /dev/null"));
    assert_eq!(next.code, 0, "{}", next.stderr);
    let during: Vec<&str> = next.stdout.lines().collect();
    assert_eq!(during.len(), 2 * count, "its own and those of the living: {during:?}");
    assert!(of_the_living.iter().all(|name| during.contains(&name.as_str())), "{during:?}");
    assert_eq!(files(&scene), of_the_living, "only those of the living are left");
    living.signal(Signal::SIGTERM);
    assert_eq!(living.ended().code, 128 + 15);
    assert!(files(&scene).is_empty());
}
