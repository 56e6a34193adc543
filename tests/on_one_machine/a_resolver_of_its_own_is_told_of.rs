//! A client that asks DNS instead of the hosts file goes around the proxy without an error: a person hears of it while
//! the command runs, and at its end.

use std::fs;
use std::net::IpAddr;

use crate::programs::{HUBSPOT_PYTHON, beside_node_modules, sdks};
use crate::real_sdks_stay_within_the_quota::{quota, rules};
use crate::scene::{Scene, is_root};

const URL: &str = "https://api.hubapi.com/crm/v3/objects/contacts?limit=1";
const KEY: &str = "key-of-a-resolver";
/// What went wrong and what to do.
const WORDS: [&str; 3] = ["went around the quota", "cacheable-lookup, got's dnsCache", "switch that off"];

#[test]
fn got_with_cacheable_lookup() {
    if !is_root("reaching a provider by its host") {
        return;
    }
    let scene = Scene::on_port_443(&rules());
    let IpAddr::V4(address) = scene.provider.https().unwrap().ip() else { panic!("IPv4 is asked for") };
    let program = beside_node_modules(&scene, sdks(), "past_the_hosts_file.mjs");
    let file = scene.path("told");
    let mut command = scene.quotakeeper(&quota(&scene, &HUBSPOT_PYTHON));
    // The provider's certificate is good to the client, as a public one is.
    command.env("NODE_EXTRA_CA_CERTS", scene.provider_ca());
    command.args(["--", "node", &program, URL, KEY, &address.to_string(), &file.to_string_lossy()]);
    let mut running = scene.start(command);
    let said = || fs::read_to_string(scene.path("stderr")).unwrap_or_default();
    running.until("the warning", || WORDS.iter().all(|words| said().contains(words)));
    fs::write(&file, "").unwrap();
    let ended = running.ended();
    assert_eq!((ended.code, &*ended.stdout), (0, "200\n200\n200\n"), "{}", ended.stderr);
    assert_eq!((scene.provider.summary(KEY).totals.ok, &scene.report()["calls"]), (3, &0.into()));
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains("cacheable-lookup"), "{last}");
}
