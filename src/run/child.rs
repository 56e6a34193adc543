//! The command itself: signals go to it, its exit code comes back.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use anyhow::Context;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getpgid, getpgrp};

use super::mounts::{self, Replacement};
use super::signals::{Caught, Signals};
use super::suspend;
use super::terminal::Outputs;

/// Starts the command with `environment` on top of this process's own; with `replacements`, in a mount namespace of its
/// own where it sees them; with `outputs`, writing there what would go to the terminal.
///
/// # Errors
/// A sentence that names the command, and the exit code that a shell would give.
pub fn start(
    command: &[String],
    environment: &[(String, String)],
    replacements: &[Replacement],
    outputs: Option<&Outputs>,
) -> Result<Child, NotStarted> {
    let (program, arguments) =
        command.split_first().map_or(("", command), |(program, rest)| (program.as_str(), rest));
    let mut child = Command::new(program);
    child.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    let redirected = outputs.map_or(Ok(()), |outputs| redirect(&mut child, outputs));
    let spawn = || match replacements.is_empty() {
        true => child.spawn(),
        false => mounts::spawn(replacements, child),
    };
    let started = redirected.and_then(|()| suspend::unblocked(spawn));
    started.map_err(|source| NotStarted::new(program, source))
}

fn redirect(command: &mut Command, outputs: &Outputs) -> io::Result<()> {
    command.stderr(outputs.stderr()?);
    if let Some(stdout) = outputs.stdout()? {
        command.stdout(stdout);
    }
    Ok(())
}

/// The command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{program}`: {source}; is it on the PATH and executable?")]
pub struct NotStarted {
    program: String,
    source: io::Error,
}

impl NotStarted {
    /// The system's refusal to start a program.
    pub fn new(program: &str, source: io::Error) -> NotStarted {
        NotStarted { program: program.to_owned(), source }
    }

    /// The exit code of a shell: 127 where there is no such command, 126 where it can't be run.
    pub fn exit_code(&self) -> u8 {
        if self.source.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// The command's process id.
///
/// # Errors
/// It is none of this system's.
pub fn pid(child: &Child) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id()).context("the command's process id is out of range")?))
}

/// Waits for the command to end; signals are passed on to it that it does not have already.
///
/// # Errors
/// When the command can't be waited for.
pub async fn wait(mut child: Child, mut signals: Signals) -> anyhow::Result<ExitStatus> {
    let pid = pid(&child)?;
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    loop {
        let caught = tokio::select! {
            status = &mut ended => return Ok(status??),
            Some(caught) = signals.next() => caught,
        };
        if !has_it_already(pid, caught) {
            // It may have just ended; then the wait returns.
            let _ = kill(pid, caught.signal);
        }
    }
}

/// The kernel signals groups: the command was there, unless it has made a group of its own.
fn has_it_already(command: Pid, caught: Caught) -> bool {
    caught.by_kernel && getpgid(Some(command)).is_ok_and(|group| group == getpgrp())
}

/// The exit code that a shell would give: the command's own, or 128 + the signal that ended it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_exit_code_is_the_commands_own() {
        for (script, code) in [("exit 7", 7), ("kill -TERM $$", 143)] {
            let command = ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
            let signals = Signals::catch().expect("signals can be caught");
            let child = start(&command, &[], &[], None).expect("sh is there");
            assert_eq!(exit_code(wait(child, signals).await.expect("it ends")), code);
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = start(&["no-such-command".to_owned()], &[], &[], None).expect_err("it is not there");
        assert!(error.to_string().contains("`no-such-command`"), "{error}");
        assert_eq!(error.exit_code(), 127);
    }
}
