//! Which fields of a request its client has signed: a signature holds for exactly these values, so they go upstream as
//! they came.

use std::collections::HashSet;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Fields that frame one connection's message: no client signs them, and they can't be passed on.
const FRAMING: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHORIZATION,
];
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// The signed fields of a request, with their values.
#[derive(Debug, Default)]
pub(crate) struct SignedFields(Vec<(HeaderName, Vec<HeaderValue>)>);

impl SignedFields {
    /// Those of a request to this path and query.
    pub(crate) fn of(headers: &HeaderMap, path_and_query: &str) -> Self {
        let names = names(headers, path_and_query);
        let names = names.into_iter().filter(|name| headers.contains_key(name) && !FRAMING.contains(name));
        let values = |name: &HeaderName| headers.get_all(name).iter().cloned().collect();
        Self(names.map(|name| (name.clone(), values(&name))).collect())
    }

    /// Whether nothing is signed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without a field that has to change, signed or not.
    pub(crate) fn without(mut self, field: &HeaderName) -> Self {
        self.0.retain(|(name, _)| name != field);
        self
    }

    /// Gives the signed fields their values again.
    pub(super) fn restore(self, headers: &mut HeaderMap) {
        for (name, values) in self.0 {
            headers.remove(&name);
            for value in values {
                headers.append(name.clone(), value);
            }
        }
    }
}

/// The names of the fields that any signature of the request covers.
fn names(headers: &HeaderMap, path_and_query: &str) -> HashSet<HeaderName> {
    let mut names = HashSet::new();
    let mut add = |found: Vec<&str>| names.extend(found.into_iter().filter_map(|name| name.parse().ok()));
    let values = |name: HeaderName| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    for value in values(header::AUTHORIZATION) {
        add(signed_headers(value).collect());
        add(draft_list(value).collect());
    }
    values(SIGNATURE).for_each(|value| add(draft_list(value).collect()));
    values(SIGNATURE_INPUT).for_each(|value| add(inner_lists(value).collect()));
    let query =
        path_and_query.split_once('?').map(|(_, query)| query.replace("%3B", ";").replace("%3b", ";"));
    add(query.iter().flat_map(|query| signed_headers(query)).collect());
    names
}

/// The list behind `SignedHeaders=`, as AWS's Signature Version 4 and the schemes made after it (Azure, Alibaba, Tencent)
/// have it in the `Authorization` field and, as `X-Amz-SignedHeaders=`, in queries.
fn signed_headers(text: &str) -> impl Iterator<Item = &str> {
    let list = behind(text, "signedheaders=");
    list.split([',', '&', ' ']).next().unwrap_or_default().split(';')
}

/// The list of a signature by the draft before RFC 9421 (draft-cavage-http-signatures §2.1.6).
fn draft_list(text: &str) -> impl Iterator<Item = &str> {
    behind(text, "headers=\"").split('"').next().unwrap_or_default().split_ascii_whitespace()
}

/// The components that HTTP message signatures cover (RFC 9421 §4.1).
fn inner_lists(text: &str) -> impl Iterator<Item = &str> {
    let lists = text.split('(').skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split('"').skip(1).step_by(2))
}

/// What follows `word`, which is in lower case, in a text in any.
fn behind<'a>(text: &'a str, word: &str) -> &'a str {
    let at = text.to_ascii_lowercase().find(word).map(|at| at + word.len());
    at.and_then(|at| text.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names_of(field: &str, value: &str, path: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::try_from(field).unwrap(), HeaderValue::from_str(value).unwrap());
        let mut found: Vec<_> = names(&headers, path).iter().map(ToString::to_string).collect();
        found.sort();
        found
    }

    #[test]
    fn the_fields_of_each_scheme_are_found() {
        let date_and_host = ["host", "x-amz-date"];
        for (field, value, path, expected) in [
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=A/20261127/eu/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature=0",
                "/",
                &date_and_host[..],
            ),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=A/2/eu/s3/aws4_request,SignedHeaders=host;x-amz-date,Signature=0",
                "/",
                &date_and_host,
            ),
            (
                "authorization",
                "HMAC-SHA256 SignedHeaders=x-ms-date;host&Signature=0",
                "/",
                &["host", "x-ms-date"],
            ),
            ("x-none", "", "/a?X-Amz-SignedHeaders=host%3Bx-amz-date&X-Amz-Signature=0", &date_and_host),
            (
                "signature-input",
                r#"sig1=("@method" "content-digest" "accept-encoding");created=1;keyid="k""#,
                "/",
                &["accept-encoding", "content-digest"],
            ),
            (
                "authorization",
                r#"Signature keyId="k",algorithm="a",headers="(request-target) host date",signature="0""#,
                "/",
                &["date", "host"],
            ),
            ("authorization", "Bearer signedheaders", "/", &[]),
            ("authorization", "Bearer x", "/?signedheaders", &[]),
        ] {
            assert_eq!(names_of(field, value, path), expected, "{field}: {value} {path}");
        }
    }
}
