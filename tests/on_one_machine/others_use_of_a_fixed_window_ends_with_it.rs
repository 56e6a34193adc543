//! A key that others use too, at a provider that says when its window ends: no call goes over, and none waits for longer.

use crate::real_sdks_stay_within_the_quota::breaches;
use crate::scene::Scene;

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 20, windowMillis: 8000, countedAs: Fixed, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: fixed}
spec:
  extends: demo
  tiers:
  - name: one
    limits: [{name: requests, unit: Requests, amount: 20, windowSeconds: 8, countedAs: FixedWindow}]
  headers: [{limit: requests, format: RateLimitFields, resetMeans: WindowEnd}]
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: shared}
spec: {provider: {name: fixed, tier: one}}
"#;

/// Eighteen calls past Quotakeeper, then twelve through it, all at once.
const CALLS: &str = r#"
import concurrent.futures, http.client, os, socket, ssl, sys, urllib.request
ip, port, ca = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)
with tls.wrap_socket(socket.create_connection((ip, int(port))), server_hostname="api.demo.example") as others:
    for _ in range(18):
        others.sendall(b"GET /anything HTTP/1.1\r\nhost: api.demo.example\r\nauthorization: Bearer shared\r\n\r\n")
        answer = http.client.HTTPResponse(others)
        answer.begin()
        answer.read()
def call(_):
    request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer shared"})
    return urllib.request.urlopen(request).status
with concurrent.futures.ThreadPoolExecutor(12) as pool:
    print(sorted(set(pool.map(call, range(12)))))
"#;

#[test]
fn no_call_goes_over_and_all_are_answered() {
    let scene = Scene::new(RULES);
    let provider = scene.provider.https().unwrap();
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    command.args(["--", "python3", "-c", CALLS, &provider.ip().to_string(), &provider.port().to_string()]);
    command.arg(scene.provider_ca());
    let ended = scene.run(command);
    assert_eq!(ended.stdout, "[200]\n", "{}", ended.stderr);
    let totals = scene.provider.summary("shared").totals;
    assert_eq!((totals.ok, totals.over), (30, 0), "{} late writes\n{}", breaches(&scene), ended.stderr);
}
