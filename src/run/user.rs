//! `run --user`: the command runs as another user, while the run itself needs root to intercept hosts.
//!
//! A program of its own changes the user and then becomes the command: the standard library can't set supplementary
//! groups, and a process of many threads must not.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Args;
use nix::unistd::{Gid, Uid, User, geteuid, getuid, initgroups, setresgid, setresuid};

use super::child::NotStarted;
use crate::output::say;

/// The arguments of `quotakeeper as-user`.
#[derive(Debug, Args)]
pub struct AsUserArguments {
    /// The user's name.
    user: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The user who has called `sudo`, by number: a command that needs no root runs as him. None: the caller is root.
pub fn behind_sudo() -> Option<String> {
    let number = std::env::var("SUDO_UID").ok().filter(|_| geteuid().is_root())?;
    let user = User::from_uid(Uid::from_raw(number.parse().ok()?)).ok().flatten()?;
    (!user.uid.is_root()).then_some(user.name)
}

/// The user of that name, or with that number.
///
/// # Errors
/// A sentence: there is none, or this process may not become another user.
pub fn find(name: &str) -> anyhow::Result<User> {
    ensure!(
        geteuid().is_root(),
        "--user {name}: only root can run a command as another user; run quotakeeper as root"
    );
    let by_number = || User::from_uid(Uid::from_raw(name.parse().ok()?)).ok().flatten();
    let by_name = User::from_name(name).with_context(|| format!("--user {name} can't be looked up"))?;
    by_name
        .or_else(by_number)
        .with_context(|| format!("--user {name}: there is no such user; see getent passwd"))
}

/// The command line that runs `command` as the user.
///
/// # Errors
/// This program's file is not known.
pub fn command_line(user: &str, command: &[String]) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("this program's file is not known")?;
    let own =
        [program.to_string_lossy().into_owned(), "as-user".to_owned(), user.to_owned(), "--".to_owned()];
    Ok(own.into_iter().chain(command.iter().cloned()).collect())
}

/// Becomes the user, and then the command.
pub fn main(arguments: &AsUserArguments) -> ExitCode {
    let AsUserArguments { user, command } = arguments;
    match find(user).and_then(|user| become_user(&user).map(|()| user)) {
        Ok(user) => {
            let Err(error) = execute(&user, command);
            say(&error.to_string());
            ExitCode::from(error.exit_code())
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Takes on the user's ids and groups for good. The kernel takes all capabilities away with root's id (capabilities(7)).
fn become_user(user: &User) -> anyhow::Result<()> {
    let name = CString::new(user.name.as_str())?;
    initgroups(&name, user.gid).context("the user's groups can't be taken on")?;
    setresgid(user.gid, user.gid, user.gid).context("the user's group can't be taken on")?;
    setresuid(user.uid, user.uid, user.uid).context("the user can't be taken on")?;
    let kept = !user.uid.is_root()
        && (getuid() != user.uid || setresuid(Uid::from_raw(0), user.uid, user.uid).is_ok());
    ensure!(
        !kept && nix::unistd::getgid() == Gid::from_raw(user.gid.as_raw()),
        "root's rights could not be given up"
    );
    Ok(())
}

fn execute(user: &User, command: &[String]) -> Result<Infallible, NotStarted> {
    let (program, arguments) =
        command.split_first().map_or(("", command), |(first, rest)| (first.as_str(), rest));
    let error = Command::new(program)
        .args(arguments)
        .env("HOME", &user.dir)
        .env("SHELL", &user.shell)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name)
        .exec();
    Err(NotStarted::new(program, error))
}
