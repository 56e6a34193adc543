//! Profiles by name, and answers to read with them.

use std::fs;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use quotakeeper_dialects::{Head, Observation, Profile, Reading, Verdict, catalogue};

/// Our clock in all these stories.
pub fn now() -> Timestamp {
    "2026-10-05T14:00:00Z".parse().unwrap()
}

/// Names of the profiles in `tests/profiles`.
pub fn test_profiles() -> Vec<String> {
    names_in("profiles")
}

/// Names of the files in `tests/FOLDER`, without extension.
pub fn names_in(folder: &str) -> Vec<String> {
    let files = fs::read_dir(format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let name = |file: fs::DirEntry| file.path().file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = files.map(|file| name(file.unwrap())).collect();
    names.sort();
    names
}

/// As it is written, nothing inherited: a built-in profile or one of `tests/profiles`.
pub fn written(name: &str) -> Profile {
    if let Ok(found) = catalogue::find(name) {
        return found;
    }
    let file = format!("{}/tests/profiles/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// A built-in profile or one of `tests/profiles`, with what it inherits.
pub fn profile(name: &str) -> Profile {
    written(name).resolve(|base| catalogue::find(base).ok()).unwrap()
}

/// Lines of `name: value`.
pub fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    headers
}

/// What the profile reads in an answer to a call of no endpoint; the body is handed over only where it is asked for.
pub fn read(profile: &Profile, status: u16, lines: &[&str], body: &str) -> Reading {
    read_of(profile, None, status, lines, body)
}

/// The same, of a call of this endpoint.
pub fn read_of(
    profile: &Profile,
    endpoint: Option<&str>,
    status: u16,
    lines: &[&str],
    body: &str,
) -> Reading {
    let (status, headers) = (StatusCode::from_u16(status).unwrap(), headers(lines));
    let head = Head { status, headers: &headers, endpoint };
    let body = profile.needs_body(head).then_some(body.as_bytes());
    profile.read(head, body, now())
}

/// What the profile reads in the headers of an accepted call.
pub fn observed(profile: &Profile, lines: &[&str]) -> Vec<Observation> {
    let reading = read(profile, 200, lines, "{}");
    assert_eq!(reading.verdict, Verdict::Accepted);
    reading.observations
}
