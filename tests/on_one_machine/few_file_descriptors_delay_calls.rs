//! More clients than the limit of open files has room for: they wait for each other, and nobody is told that the
//! provider can't be reached.

use std::time::Instant;

use crate::programs::Told;
use crate::scene::{Scene, behind};

const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: plain}\nspec:\n  provider: {name: demo, tier: free}\n  limits:\n  - {name: requests, unit: Requests, amount: 10000, windowSeconds: 1}\n";
/// Slow enough that all clients are there at once.
const RULES: &str = "providers:\n  demo: {answerMillis: 300}\n";
const PROCESSES: u64 = 3;
const CLIENTS: u64 = 50;
const CALLS: u64 = PROCESSES * CLIENTS * 2;

/// Threads of several processes, each of which has the same limit of open files.
const SWARM: &str = r#"
import json, multiprocessing, os, threading, urllib.error, urllib.request

def process(clients, results):
    def client():
        for _ in range(2):
            request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer key-of-demo"})
            try:
                with urllib.request.urlopen(request) as answer:
                    results.put(answer.status)
            except urllib.error.HTTPError as error:
                results.put(error.code)
    threads = [threading.Thread(target=client) for _ in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

results = multiprocessing.SimpleQueue()
processes = [multiprocessing.Process(target=process, args=(CLIENTS, results)) for _ in range(PROCESSES)]
[process.start() for process in processes]
got = [results.get() for _ in range(PROCESSES * CLIENTS * 2)]
print(json.dumps({"calls": len(got), "ok": got.count(200), "failed": len(got) - got.count(200)}))
"#;

#[test]
fn more_clients_than_file_descriptors() {
    let scene = Scene::new(RULES);
    let mut kept = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    let swarm = format!("CLIENTS, PROCESSES = {CLIENTS}, {PROCESSES}\n{SWARM}");
    kept.args(["--progress", "off", "--", "python3", "-c", &swarm]);
    let begun = Instant::now();
    let ended = scene.run(behind(&["sh", "-c", r#"ulimit -n 160; exec "$0" "$@""#], &kept));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let told = Told::of(&ended);
    assert_eq!((told.ok, told.failed), (CALLS, 0), "{}", ended.stderr);
    assert_eq!(scene.report()["failed"], 0);
    assert_eq!(scene.provider.summary("key-of-demo").totals.ok, CALLS, "each was sent once");
    let told = ended.stderr.lines().filter(|line| line.contains("calls wait for a file descriptor")).count();
    // Once in 30 seconds.
    let most = 1 + begun.elapsed().as_secs() / 30;
    assert!((1..=most).contains(&(told as u64)), "told {told} times, not 1 to {most}:\n{}", ended.stderr);
}
