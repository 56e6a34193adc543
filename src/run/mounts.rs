//! Files that one command sees instead of the system's.
//!
//! A thread leaves the common mount namespace, binds files over others there and starts the command, so nothing outside
//! the command sees them, and they are gone with the command.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::NamedTempFile;

/// A file that is seen in the place of another.
pub struct Replacement {
    /// Where it is seen; the file there exists.
    pub at: PathBuf,
    /// What is seen there.
    pub file: NamedTempFile,
    /// Whether the command must not start without it.
    pub required: bool,
}

/// Starts a command that sees the replacements.
///
/// # Errors
/// When the namespace can't be had, a required file can't be replaced or the command can't be started.
pub fn spawn(replacements: &[Replacement], mut command: Command) -> io::Result<Child> {
    // A namespace belongs to a thread: this one takes nothing else along.
    let started = std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("private-files".to_owned()).spawn_scoped(scope, || {
                enter()?;
                for Replacement { at, file, required } in replacements {
                    match bind(file.path(), at) {
                        Err(error) if *required => return Err(error),
                        Err(error) => {
                            tracing::warn!(%error, "programs that read this file don't trust the proxy")
                        }
                        Ok(()) => {}
                    }
                }
                command.spawn()
            })?;
        Ok(thread.join())
    });
    started.and_then(|joined| {
        joined.unwrap_or_else(|_| Err(io::Error::other("the thread that starts the command panicked")))
    })
}

fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts here must not propagate back.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

fn bind(file: &Path, over: &Path) -> io::Result<()> {
    mount(Some(file), over, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{} can't be replaced for the command: {error}", over.display()))
    })
}
