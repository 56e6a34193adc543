//! A command uses its terminal as if nobody stood between: programs that read single keys, shells with jobs, Ctrl-Z,
//! Ctrl-S, and processes that it leaves behind.

use std::process::Command;

use crate::scene::{Ended, Scene, behind, is_root};

const RULES: &str = "providers:\n  demo: {limits: [{name: requests, count: 4, windowMillis: 1000, countedAs: Sliding, endpoint: '*'}]}\n";
const QUOTA: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: crm}\nspec: {provider: {name: demo, tier: free}}\n";
/// Takes the progress line away.
const CLEARED: &str = "\r\x1b[J";

/// Runs a command in a terminal, and types: each of the steps waits for a text that is shown, or a file, and then types
/// keys or signals the command.
const TYPIST: &str = r#"
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
steps, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    os.execvp(command[0], command)
shown, at, ends = b"", 0, time.monotonic() + 120
while time.monotonic() < ends:
    if select.select([terminal], [], [], 0.02)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    if steps:
        text, file = steps[0].get("shown", "").encode(), steps[0].get("file")
        there = os.path.exists(file) if file else text in shown[at:]
        if there:
            at = len(shown) if file else shown.index(text, at) + len(text)
            step = steps.pop(0)
            os.write(terminal, step.get("keys", "").encode())
            if "signal" in step:
                os.kill(pid, getattr(signal, step["signal"]))
else:
    os.write(1, shown[-3000:])
    sys.exit(f"it did not end; left to do: {steps}")
os.write(1, shown[:100000])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn run(scene: &Scene, arguments: &[&str], command: &[&str]) -> Command {
    let mut run = scene.quotakeeper(&scene.file("quota.yaml", QUOTA));
    run.args(arguments).arg("--").args(command);
    run
}

fn typed(scene: &Scene, steps: serde_json::Value, command: &Command) -> Ended {
    scene.run(behind(&["python3", "-c", TYPIST, &steps.to_string()], command))
}

/// A line for a shell.
fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// curses sets the terminal at its standard output, and reads keys from standard input.
#[test]
fn a_program_that_draws_on_the_whole_screen_reads_single_keys() {
    let scene = Scene::new(RULES);
    let script = "import curses\ndef ask(screen):\n  screen.addstr('press q')\n  screen.refresh()\n  return screen.getch()\nkey = curses.wrapper(ask)\nprint('got', key, input('line? '))";
    let steps = serde_json::json!([
        {"shown": "press q", "keys": "q"},
        {"shown": "line? ", "keys": "typed\n"},
    ]);
    let mut command = run(&scene, &[], &["python3", "-c", script]);
    command.env("TERM", "xterm");
    let ended = typed(&scene, steps, &command);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("got 113 typed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("line? typed"), "a line is shown as it is typed: {}", ended.stdout);
}

#[test]
fn a_process_that_is_left_behind_and_writes_for_ever_does_not_keep_the_run() {
    let scene = Scene::new(RULES);
    let script = "yes & echo $! >left; echo begun; sleep 0.3; exit 5";
    let ended = typed(&scene, serde_json::json!([]), &run(&scene, &[], &["sh", "-c", script]));
    let left = std::fs::read_to_string(scene.path("left")).unwrap();
    let left = nix::unistd::Pid::from_raw(left.trim().parse().unwrap());
    // It ends by itself where nobody reads any more.
    let _ = nix::sys::signal::kill(left, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(ended.stdout.contains("begun"), "{}", &ended.stdout[..1000]);
}

#[test]
fn all_that_a_command_has_written_is_shown() {
    let scene = Scene::new(RULES);
    let script =
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; (sleep 0.05; echo late) & exit 0";
    let ended = typed(&scene, serde_json::json!([]), &run(&scene, &[], &["sh", "-c", script]));
    let lines = ended.stdout.lines().filter(|line| line.contains("line ")).count();
    assert_eq!(lines, 3000, "{}", ended.stderr);
    assert!(ended.stdout.contains("line 2999\r\n") && ended.stdout.contains("late\r\n"), "{}", ended.stderr);
}

#[test]
fn another_user_may_open_the_terminal_by_its_name() {
    if !is_root("a command as another user") {
        return;
    }
    let scene = Scene::new(RULES);
    let command = run(&scene, &["--user", "nobody"], &["sh", "-c", "cd /; echo hi >/dev/stderr"]);
    let ended = typed(&scene, serde_json::json!([]), &command);
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    assert!(ended.stdout.contains("hi\r\n"), "{}", ended.stdout);
}

#[test]
fn a_run_in_the_background_leaves_the_terminal_to_the_shell() {
    let scene = Scene::new(RULES);
    let background = format!("{} &\n", words(&run(&scene, &[], &["sh", "-c", "sleep 1; echo out"])));
    let steps =
        serde_json::json!([{"shown": "bash", "keys": background}, {"shown": "0 calls in", "keys": "exit\n"}]);
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]).env("TERM", "dumb");
    let ended = typed(&scene, steps, &shell);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("out\r\n"), "{}", ended.stdout);
    assert!(!ended.stdout.contains(CLEARED) && !ended.stdout.contains("waiting"), "{:?}", ended.stdout);
}

/// What reads from the pipe may write to the same terminal.
#[test]
fn nothing_is_drawn_beside_the_reader_of_a_pipe() {
    let scene = Scene::new(RULES);
    let line = format!("{} | cat", words(&run(&scene, &[], &["sh", "-c", "sleep 0.6; echo out"])));
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    let ended = typed(&scene, serde_json::json!([]), &shell);
    assert!(ended.stdout.contains("out\r\n") && ended.stdout.contains("0 calls in"), "{}", ended.stdout);
    assert!(!ended.stdout.contains(CLEARED), "{:?}", ended.stdout);
}

/// A program puts its screen in order before it stops, and that is shown before the shell's prompt.
#[test]
fn ctrl_z_stops_the_run_with_its_command_and_fg_goes_on() {
    let scene = Scene::new(RULES);
    let script = r#"
import os, signal, time
def stopped(*_):
    time.sleep(0.1)
    os.write(1, b"in order\n")
    os.kill(os.getpid(), signal.SIGSTOP)
    os.write(1, b"again\n")
    os._exit(7)
signal.signal(signal.SIGTSTP, stopped)
os.write(1, b"ready\n")
time.sleep(100)
"#;
    let steps = serde_json::json!([
        {"shown": "bash", "keys": format!("{}\n", words(&run(&scene, &[], &["python3", "-c", script])))},
        {"shown": "ready\r\n", "keys": "\u{1a}"},
        {"shown": "Stopped", "keys": "fg\n"},
        {"shown": "0 calls in", "keys": "echo code $?\n"},
        {"shown": "code 7", "keys": "exit\n"},
    ]);
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]).env("TERM", "dumb");
    let ended = typed(&scene, steps, &shell);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let at = |text: &str| ended.stdout.find(text).unwrap_or_else(|| panic!("{text}: {}", ended.stdout));
    assert!(at("in order\r\n") < at("Stopped") && at("Stopped") < at("again\r\n"), "{}", ended.stdout);
}

/// Ctrl-S stops what is shown. Signals, and calls, go on.
#[test]
fn a_terminal_that_takes_nothing_holds_no_signal() {
    let scene = Scene::new(RULES);
    let script = r#"
import os, signal, time
def told(*_):
    open("told", "w").close()
    os._exit(9)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
while not os.path.exists("stopped"):
    time.sleep(0.02)
print("much\n" * 20000, flush=True)
time.sleep(100)
"#;
    let scene_file = |name: &str| scene.path(name).to_str().unwrap().to_owned();
    let steps = serde_json::json!([
        {"shown": "ready", "keys": "\u{13}"},
        {"file": scene_file("blocked"), "signal": "SIGTERM"},
        {"file": scene_file("told"), "keys": "\u{11}"},
    ]);
    let command = run(&scene, &[], &["python3", "-c", script]);
    let typing = behind(&["python3", "-c", TYPIST, &steps.to_string()], &command);
    let mut running = scene.start(typing);
    // What is typed has come, and then some of what is written is stuck.
    std::thread::sleep(std::time::Duration::from_secs(1));
    scene.file("stopped", "");
    std::thread::sleep(std::time::Duration::from_secs(1));
    scene.file("blocked", "");
    running.until("the command is told", || scene.path("told").exists());
    assert_eq!(running.ended().code, 9);
}
