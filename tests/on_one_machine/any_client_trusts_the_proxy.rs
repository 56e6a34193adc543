//! Programs whose provider is found by its host trust the proxy, whatever they read their CAs from: variables, the
//! system's file, a Java trust store. What a person trusts besides is trusted still, and a client that can't be made to
//! trust the proxy is told of at once.

use std::path::PathBuf;
use std::process::Command;

use test_support::certificates::Ca;

use crate::programs::{HUBSPOT_PYTHON, sdks};
use crate::real_sdks_stay_within_the_quota::{quota, rules};
use crate::scene::{Ended, Scene, is_root};

const URL: &str = "https://api.hubapi.com/crm/v3/objects/contacts?limit=1";
const KEY: &str = "key-of-any-client";

/// A scene, unless hosts can't be intercepted here.
fn scene() -> Option<Scene> {
    is_root("a run that plays its providers' hosts").then(|| Scene::on_port_443(&rules()))
}

fn kept(scene: &Scene, words: &[&str]) -> Command {
    let mut command = scene.quotakeeper(&quota(scene, &HUBSPOT_PYTHON));
    command.arg("--").args(words);
    command
}

/// Whether a program is there; a run of CI without it would prove less than it says.
fn there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "{program} is missing");
    if !there {
        eprintln!("not tried: {program} is missing");
    }
    there
}

/// Programs that Debian has, unpacked and not installed.
fn unpacked() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/debian.sh");
    let unpacked = Command::new(script).args(["php-cli", "php-curl", "nscd"]).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    PathBuf::from(String::from_utf8(unpacked.stdout).unwrap().trim())
}

fn answered(scene: &Scene, ended: &Ended, calls: u64) {
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let report = scene.report();
    assert_eq!((&report["answered"], &report["distrusted"]), (&calls.into(), &0.into()), "{}", ended.stderr);
    assert_eq!(scene.provider.summary(KEY).totals.ok, calls, "{}", ended.stderr);
}

#[test]
fn wget_and_curl_without_any_variable() {
    let Some(scene) = scene().filter(|_| there("wget")) else { return };
    let header = format!("Authorization: Bearer {KEY}");
    let script = format!(
        r#"env -i PATH="$PATH" wget -nv -O /dev/null --header "$0" "{URL}" && env -i PATH="$PATH" curl -sf -o /dev/null -H "$0" "{URL}""#
    );
    let ended = scene.run(kept(&scene, &["sh", "-ec", &script, &header]));
    answered(&scene, &ended, 2);
}

#[test]
fn phps_curl() {
    let Some(scene) = scene() else { return };
    let php = unpacked();
    let find = |below: &str, name: &str| {
        let entries = std::fs::read_dir(php.join(below)).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.to_string_lossy().contains(name)).unwrap()
    };
    let libraries = php.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let modules = find("usr/lib/php", "/20");
    let program = find("usr/bin", "/php8");
    let script = format!(
        "$c = curl_init('{URL}'); curl_setopt_array($c, [CURLOPT_RETURNTRANSFER => 1, CURLOPT_HTTPHEADER => \
         ['Authorization: Bearer {KEY}']]); if (curl_exec($c) === false) {{ echo curl_error($c); exit(1); }}"
    );
    let libraries = format!("LD_LIBRARY_PATH={}", libraries.display());
    let modules = format!("extension_dir={}", modules.display());
    let program = program.to_string_lossy();
    let words = ["env", &libraries, &*program, "-n", "-d", &modules, "-d", "extension=curl", "-r", &script];
    let ended = scene.run(kept(&scene, &words));
    answered(&scene, &ended, 1);
}

#[test]
fn javas_http_client() {
    let Some(scene) = scene().filter(|_| there("java")) else { return };
    scene.file("Calls.java", include_str!("../sdk/Calls.java"));
    let ended = scene.run(kept(&scene, &["java", "-XX:TieredStopAtLevel=1", "Calls.java", URL, KEY]));
    answered(&scene, &ended, 1);
    assert_eq!(ended.stdout.trim(), "200");
    assert!(!ended.stderr.contains("JAVA_TOOL_OPTIONS"), "its own trust store is enough: {}", ended.stderr);
}

/// Stores that options name, one encrypted and one not, each with a password of its own.
#[test]
fn javas_own_trust_stores() {
    let Some(scene) = scene().filter(|_| there("java")) else { return };
    scene.file("Calls.java", include_str!("../sdk/Calls.java"));
    let own = scene.file("own.pem", &Ca::new().pem());
    let store = |name: &str, kind: &str, password: &str| {
        let file = scene.path(name);
        let mut keytool = Command::new("keytool");
        keytool.args([
            "-importcert",
            "-noprompt",
            "-alias",
            "own",
            "-storetype",
            kind,
            "-storepass",
            password,
        ]);
        let made = keytool.arg("-file").arg(&own).arg("-keystore").arg(&file).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={password}", file.display())
    };
    let (encrypted, plain) =
        (store("own.p12", "PKCS12", "secret-one"), store("own.jks", "JKS", "secret-two"));
    let script = format!(
        r#"keytool -list -keystore own.p12 -storepass secret-one | grep -c trustedCertEntry
        java -XX:TieredStopAtLevel=1 {encrypted} Calls.java "$0" {KEY}
        java -XX:TieredStopAtLevel=1 $APP_OPTS Calls.java "$0" {KEY}"#
    );
    let mut command = kept(&scene, &["sh", "-ec", &script, URL]);
    command.env("APP_OPTS", plain);
    let ended = scene.run(command);
    answered(&scene, &ended, 2);
    assert_eq!(ended.stdout, "2\n200\n200\n", "the own CA, and the run's: {}", ended.stderr);
}

/// A service that only the person's own CA vouches for is reached from within the command as before, by a client of
/// each variable.
#[test]
fn cas_of_a_persons_own_are_trusted_still() {
    let Some(scene) = scene() else { return };
    let ca = Ca::new();
    let leaf = ca.issue("localhost");
    let own = scene.file("own.pem", &ca.pem());
    scene.file("leaf.pem", &leaf.certificate);
    scene.file("leaf.key", &leaf.key);
    let script = r#"
openssl s_server -quiet -accept 127.0.0.1:0 -naccept 9 -cert leaf.pem -key leaf.key -www < /dev/null > /dev/null 2> served &
server=$!
trap 'kill $server' EXIT
until port=$(ss -Hltnp | sed -n "s/.*127.0.0.1:\([0-9]*\) .*pid=$server,.*/\1/p") && [ -n "$port" ]; do sleep 0.1; done
curl -sf -o /dev/null "https://localhost:$port/"
curl -sf -o /dev/null -H "Authorization: Bearer $1" "$0"
node -e 'fetch(process.argv[1]).then(() => 0, (error) => { console.error(error); process.exit(1) })' "https://localhost:$port/"
"$2" -c 'import ssl, sys, socket
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plain:
    ssl.create_default_context(cafile=sys.argv[2]).wrap_socket(plain, server_hostname="localhost")' "$port" "$REQUESTS_CA_BUNDLE"
"#;
    let python = sdks().join("python/bin/python");
    let mut command = kept(&scene, &["bash", "-ec", script, URL, KEY, &python.to_string_lossy()]);
    for variable in ["CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"] {
        command.env(variable, &own);
    }
    let ended = scene.run(command);
    answered(&scene, &ended, 1);
}

/// Its CAs are compiled in, as far as anybody can tell: it reads one file and nothing else.
#[test]
fn a_client_that_never_will_is_told_of_at_once() {
    let Some(scene) = scene() else { return };
    let stranger = scene.file("stranger.pem", &Ca::new().pem());
    let script = r#"for _ in 1 2 3; do curl -s --cacert "$0" "$1"; done; exit 0"#;
    let ended = scene.run(kept(&scene, &["sh", "-c", script, &stranger.to_string_lossy(), URL]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!((&scene.report()["calls"], &scene.report()["distrusted"]), (&0.into(), &3.into()));
    let told = ended.stderr.matches("a client does not trust the proxy's CA").count();
    assert_eq!(told, 1, "once, not at each of the three: {}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap();
    assert!(
        last.contains("3 connections ended before a call, as if their client did not trust the proxy's CA"),
        "{last}"
    );
    assert!(!last.contains("base URL of its own"), "{last}");
}

/// nscd answers from the machine's hosts file, which does not know of the proxy.
#[test]
fn nscd_does_not_lead_past_the_proxy() {
    beside_nscd("mkdir -p /run/nscd && mount -t tmpfs none /run/nscd");
}

/// The C library looks for its socket below /var/run, which need not be a link to /run.
#[test]
fn nscd_of_an_older_machine_does_not_lead_past_the_proxy() {
    beside_nscd("mount -t tmpfs none /var && mkdir -p /var/run/nscd /var/db/nscd");
}

/// One call beside an nscd whose folders `folders` makes.
fn beside_nscd(folders: &str) {
    let Some(scene) = scene() else { return };
    let nscd = unpacked().join("usr/sbin/nscd");
    let run = kept(
        &scene,
        &[
            "curl",
            "-sf",
            "--max-time",
            "30",
            "-o",
            "/dev/null",
            "-H",
            &format!("Authorization: Bearer {KEY}"),
            URL,
        ],
    );
    let address = scene.provider.https().unwrap().ip();
    let hosts = scene.file("machine-hosts", &format!("127.0.0.1 localhost\n{address} api.hubapi.com\n"));
    let configuration =
        scene.file("nscd.conf", "enable-cache hosts yes\npersistent hosts no\nshared hosts no\n");
    let script = r#"
mount --bind "$1" /etc/hosts
eval "$3"
"$0" --foreground --config-file "$2" & nscd=$!
trap 'kill $nscd' EXIT
until [ -S /var/run/nscd/socket ]; do sleep 0.1; done
shift 3
"$@"
"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script]).args([&nscd, &hosts, &configuration]).arg(folders);
    command.arg(run.get_program()).args(run.get_args());
    let ended = scene.run(command);
    answered(&scene, &ended, 1);
}
