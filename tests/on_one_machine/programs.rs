//! The programs of tests/sdk: which SDK each uses, whose account it draws on, and how it finds its provider.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::scene::{Ended, Scene};

/// How a client finds its provider.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Finds {
    /// By a variable, with this path behind the address.
    BaseUrl { variable: &'static str, path: &'static str },
    /// By the host's name alone.
    Host(&'static str),
}

/// An unmodified SDK and what it is used for.
#[derive(Clone, Copy)]
pub struct Program {
    /// For people, and the account's name.
    pub name: &'static str,
    pub provider: &'static str,
    /// The limit of the provider's profile that is tried.
    pub limit: &'static str,
    /// How the profile says that it is counted.
    pub counted_as: &'static str,
    /// What else a tier of that provider has to have: its headers tell of it. YAML.
    pub other_limits: &'static str,
    /// Rather paced than in bursts of a whole window. YAML.
    pub pacing: &'static str,
    pub finds: Finds,
    key: &'static str,
    file: &'static str,
    /// What the program is told beside how many calls to make.
    arguments: &'static [&'static str],
    streams: bool,
}

const PACED: &str = "  pacing: {burst: 10}\n";
const OPENAI_URL: Finds = Finds::BaseUrl { variable: "OPENAI_BASE_URL", path: "/v1" };
const ANTHROPIC_URL: Finds = Finds::BaseUrl { variable: "ANTHROPIC_BASE_URL", path: "" };

pub const OPENAI_PYTHON: Program = Program {
    name: "openai-python",
    provider: "openai",
    limit: "requests",
    counted_as: "Unknown",
    other_limits: "    - {name: tokens, unit: TotalTokens, amount: 10000000, windowSeconds: 60, partition: Model}\n",
    pacing: PACED,
    finds: OPENAI_URL,
    key: "OPENAI_API_KEY",
    file: "openai_chat.py",
    arguments: &[],
    streams: false,
};
pub const OPENAI_PYTHON_STREAMING: Program =
    Program { name: "openai-python-streaming", streams: true, ..OPENAI_PYTHON };
pub const OPENAI_NODE: Program = Program { name: "openai-node", file: "openai_chat.mjs", ..OPENAI_PYTHON };
pub const ANTHROPIC_PYTHON: Program = Program {
    name: "anthropic-python",
    provider: "anthropic",
    limit: "requests",
    counted_as: "Unknown",
    other_limits: "    - {name: input-tokens, unit: InputTokens, amount: 10000000, windowSeconds: 60, partition: Model}\n    - {name: output-tokens, unit: OutputTokens, amount: 10000000, windowSeconds: 60, partition: Model}\n",
    pacing: PACED,
    finds: ANTHROPIC_URL,
    key: "ANTHROPIC_API_KEY",
    file: "anthropic_messages.py",
    arguments: &[],
    streams: false,
};
pub const ANTHROPIC_PYTHON_STREAMING: Program =
    Program { name: "anthropic-python-streaming", streams: true, ..ANTHROPIC_PYTHON };
pub const HUBSPOT_PYTHON: Program = Program {
    name: "hubspot-python",
    provider: "hubspot",
    limit: "ten-seconds",
    counted_as: "SlidingWindow",
    other_limits: "    - {name: daily, unit: Requests, amount: 250000, windowSeconds: 86400, countedAs: FixedWindow}\n",
    pacing: "",
    finds: Finds::Host("api.hubapi.com"),
    key: "HUBSPOT_ACCESS_TOKEN",
    file: "hubspot_contacts.py",
    arguments: &[],
    streams: false,
};

/// OpenAI's and Anthropic's Python SDKs at APIs whose tokens are counted.
const TOKENS_OPENAI: Program = Program { file: "token_use.py", ..OPENAI_PYTHON };
pub const TOKENS_CHAT: Program =
    Program { name: "tokens-chat", arguments: &["--api", "chat"], ..TOKENS_OPENAI };
pub const TOKENS_CHAT_STREAMING: Program =
    Program { name: "tokens-chat-streaming", streams: true, ..TOKENS_CHAT };
pub const TOKENS_RESPONSES: Program =
    Program { name: "tokens-responses", arguments: &["--api", "responses"], ..TOKENS_OPENAI };
pub const TOKENS_RESPONSES_STREAMING: Program =
    Program { name: "tokens-responses-streaming", streams: true, ..TOKENS_RESPONSES };
pub const TOKENS_EMBEDDINGS: Program =
    Program { name: "tokens-embeddings", arguments: &["--api", "embeddings"], ..TOKENS_OPENAI };
const TOKENS_ANTHROPIC: Program =
    Program { file: "token_use.py", arguments: &["--api", "messages"], ..ANTHROPIC_PYTHON };
pub const TOKENS_MESSAGES: Program = Program { name: "tokens-messages", ..TOKENS_ANTHROPIC };
pub const TOKENS_MESSAGES_STREAMING: Program =
    Program { name: "tokens-messages-streaming", streams: true, ..TOKENS_ANTHROPIC };

/// One test of a story, `fn(&Program)`, for each program.
macro_rules! for_each_sdk {
    ($story:ident) => {
        #[test]
        fn openai_python() {
            $story(&$crate::programs::OPENAI_PYTHON);
        }

        #[test]
        fn openai_python_streaming() {
            $story(&$crate::programs::OPENAI_PYTHON_STREAMING);
        }

        #[test]
        fn openai_node() {
            $story(&$crate::programs::OPENAI_NODE);
        }

        #[test]
        fn anthropic_python() {
            $story(&$crate::programs::ANTHROPIC_PYTHON);
        }

        #[test]
        fn anthropic_python_streaming() {
            $story(&$crate::programs::ANTHROPIC_PYTHON_STREAMING);
        }

        #[test]
        fn hubspot_python_by_its_host() {
            if $crate::scene::is_root("reaching a provider by its host") {
                $story(&$crate::programs::HUBSPOT_PYTHON);
            }
        }
    };
}
pub(crate) use for_each_sdk;

/// What a program says at its end.
#[derive(Debug, Deserialize)]
pub struct Told {
    pub calls: u64,
    pub ok: u64,
    pub failed: u64,
}

impl Told {
    pub fn of(ended: &Ended) -> Told {
        let line = ended.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("no result ({error}):\n{}\n{}", ended.stdout, ended.stderr))
    }
}

impl Program {
    /// The credential, and so the account at the provider.
    pub fn account(&self) -> String {
        format!("key-of-{}", self.name)
    }

    /// The command's words: `calls` calls by about `clients` clients at once.
    pub fn words(&self, scene: &Scene, calls: u64, clients: u64) -> Vec<String> {
        let sdks = sdks();
        let calls = calls.to_string();
        let mut words = if self.file.ends_with(".mjs") {
            let program = beside_node_modules(scene, sdks, self.file);
            vec!["node".to_owned(), program, "--calls".to_owned(), calls]
        } else {
            let python = sdks.join("python/bin/python").to_string_lossy().into_owned();
            let program = sdk_source(self.file).to_string_lossy().into_owned();
            vec![python, program, "--calls".to_owned(), calls, "--processes".to_owned(), "4".to_owned()]
        };
        let each = if self.file.ends_with(".mjs") { clients } else { clients.div_ceil(4) };
        words.extend(["--clients".to_owned(), each.to_string()]);
        words.extend(self.arguments.iter().map(|word| (*word).to_owned()));
        if self.streams {
            words.push("--stream".to_owned());
        }
        words
    }

    /// The program under Quotakeeper.
    pub fn kept(&self, scene: &Scene, quota: &Path, calls: u64, clients: u64) -> Command {
        let mut command = scene.quotakeeper(quota);
        command.arg("--").args(self.words(scene, calls, clients));
        self.with_account(&mut command);
        command
    }

    /// The same program alone, pointed at the provider as its users would.
    pub fn alone(&self, scene: &Scene, calls: u64, clients: u64) -> Command {
        let words = self.words(scene, calls, clients);
        let mut command = match self.finds {
            Finds::BaseUrl { variable, path } => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command.env(variable, format!("http://{}{path}", scene.provider.http().unwrap()));
                command
            }
            Finds::Host(host) => {
                let address = scene.provider.https().unwrap().ip();
                let hosts = scene.file("hosts", &format!("127.0.0.1 localhost\n{address} {host}\n"));
                let mut command = Command::new("unshare");
                let script = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
                command.args(["--mount", "sh", "-c", script]).arg(hosts).args(words);
                command.env("SSL_CERT_FILE", scene.provider_ca());
                command
            }
        };
        self.with_account(&mut command);
        command
    }

    /// The credential, where the SDK looks for it.
    pub fn with_account(&self, command: &mut Command) {
        command.env(self.key, self.account()).env("PYTHONDONTWRITEBYTECODE", "1");
    }
}

/// A program of tests/sdk.
pub fn sdk_source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(file)
}

/// Node looks for packages beside the program.
pub fn beside_node_modules(scene: &Scene, sdks: &Path, file: &str) -> String {
    let program = scene.path(file);
    std::fs::copy(sdk_source(file), &program).unwrap();
    let modules = scene.path("node_modules");
    if !modules.exists() {
        symlink(sdks.join("node/node_modules"), modules).unwrap();
    }
    program.to_string_lossy().into_owned()
}

/// Where the pinned SDKs are; installs them if they are not there.
pub fn sdks() -> &'static Path {
    static SDKS: OnceLock<PathBuf> = OnceLock::new();
    SDKS.get_or_init(|| {
        let installed = Command::new(sdk_source("install.sh")).output().unwrap();
        let errors = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "the SDKs can't be installed:\n{errors}");
        PathBuf::from(String::from_utf8(installed.stdout).unwrap().trim())
    })
}
