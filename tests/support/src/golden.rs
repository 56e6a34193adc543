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

/// Compares the part of a page between the marks `<!-- begin NAME -->` and `<!-- end NAME -->` with a text;
/// `UPDATE_GOLDEN=1` writes it instead.
///
/// # Panics
/// If they differ, or if the page has no such marks.
pub fn assert_part(file: &Path, name: &str, text: &str) {
    let page = std::fs::read_to_string(file).unwrap();
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (present, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, format!("{before}{begin}{text}{end}{after}")).unwrap();
    } else {
        assert_eq!(present, text, "{} is stale; run: make generate", file.display());
    }
}
