//! AWS's SDK signs its calls to Bedrock, the provider verifies each signature: they hold through the proxy, and none grows
//! too old in the queue.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use test_support::certificates::Ca;

use crate::programs::{sdk_source, sdks};
use crate::scene::{Scene, is_root};

const HOST: &str = "bedrock-runtime.eu-west-1.amazonaws.com";
const SECRET: &str = "a-secret-access-key-of-this-story";
/// One call in eight seconds, and signatures that the proxy takes to hold for five.
const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: aws}
spec:
  hosts: [bedrock-runtime.eu-west-1.amazonaws.com]
  client: {signatureSeconds: 5}
  tiers:
  - name: only
    limits:
    - {name: requests, unit: Requests, amount: 1, windowSeconds: 8, countedAs: SlidingWindow}
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: leads}
spec:
  provider: {name: aws, tier: only}
";
/// For how long the provider accepts a signature, in seconds: two more, for machines that stall.
const WINDOW: &str = "7";

/// The provider; ended with the story.
struct Bedrock(Child);

impl Drop for Bedrock {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A request as the provider got it.
#[derive(Debug, Deserialize)]
struct Request {
    path: String,
    verdict: String,
    arrived: f64,
}

/// What the program says at its end.
#[derive(Debug, Deserialize)]
struct Told {
    ok: u64,
    retries: u64,
    errors: Vec<String>,
}

/// Starts the provider; returns its port.
fn provider(scene: &Scene) -> (Bedrock, u16) {
    let ca = Ca::new();
    let leaf = ca.issue(HOST);
    scene.file("bedrock-ca.pem", &ca.pem());
    let mut command = Command::new(sdks().join("python/bin/python"));
    command.arg(sdk_source("bedrock_provider.py")).args(["--secret", SECRET, "--window", WINDOW]);
    command.arg("--certificate").arg(scene.file("bedrock.pem", &leaf.certificate));
    command.arg("--key").arg(scene.file("bedrock.key", &leaf.key));
    command.arg("--log").arg(scene.path("bedrock.log")).arg("--port-file").arg(scene.path("bedrock.port"));
    let provider = Bedrock(command.stdin(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(scene.path("bedrock.port")).unwrap_or_default();
        if let Some(port) = text.strip_suffix('\n') {
            return (provider, port.parse().unwrap());
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the provider does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn boto3_by_its_host() {
    if !is_root("reaching a provider by its host") {
        return;
    }
    let scene = Scene::new("{}");
    let (_bedrock, port) = provider(&scene);
    let mut command = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    command.arg("--resolve").arg(format!("{HOST}:443:127.0.0.1:{port}"));
    command.arg("--upstream-ca").arg(scene.path("bedrock-ca.pem"));
    command.arg("--").arg(sdks().join("python/bin/python")).arg(sdk_source("bedrock_converse.py"));
    command.env("AWS_ACCESS_KEY_ID", "AKIDOFTHISSTORY").env("AWS_SECRET_ACCESS_KEY", SECRET);
    // A person's own settings are not asked.
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").env_remove("AWS_CA_BUNDLE");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let ended = scene.run(command);

    let told: Told = serde_json::from_str(ended.stdout.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr));
    assert_eq!((told.ok, &told.errors[..]), (3, &[][..]), "{}", ended.stderr);
    let log = fs::read_to_string(scene.path("bedrock.log")).unwrap();
    let requests: Vec<Request> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    println!("{told:?} {requests:?}");
    assert!(requests.iter().all(|request| request.verdict == "ok"), "{requests:?}");
    assert_eq!(requests.len(), 3, "sent once each, although asked for more often: {requests:?}");
    assert!(requests.iter().any(|request| request.path.contains("v1%3A0/converse")), "{requests:?}");
    assert!(requests.windows(2).all(|pair| pair[1].arrived - pair[0].arrived > 7.0), "{requests:?}");
    // The second and the third could not wait for their turn, and were signed again.
    assert!(told.retries >= 2, "{told:?}");
    let refused = scene.report()["refusedByReason"]["WaitTooLong"].as_u64();
    assert_eq!(refused, Some(told.retries), "refused on arrival: {}", ended.stderr);
}
