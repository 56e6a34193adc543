//! docs/quickstart.md on one machine: its files are written and its commands run as they stand there, against a provider
//! that counts. What the page shows of their output is what they print, apart from figures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::programs::sdks;
use crate::scene::{Scene, is_root};

const PAGE: &str = include_str!("../../docs/quickstart.md");
/// The rest of the page needs a cluster.
const END: &str = "\n## On Kubernetes";
const RULES: &str = "providers:\n  openai: {limits: [{name: requests, count: 500, windowMillis: 60000, countedAs: Sliding}]}\n  hubspot: {limits: [{name: ten-seconds, count: 100, windowMillis: 10000, countedAs: Sliding}]}\n";

/// A fenced block.
struct Block<'p> {
    /// The file whose content it is, named in the line before it.
    file: Option<&'p str>,
    language: &'p str,
    lines: Vec<&'p str>,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut lines, mut before) = (page.lines(), "");
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let file = before.rsplit_once("Save as `").and_then(|(_, rest)| Some(rest.split_once('`')?.0));
            blocks.push(Block {
                file,
                language,
                lines: lines.by_ref().take_while(|line| *line != "```").collect(),
            });
        }
        if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

/// A line without its figures and its exact spaces.
fn form(line: &str) -> String {
    let mut form = String::new();
    for c in line.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match c {
            '0'..='9' | ',' | '.' if form.ends_with('N') => {}
            '0'..='9' => form.push('N'),
            c => form.push(c),
        }
    }
    form
}

/// Programs that stand before the real ones: `quotakeeper run` finds the counting provider, `cargo install` and `pip
/// install` have been run, `sudo` is not needed.
fn programs(scene: &Scene) -> String {
    let real = env!("CARGO_BIN_EXE_quotakeeper");
    let at = scene.provider.https().unwrap();
    let resolve = |host: &str| format!("--resolve {host}:443:{}:{}", at.ip(), at.port());
    let run = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec {real} \"$@\"\nshift\nexec {real} run --upstream-ca {} {} {} \"$@\"\n",
        scene.provider_ca().display(),
        resolve("api.openai.com"),
        resolve("api.hubapi.com"),
    );
    let folder = scene.path("programs");
    fs::create_dir(&folder).unwrap();
    let sudo = "#!/bin/sh\nwhile case \"$1\" in -*) true;; *) false;; esac; do shift; done\nexec \"$@\"\n";
    for (name, text) in [
        ("quotakeeper", run.as_str()),
        ("cargo", "#!/bin/sh\n[ \"$*\" = 'install --locked --path .' ]\n"),
        ("pip", "#!/bin/sh\n[ \"$*\" = 'install openai' ]\n"),
        ("sudo", sudo),
    ] {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}:{}", folder.display(), sdks().join("python/bin").display(), std::env::var("PATH").unwrap())
}

#[test]
fn every_command_of_the_page_does_what_the_page_shows() {
    if !is_root("the part of the quickstart that intercepts hosts") {
        return;
    }
    let scene = Scene::new(RULES);
    let path = programs(&scene);
    let page = PAGE.split_once(END).unwrap().0;
    let mut commands = 0;
    for block in blocks(page) {
        if let Some(file) = block.file {
            scene.file(file, &(block.lines.join("\n") + "\n"));
            continue;
        }
        assert_eq!(block.language, "console", "neither a file nor commands: {:?}", block.lines);
        let mut lines = block.lines.into_iter().peekable();
        while let Some(line) = lines.next() {
            let mut words =
                line.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {line}")).to_owned();
            while words.ends_with('\\') {
                words = format!("{}\n{}", words, lines.next().unwrap());
            }
            let mut command = Command::new("bash");
            command.args(["-c", &words]).env("PATH", &path).env("USER", "root");
            command.env("XDG_STATE_HOME", scene.path("state")).env_remove("OPENAI_BASE_URL");
            command.env("OPENAI_API_KEY", "key-of-a-newcomer").env("HUBSPOT_TOKEN", "token-of-a-newcomer");
            let ended = scene.run(command);
            assert_eq!(ended.code, 0, "$ {words}\n{}{}", ended.stdout, ended.stderr);
            let printed: Vec<String> = ended.stdout.lines().chain(ended.stderr.lines()).map(form).collect();
            while let Some(shown) = lines.next_if(|line| !line.starts_with("$ ")) {
                let there = shown.is_empty() || shown == "…" || printed.contains(&form(shown));
                assert!(
                    there,
                    "$ {words}\nis said to print\n{shown}\nbut printed\n{}{}",
                    ended.stdout, ended.stderr
                );
            }
            commands += 1;
        }
    }
    assert!(commands >= 8, "only {commands} commands were found");
    assert_eq!(scene.provider.summary("key-of-a-newcomer").totals.over, 0);
    assert_eq!(scene.provider.summary("token-of-a-newcomer").totals.ok, 1);
}
