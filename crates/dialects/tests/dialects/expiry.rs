//! Until when a request may be sent, by what it is signed with.

use jiff::{SignedDuration, Timestamp};
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::expiry::ExpiryCause;
use quotakeeper_dialects::profile::Client;

use crate::answers::headers;

const AWS: &str = "authorization: AWS4-HMAC-SHA256 Credential=AKID/20261127/us-east-1/bedrock/aws4_request, \
                   SignedHeaders=host;x-amz-date, Signature=00";
/// `{"exp":1795780820}`, which is 2026-11-27T12:00:20Z.
const TOKEN: &str = "authorization: Bearer eyJhbGciOiJub25lIn0.eyJleHAiOjE3OTU3ODA4MjB9.c2ln";

/// Seconds from 2026-11-27T12:00:00Z.
fn left(profile: &Profile, path: &str, lines: &[&str]) -> Option<(i64, ExpiryCause)> {
    let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
    let expiry = profile.expiry(path, &headers(lines), now)?;
    Some((expiry.at.duration_since(now).as_secs(), expiry.cause))
}

#[test]
fn signatures_and_tokens_bound_the_time_of_sending() {
    use ExpiryCause::{Signature, Token};
    let usual = Profile::default();
    let client = Client { signature_seconds: Some(20), ..Client::default() };
    let short = Profile { client: Some(client), ..Profile::default() };
    let now = "x-amz-date: 20261127T120000Z";
    for (profile, path, lines, wanted) in [
        (&usual, "/", &[AWS, now][..], Some((270, Signature))),
        (&usual, "/", &[AWS, "x-amz-date: 20261127T115800Z"], Some((150, Signature))),
        (&short, "/", &[AWS, now], Some((18, Signature))),
        (&usual, "/", &[now], None),
        (&usual, "/", &[AWS], None),
        (&usual, "/", &[AWS, "x-amz-date: yesterday"], None),
        // Too old on arrival: the provider says so.
        (&usual, "/", &[AWS, "x-amz-date: 20261127T115400Z"], None),
        (&usual, "/x?X-Amz-Date=20261127T115900Z&X-Amz-Expires=120&a=b", &[], Some((48, Signature))),
        (&usual, "/x?X-Amz-Date=20261127T115900Z&X-Amz-Expires=86400", &[], Some((86_310, Signature))),
        (&usual, "/x?X-Amz-Expires=120", &[], None),
        (&usual, "/", &[TOKEN], Some((15, Token))),
        (&usual, "/", &["authorization: bearer a.eyJleHAiOjE3OTU3ODA4MDB9.b"], None),
        (&usual, "/", &["authorization: Bearer sk-proj-a.b.c"], None),
        (&usual, "/", &["authorization: Bearer sk-ant"], None),
    ] {
        assert_eq!(left(profile, path, lines), wanted, "{path} {lines:?}");
    }
}

#[test]
fn no_bound_lies_behind_the_end_of_what_it_bounds() {
    for ahead in [1, 3, 60, 100_000] {
        let client = Client { signature_seconds: Some(ahead), ..Client::default() };
        let profile = Profile { client: Some(client), ..Profile::default() };
        let (left, _) = left(&profile, "/", &[AWS, "x-amz-date: 20261127T120000Z"]).unwrap();
        let end = SignedDuration::from_secs(ahead.into()).as_secs();
        assert!(left < end && (end - left) <= 30, "{left} of {end}");
    }
}
