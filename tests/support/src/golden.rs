//! Texts that are compared with a file of the repository.

use std::path::Path;

/// Compares a text with a golden file; `UPDATE_GOLDEN=1` writes the file instead.
///
/// # Panics
/// If they differ, with the commands that refresh the file: `UPDATE_GOLDEN=1` before `rerun`, or `make generate-all`.
pub fn assert_golden(file: &Path, text: &str, rerun: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, text).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; if the change is intended, run: UPDATE_GOLDEN=1 {rerun} (or make generate-all)",
        file.display()
    );
}
