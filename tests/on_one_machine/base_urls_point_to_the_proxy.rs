//! Wherever the proxy listens, and whatever other proxy a person's environment names: the command finds ours.

use crate::real_sdks_stay_within_the_quota::rules;
use crate::scene::Scene;

const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: plain}\nspec: {provider: {name: demo}}\n";

/// Python's own client does as `HTTP_PROXY` and `NO_PROXY` say.
const CALL: &str = r#"
import os, urllib.request
request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer key-of-demo"})
print(os.environ["DEMO_BASE_URL"].rsplit(":", 1)[0], urllib.request.urlopen(request).status)
"#;

#[test]
fn any_listen_address() {
    for (listen, host) in [
        ("127.0.0.1:0", "http://127.0.0.1"),
        ("127.0.0.9:0", "http://127.0.0.9"),
        ("0.0.0.0:0", "http://127.0.0.1"),
        ("[::1]:0", "http://[::1]"),
        ("[::]:0", "http://[::1]"),
    ] {
        let scene = Scene::new(&rules());
        let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
        // Nobody answers there.
        command.env("HTTP_PROXY", "http://127.0.0.1:9").env("http_proxy", "http://127.0.0.1:9");
        command.env("NO_PROXY", "").env("no_proxy", "");
        command.args(["--listen", listen, "--", "python3", "-c", CALL]);
        let ended = scene.run(command);
        assert_eq!(ended.stdout, format!("{host} 200\n"), "{listen}\n{}", ended.stderr);
        assert_eq!(scene.provider.summary("key-of-demo").totals.ok, 1, "{listen}");
    }
}

const ANTHROPIC: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: plain}\nspec: {provider: {name: anthropic, tier: tier-1}}\n";

/// Anthropic's SDKs add `/v1` to the variable, Vercel's @ai-sdk/anthropic does not.
const BOTH: &str = r#"
import json, os, urllib.request
for path in ["/v1/messages", "/messages"]:
    body = json.dumps({"model": "claude-haiku-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]})
    headers = {"x-api-key": "key-of-anthropic", "content-type": "application/json"}
    request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + path, body.encode(), headers)
    print(urllib.request.urlopen(request).status)
"#;

#[test]
fn a_variable_serves_clients_that_add_the_version_and_those_that_do_not() {
    let scene = Scene::new(&rules());
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", ANTHROPIC));
    command.args(["--", "python3", "-c", BOTH]);
    let ended = scene.run(command);
    assert_eq!(ended.stdout, "200\n200\n", "{}", ended.stderr);
    assert_eq!(scene.provider.summary("key-of-anthropic").totals.ok, 2);
}
