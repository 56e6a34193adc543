//! Clients that do not read the base-URL variable are kept within the quota all the same where hosts can be
//! intercepted; where they are not, whoever goes around the proxy is told of.

use std::fs;

use serde_json::json;

use crate::scene::{Scene, is_root};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 10, windowMillis: 2000, countedAs: Sliding, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: ours}
spec:
  extends: demo
  tiers:
  - name: one
    limits: [{name: requests, unit: Requests, amount: 10, windowSeconds: 2, countedAs: SlidingWindow, deliveryMillis: 3000}]
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: ours, tier: one}}
"#;

/// Thirty calls at once to the provider's host, whatever variables say.
const IGNORES_VARIABLES: &str = r#"
import collections, concurrent.futures, urllib.request
def call(_):
    request = urllib.request.Request("https://api.demo.example/anything", headers={"Authorization": "Bearer crm"})
    return urllib.request.urlopen(request).status
with concurrent.futures.ThreadPoolExecutor(30) as pool:
    print(dict(collections.Counter(pool.map(call, range(30)))))
"#;

#[test]
fn a_client_that_ignores_the_variable_is_limited_by_its_host() {
    if !is_root("a run that plays its providers' hosts") {
        return;
    }
    let scene = Scene::on_port_443(RULES);
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    command.args(["--", "python3", "-c", IGNORES_VARIABLES]);
    let ended = scene.run(command);
    assert_eq!(ended.stdout, "{200: 30}\n", "{}", ended.stderr);
    let totals = scene.provider.summary("crm").totals;
    assert_eq!((totals.ok, totals.over), (30, 0), "{}", ended.stderr);
    assert_eq!(scene.report()["directConnections"], json!({}));
}

/// A connection to the provider's address that stays open until the story has seen what it waits for.
const DIRECT: &str = r#"
import http.client, os, ssl, sys, time
trusting = ssl.create_default_context(cafile=sys.argv[2])
trusting.check_hostname = False
connection = http.client.HTTPSConnection(sys.argv[1], 443, context=trusting)
connection.request("GET", "/anything", headers={"Host": "api.demo.example", "Authorization": "Bearer around"})
answer = connection.getresponse()
answer.read()
print(answer.status, flush=True)
while not os.path.exists("seen"):
    time.sleep(0.02)
"#;

#[test]
fn a_connection_around_the_proxy_is_told_at_once_and_at_the_end() {
    if !is_root("a provider on port 443") {
        return;
    }
    let scene = Scene::on_port_443(RULES);
    let address = scene.provider.https().unwrap().ip().to_string();
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    command.args(["--hosts", "off", "--", "python3", "-c", DIRECT, &address]).arg(scene.provider_ca());
    let mut running = scene.start(command);
    let told = || fs::read_to_string(scene.path("stderr")).unwrap_or_default();
    running.until("the connection is told of", || {
        told().contains("connects to api.demo.example without the proxy")
    });
    scene.file("seen", "");
    let ended = running.ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "200\n"), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains("1 connection to api.demo.example went around the proxy"), "{last}");
    assert!(last.contains("intercept the provider's hosts (quotakeeper run --hosts on, as root)"), "{last}");
    assert_eq!(scene.report()["directConnections"], json!({"api.demo.example": 1}));
}
