//! On a terminal of any width, the progress line, messages and the command's own output never share a line, and the
//! command sees a terminal of the real size. What the terminal shows is read by a terminal emulator that is not ours.

use std::process::Command;

use crate::scene::{Scene, behind};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 4, windowMillis: 1000, countedAs: Sliding, endpoint: '*'}]}\n";

const QUOTA: &str = r#"
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiProvider
metadata: {name: slow}
spec:
  extends: demo
  tiers:
  - name: one
    limits: [{name: requests, unit: Requests, amount: 4, windowSeconds: 1, countedAs: SlidingWindow}]
---
apiVersion: quotakeeper.dev/v1alpha1
kind: ApiQuota
metadata: {name: crm}
spec: {provider: {name: slow, tier: one}}
"#;

/// Calls that wait, while lines are written to both outputs in pieces, some to be ended only later.
const COMMAND: &str = r#"
import concurrent.futures, os, sys, time, urllib.request
def call(_):
    request = urllib.request.Request(os.environ["DEMO_BASE_URL"] + "/anything", headers={"Authorization": "Bearer crm"})
    return urllib.request.urlopen(request).status
print("size", os.get_terminal_size(1).columns, os.get_terminal_size(2).lines, os.isatty(1), os.isatty(2), flush=True)
with concurrent.futures.ThreadPoolExecutor(12) as pool:
    calls = [pool.submit(call, number) for number in range(12)]
    for number, done in enumerate(concurrent.futures.as_completed(calls)):
        out = [sys.stdout, sys.stderr][number % 2]
        print("call", end=" ", file=out, flush=True)
        time.sleep(0.3 if number % 3 == 0 else 0.01)
        print(number, done.result(), file=out, flush=True)
        time.sleep(0.1)
"#;

/// Runs a command in a terminal of so many columns, and writes what the terminal gets to a file, in hexadecimal, a line
/// for each part.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
columns, file, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 500, columns, 0, 0))
    os.execvp(command[0], command)
with open(file, "w") as parts:
    try:
        while part := os.read(terminal, 4096):
            parts.write(part.hex() + "\n")
    except OSError:
        pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// The lines on a terminal, each whole even where it is wrapped.
fn lines(terminal: &vt100::Parser) -> Vec<String> {
    let screen = terminal.screen();
    let (rows, columns) = screen.size();
    let mut lines = vec![String::new()];
    for (number, row) in screen.rows(0, columns).enumerate().take(usize::from(rows)) {
        let last = lines.last_mut().unwrap();
        last.push_str(&row);
        if !screen.row_wrapped(number as u16) {
            lines.push(String::new());
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// A message, or a line of the log, or the beginning of one.
fn is_ours(line: &str) -> bool {
    line.starts_with("quotakeeper: ") || "quotakeeper: ".starts_with(line) || is_logged(line)
}

fn is_logged(line: &str) -> bool {
    line.starts_with("20")
}

fn is_progress(line: &str) -> bool {
    !is_ours(line)
        && !line.starts_with("call")
        && !line.starts_with("size")
        && (line.contains("waiting") || line.starts_with("crm"))
}

fn shown(columns: u16) {
    let scene = Scene::new(RULES);
    let mut kept = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    kept.args(["--", "python3", "-c", COMMAND]);
    // A line for each call, without colours.
    kept.env("QUOTAKEEPER_LOG", "quotakeeper::access=info").env("NO_COLOR", "1");
    let (width, parts) = (columns.to_string(), scene.path("parts"));
    let command: Command = behind(&["python3", "-c", TERMINAL, &width, parts.to_str().unwrap()], &kept);
    let ended = scene.run(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let mut terminal = vt100::Parser::new(500, columns, 0);
    let mut expected = vec![format!("size {columns} 500 True True")];
    expected.extend((0..12).map(|number| format!("call {number} 200")));
    let mut progress = 0;
    for part in std::fs::read_to_string(&parts).unwrap().lines() {
        let bytes: Vec<u8> =
            (0..part.len()).step_by(2).map(|at| u8::from_str_radix(&part[at..at + 2], 16).unwrap()).collect();
        assert!(!bytes.windows(3).any(|three| three == b"\x1b[3"), "{columns}: colours: {part}");
        terminal.process(&bytes);
        let all = lines(&terminal);
        let drawn: Vec<&String> = all.iter().filter(|line| is_progress(line)).collect();
        progress += drawn.len();
        assert!(drawn.len() <= 1, "{columns}: two progress lines: {all:#?}");
        assert!(drawn.is_empty() || is_progress(all.last().unwrap()), "{columns}: not the last: {all:#?}");
        assert!(
            drawn.iter().all(|line| line.chars().count() < columns.into()),
            "{columns}: wrapped: {all:#?}"
        );
        let theirs = all.iter().filter(|line| !is_progress(line) && !is_ours(line));
        for (line, whole) in theirs.zip(&expected) {
            assert!(
                whole.starts_with(line.trim_end()),
                "{columns}: `{line}` is no part of `{whole}`: {all:#?}"
            );
        }
    }
    assert!(progress > 0, "{columns}: the progress line was never drawn");
    let all = lines(&terminal);
    let theirs: Vec<&str> = all.iter().map(|line| line.trim_end()).filter(|line| !is_ours(line)).collect();
    let logged = all.iter().filter(|line| is_logged(line) && line.contains("outcome=\"answered\"")).count();
    assert_eq!(logged, 12, "{columns}: {all:#?}");
    assert_eq!(theirs, expected, "{columns}: {all:#?}");
    assert!(all.last().unwrap().starts_with("quotakeeper: 12 calls in "), "{columns}: {all:#?}");
}

/// Runs a command in a terminal of 80 columns that is made 40 wide once the command has written its first size.
const RESIZED: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
shown, resized = b"", False
try:
    while part := os.read(terminal, 4096):
        shown += part
        if b"80 columns" in shown and not resized:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 40, 0, 0))
            resized = True
except OSError:
    pass
os.write(1, shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Waits until its own terminal has another width, as its last signal of it says.
const WATCHES_SIZE: &str = r#"
import os, signal, time
def told(*_):
    print(os.get_terminal_size(1).columns, "columns", flush=True)
signal.signal(signal.SIGWINCH, told)
told()
until = time.monotonic() + 60
while os.get_terminal_size(1).columns != 40 and time.monotonic() < until:
    signal.sigtimedwait([], 0.1)
"#;

#[test]
fn the_command_hears_of_a_new_width() {
    let scene = Scene::new(RULES);
    // A program of a script's, too.
    for words in
        [&["python3", "-c", WATCHES_SIZE][..], &["sh", "-c", "python3 -c \"$0\"; exit $?", WATCHES_SIZE]]
    {
        let mut kept = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
        kept.arg("--").args(words);
        let ended = scene.run(behind(&["python3", "-c", RESIZED], &kept));
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("40 columns"), "{}", ended.stdout);
    }
}

#[test]
fn quiet_means_nothing_but_the_commands_own_output() {
    let scene = Scene::new(RULES);
    let mut kept = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    kept.args(["--quiet", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    let ended = scene.run(kept);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (3, "out\n", "err\n"));
}

#[test]
fn on_terminals_of_any_width() {
    std::thread::scope(|scope| {
        [20, 37, 80].map(|columns| scope.spawn(move || shown(columns))).map(|story| story.join().unwrap())
    });
}
