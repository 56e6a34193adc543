//! Files in the temporary folder that live as long as the run, even if it is killed.
//!
//! A killed run can't remove its files, so the next run does. A live process holds a lock on each of its files; the
//! kernel releases it when the process ends, in whatever way.

use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use tempfile::NamedTempFile;

/// The prefix of all such files.
const PREFIX: &str = "quotakeeper-";
/// The command may change its user, and has to read them.
const READABLE: u32 = 0o644;

/// Writes a file that is removed when the returned handle is dropped; `purpose` is a part of its name.
///
/// # Errors
/// The system's error.
pub fn file(purpose: &str, content: &[u8]) -> io::Result<NamedTempFile> {
    let folder = std::env::temp_dir();
    remove_of_the_dead(&folder, purpose);
    in_folder(&folder, purpose, content)
}

fn in_folder(folder: &Path, purpose: &str, content: &[u8]) -> io::Result<NamedTempFile> {
    loop {
        let mut file = NamedTempFile::with_prefix_in(prefix(purpose), folder)?;
        file.as_file().lock()?;
        // Another run may have taken it for a dead one's before it was locked.
        if !file.path().exists() {
            continue;
        }
        file.write_all(content)?;
        file.flush()?;
        file.as_file().set_permissions(Permissions::from_mode(READABLE))?;
        return Ok(file);
    }
}

fn prefix(purpose: &str) -> String {
    format!("{PREFIX}{purpose}-")
}

/// Removes this user's files of ended runs. Files that can't be examined stay: they do no harm.
fn remove_of_the_dead(folder: &Path, purpose: &str) {
    let prefix = prefix(purpose);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) && is_of_the_dead(&entry).unwrap_or(false)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_of_the_dead(entry: &DirEntry) -> io::Result<bool> {
    // Of the entry itself: a link of that name was made by somebody else.
    let there = entry.metadata()?;
    if !there.is_file() || there.uid() != geteuid().as_raw() {
        return Ok(false);
    }
    Ok(File::open(entry.path())?.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_a_living_one_uses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let living = in_folder(folder.path(), "ca", b"living").unwrap();
        // A killed process lets go of its lock and leaves the file.
        let (_, killed) = in_folder(folder.path(), "ca", b"killed").unwrap().keep().unwrap();
        let others = ["quotakeeper-ca", "quotakeeper-calendar", "other-ca-1"];
        others.iter().for_each(|name| fs::write(path(name), "").unwrap());
        std::os::unix::fs::symlink(path("other-ca-1"), path("quotakeeper-ca-link")).unwrap();

        remove_of_the_dead(folder.path(), "ca");
        assert!(!killed.exists());
        assert_eq!(fs::read(living.path()).unwrap(), b"living");
        assert!(others.iter().all(|name| path(name).exists()) && path("quotakeeper-ca-link").exists());
        assert_eq!(fs::metadata(living.path()).unwrap().mode() & 0o777, READABLE);
        let living = living.into_temp_path().to_owned();
        assert!(!living.exists(), "it is gone with its run");
    }
}
