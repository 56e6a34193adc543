//! The scene of a story: a provider that counts, a folder, `quotakeeper run` around a command.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use counting_provider::{Options, Provider, RuleBook};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Far more than any story takes: only what hangs meets it.
const PATIENCE: Duration = Duration::from_secs(300);
/// Every host that the provider plays.
const HOSTS: [&str; 4] = ["api.openai.com", "api.anthropic.com", "api.hubapi.com", "api.demo.example"];

/// A provider and a folder of one story's own.
pub struct Scene {
    pub provider: Provider,
    pub folder: TempDir,
    // The provider's tasks run on it.
    _runtime: Runtime,
}

/// What came of a command.
pub struct Ended {
    /// As a shell says it: the exit code, or 128 + the signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A command under way.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Scene {
    /// A provider that judges by `rules` (a rules file's text), on a free port.
    pub fn new(rules: &str) -> Scene {
        Scene::at(SocketAddr::from(([127, 0, 0, 1], 0)), rules)
    }

    /// The same, with TLS at an address of its own on port 443: as a client finds it that knows only a host's name.
    pub fn on_port_443(rules: &str) -> Scene {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let process = std::process::id() % 200 + 20;
        let free = || {
            let address = Ipv4Addr::new(127, 0, process as u8, NEXT.fetch_add(1, Ordering::Relaxed));
            let address = SocketAddr::from((address, 443));
            TcpListener::bind(address).map(|_| address)
        };
        let address = (0..50).find_map(|_| free().ok()).expect("a loopback address with a free port 443");
        Scene::at(address, rules)
    }

    fn at(https: SocketAddr, rules: &str) -> Scene {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options =
            Options { https: Some(https), rules: RuleBook::parse(rules).unwrap(), ..Options::default() };
        let provider = runtime.block_on(counting_provider::start(options)).unwrap();
        let folder = TempDir::with_prefix("quotakeeper-story-").unwrap();
        fs::write(folder.path().join("provider-ca.pem"), provider.ca_pem()).unwrap();
        Scene { provider, folder, _runtime: runtime }
    }

    /// Writes a file into the story's folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The quota `leads` of a provider that is the shipped one but for the limits of its only tier; `tier` and `limits`
    /// are lists in YAML.
    pub fn quota_of_this_machine(&self, provider: &str, tier: &str, limits: &str) -> PathBuf {
        let text = format!(
            "apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {{name: {provider}-of-this-machine}}
spec:
  extends: {provider}
  tiers:
  - name: only
    limits:
{tier}---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {{name: leads}}
spec:
  provider: {{name: {provider}-of-this-machine, tier: only}}
  limits:
{limits}"
        );
        self.file("quota.yaml", &text)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate that a client has to trust to reach the provider by itself.
    pub fn provider_ca(&self) -> PathBuf {
        self.path("provider-ca.pem")
    }

    /// `quotakeeper run` with a quota file, whose upstream is the provider. `--` and a command are to be added.
    pub fn quotakeeper(&self, quota: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotakeeper"));
        command.arg("run").arg("-f").arg(quota).arg("--upstream-ca").arg(self.provider_ca());
        let provider = self.provider.https().unwrap();
        for host in HOSTS {
            command.arg("--resolve").arg(format!("{host}:443:{}:{}", provider.ip(), provider.port()));
        }
        command.arg("--report").arg(self.path("report.json"));
        // A folder of its own: other stories use accounts of the same names.
        command.arg("--state").arg(self.path("state"));
        // A person's own settings would send calls past the proxy.
        for name in ["OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL", "DEMO_BASE_URL"] {
            command.env_remove(name);
        }
        command
    }

    /// What `--report` wrote.
    pub fn report(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }

    /// Starts a command in the story's folder, in a process group of its own.
    pub fn start(&self, command: Command) -> Running {
        // Who runs the stories may ignore Ctrl-C, as a shell's background commands do, and `run` would too.
        let mut command = behind(&["env", "--default-signal=HUP,INT,QUIT,TERM"], &command);
        let (stdout, stderr) = (self.path("stdout"), self.path("stderr"));
        command.current_dir(self.folder.path()).process_group(0).stdin(Stdio::null());
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        Running { child, stdout, stderr }
    }

    /// Starts a command and waits until it has ended.
    pub fn run(&self, command: Command) -> Ended {
        self.start(command).ended()
    }
}

impl Running {
    /// Sends a signal to the command's first process alone.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Sends a signal to the command and all that it has started.
    pub fn signal_all(&self, signal: Signal) {
        killpg(self.pid(), signal).unwrap();
    }

    /// The id of the command's first process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `there` is; gives up when the command has ended or nothing happens for very long.
    pub fn until(&mut self, what: &str, there: impl Fn() -> bool) {
        let begun = Instant::now();
        while !there() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended ({status}) before {what}\n{}", self.said());
            }
            self.check(begun, what);
        }
    }

    /// Waits until it has ended.
    pub fn ended(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => self.check(begun, "its end"),
            }
        };
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap();
        Ended { code, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }

    fn check(&self, begun: Instant, what: &str) {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come in {PATIENCE:?}\n{}", self.said());
        std::thread::sleep(Duration::from_millis(10));
    }

    fn said(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", read(&self.stdout), read(&self.stderr))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A story that failed leaves nobody behind.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// The command with other words before it, such as `sh -c SCRIPT`: to these it is their arguments.
pub fn behind(words: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(words[0]);
    whole.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

fn read(path: &Path) -> String {
    let text = fs::read(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    });
    String::from_utf8_lossy(&text.unwrap()).into_owned()
}

/// Whether this process may mount and listen on port 443. A run of CI without root would prove less than it says.
pub fn is_root(story: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{story} needs root");
    if !root {
        eprintln!("not tried: {story} needs root");
    }
    root
}
