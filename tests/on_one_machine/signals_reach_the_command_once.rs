//! Whoever sends a signal, and wherever standard input is: the command gets it, and gets it once. A second Ctrl-C means
//! "at once" to many programs, and a lost SIGINT means that a supervisor kills.

use serde_json::Value;

use crate::programs::OPENAI_PYTHON;
use crate::real_sdks_stay_within_the_quota::{quota, rules};
use crate::scene::{Scene, behind};

/// Notes each signal in a file, and ends after SIGUSR2.
const LISTENER: &str = r#"
import os, signal, time

def heard(number, frame):
    with open("heard", "a") as file:
        file.write(signal.Signals(number).name + "\n")
    if number == signal.SIGUSR2:
        os._exit(7)

for name in ["INT", "TERM", "QUIT", "HUP", "USR1", "USR2"]:
    signal.signal(getattr(signal, "SIG" + name), heard)
open("there", "w").close()
while True:
    time.sleep(0.05)
"#;

/// Starts a command in a terminal of its own and signals it: `key:` at the terminal, `kill:` from a process. The
/// SIGUSR1 behind each shows that nothing of it is still to come.
const TERMINAL: &str = r#"
import json, os, pty, signal, sys, threading, time

stdin, sent, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    if stdin == "redirected":
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.execvp(command[0], command)

def shown():
    try:
        while part := os.read(terminal, 4096):
            sys.stderr.buffer.write(part)
    except OSError:
        pass

threading.Thread(target=shown, daemon=True).start()

def until(so):
    for _ in range(6000):
        if so():
            return
        time.sleep(0.01)
    sys.exit("it did not come")

def heard():
    try:
        return open("heard").read().split()
    except FileNotFoundError:
        return []

until(lambda: os.path.exists("there"))
for what in sent:
    how, name = what.split(":")
    before = len(heard())
    if how == "key":
        os.write(terminal, {"SIGINT": b"\x03", "SIGQUIT": b"\x1c"}[name])
    else:
        os.kill(pid, getattr(signal, name))
    until(lambda: len(heard()) > before)
    marks = heard().count("SIGUSR1")
    os.kill(pid, signal.SIGUSR1)
    until(lambda: heard().count("SIGUSR1") > marks)
os.kill(pid, signal.SIGUSR2)
status = os.waitpid(pid, 0)[1]
print(json.dumps({"heard": [name for name in heard() if name != "SIGUSR1"], "code": os.waitstatus_to_exitcode(status)}))
"#;

fn heard(stdin: &str, sent: &[&str]) {
    let scene = Scene::new(&rules());
    let mut kept = scene.quotakeeper(&quota(&scene, &OPENAI_PYTHON));
    kept.args(["--", "python3", "-c", LISTENER]);
    let ended = scene.run(behind(&["python3", "-c", TERMINAL, stdin, &sent.join(",")], &kept));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let mut wanted: Vec<&str> = sent.iter().map(|what| what.split_once(':').unwrap().1).collect();
    wanted.push("SIGUSR2");
    assert_eq!(told["heard"], serde_json::json!(wanted), "{}", ended.stderr);
    assert_eq!(told["code"], 7, "{}", ended.stderr);
}

#[test]
fn a_signal_from_a_process_is_forwarded_on_a_terminal() {
    heard("terminal", &["kill:SIGINT", "kill:SIGTERM", "kill:SIGQUIT", "kill:SIGHUP"]);
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    heard("terminal", &["key:SIGINT", "key:SIGQUIT", "key:SIGINT"]);
}

#[test]
fn ctrl_c_reaches_the_command_once_with_redirected_input() {
    heard("redirected", &["key:SIGINT", "kill:SIGINT", "key:SIGQUIT", "kill:SIGHUP"]);
}

#[test]
fn a_command_under_nohup_ignores_a_hangup() {
    let scene = Scene::new(&rules());
    let mut kept = scene.quotakeeper(&quota(&scene, &OPENAI_PYTHON));
    kept.args(["--", "sh", "-c", "kill -HUP $PPID; kill -HUP $$; exit 7"]);
    assert_eq!(
        scene.run(behind(&["nohup"], &kept)).code,
        7,
        "it was ended by the SIGHUP that nohup keeps away"
    );
}
