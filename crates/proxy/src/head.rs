//! Heads of requests and responses on their way through: what belongs to one connection stays there.
//!
//! | room | holds |
//! |---|---|
//! | `signed` | fields that the client has signed |

mod signed;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::patience::PATIENCE_HEADER;

use crate::local_response::LocalResponse;
pub(crate) use signed::SignedFields;

/// Fields of one connection (RFC 9110 §7.6.1) and their old companions.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes what belongs to the connection: the fields that `Connection` names and the well-known ones.
/// `Trailer` stays, because trailers are passed on.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Makes the head of the request that goes upstream: for `authority`, without the hop's own fields. Nothing
/// is added about who passed it on: the proxy acts for its client alone, and the provider must see what it
/// would see without it. Fields that are `signed` stay as they are.
pub(crate) fn for_upstream(headers: &mut HeaderMap, authority: &str, signed: SignedFields) {
    headers.remove(PATIENCE_HEADER);
    // Trailers of HTTP/2 and gRPC depend on it, and it survives only there (RFC 9113 §8.2.2).
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    });
    remove_hop_by_hop(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // The body is here already, or the client was sent 100 Continue.
    headers.remove(header::EXPECT);
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(header::HOST, host);
    }
    join_cookies(headers);
    accept_only_readable(headers);
    signed.restore(headers);
}

/// Fields that usually hold credentials.
const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"];

/// Has HTTP/2 never put credentials into its tables, whose sizes could tell them (RFC 7541 §7.1).
pub(crate) fn mark_credentials(headers: &mut HeaderMap, profile: &Profile) {
    for (name, value) in headers.iter_mut() {
        let own = || profile.credentials.iter().any(|it| it.header.eq_ignore_ascii_case(name.as_str()));
        if CREDENTIALS.contains(&name.as_str()) || own() {
            value.set_sensitive(true);
        }
    }
}

/// HTTP/2 clients may send a cookie in crumbs, which HTTP/1.1 does not know (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        joined.set_sensitive(true);
        headers.insert(header::COOKIE, joined);
    }
}

/// A rejection's class may stand in the body, so only codings that the proxy reads are asked for. What the
/// client did not ask for is not added.
fn accept_only_readable(headers: &mut HeaderMap) {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let readable = ["gzip", "x-gzip", "deflate", "identity"];
    let kept: Vec<String> = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|part| {
            let coding = part.split(';').next().unwrap_or_default().trim();
            readable.iter().any(|known| coding.eq_ignore_ascii_case(known))
        })
        .map(str::to_owned)
        .collect();
    let kept = if kept.is_empty() { "identity".to_owned() } else { kept.join(", ") };
    if let Ok(value) = HeaderValue::from_str(&kept) {
        headers.insert(header::ACCEPT_ENCODING, value);
    }
}

/// The answer to a request that wants to leave HTTP: one grant is one call, and nobody could count what follows.
/// `h2c` is an offer that may be ignored (RFC 9110 §7.8), and some clients make it on every connection.
pub(crate) fn other_protocol(method: &Method, headers: &HeaderMap) -> Option<LocalResponse> {
    if method == Method::CONNECT {
        let message = "Quotakeeper's proxy is no forward proxy and takes no CONNECT, because it could not count the \
                       calls of a tunnel: unset HTTPS_PROXY and HTTP_PROXY for the provider's hosts, or list the \
                       hosts in NO_PROXY; use the base-URL variables that Quotakeeper sets, or hosts mode";
        let refused =
            LocalResponse::new(StatusCode::METHOD_NOT_ALLOWED, "ConnectRefused", message.to_owned());
        return Some(refused.with_header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    let asked = headers.get(header::UPGRADE)?.to_str().ok()?;
    let insists = asked.split(',').map(str::trim).find(|name| !name.eq_ignore_ascii_case("h2c"))?;
    let message = format!(
        "Quotakeeper's proxy passes HTTP calls on, not {insists:?}, because it could not count the calls on such a \
         connection: use the provider's HTTP API (for events, a streamed response) instead"
    );
    // Clients with both transports, such as Codex, fall back to HTTP at this status and show others as errors.
    let refused = LocalResponse::new(StatusCode::UPGRADE_REQUIRED, "UpgradeRefused", message);
    Some(refused.with_header(header::UPGRADE, "HTTP/1.1").with_header(header::CONNECTION, "upgrade"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let read = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(read).collect()
    }

    #[test]
    fn credentials_are_in_no_table_of_http_2() {
        let profile: Profile =
            serde_json::from_str(r#"{"credentials": [{"header": "X-Own-Token"}]}"#).unwrap();
        let mut given = headers(&[("authorization", "Bearer x"), ("x-own-token", "y"), ("accept", "*/*")]);
        mark_credentials(&mut given, &profile);
        let secret: Vec<&str> =
            given.iter().filter(|(_, value)| value.is_sensitive()).map(|it| it.0.as_str()).collect();
        assert_eq!(secret, ["authorization", "x-own-token"]);
    }

    #[test]
    fn only_end_to_end_fields_go_upstream() {
        let mut given = headers(&[
            ("host", "127.0.0.1:15801"),
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "Basic x"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip, br;q=0.9, deflate, zstd"),
            ("authorization", "Bearer x"),
            ("x-forwarded-for", "10.0.0.1"),
        ]);
        for_upstream(&mut given, "api.example.com", SignedFields::default());
        let expected = headers(&[
            ("host", "api.example.com"),
            ("te", "trailers"),
            ("accept-encoding", "gzip, deflate"),
            ("authorization", "Bearer x"),
            ("x-forwarded-for", "10.0.0.1"),
        ]);
        assert_eq!(given, expected);
    }

    #[test]
    fn no_encoding_is_requested_that_the_client_does_not_accept() {
        let mut none = HeaderMap::new();
        for_upstream(&mut none, "a", SignedFields::default());
        assert!(!none.contains_key(header::ACCEPT_ENCODING));
        let mut unreadable = headers(&[("accept-encoding", "br")]);
        for_upstream(&mut unreadable, "a", SignedFields::default());
        assert_eq!(unreadable[header::ACCEPT_ENCODING], "identity");
    }

    const CHANGED: [&str; 7] =
        ["accept-encoding", "te", "expect", "keep-alive", "cookie", "host", "x-quotakeeper-patience"];

    /// A field that the proxy would change, or one of any name.
    fn field() -> impl Strategy<Value = (String, String)> {
        let name = prop_oneof![prop::sample::select(&CHANGED[..]).prop_map(str::to_owned), "x-[a-z]{1,3}"];
        (name, prop_oneof![Just("gzip, br".to_owned()), "[!-~]{0,8}"])
    }

    proptest! {
        #[test]
        fn no_signed_field_changes(
            fields in prop::collection::vec((field(), any::<bool>()), 1..8),
            scheme in 0..4_usize,
        ) {
            let named = |name: &str| fields.iter().any(|((field, _), signed)| *signed && field == name);
            let given: Vec<_> = fields.iter().map(|((name, value), _)| (name.as_str(), value.as_str())).collect();
            let mut given = headers(&given);
            let signed: Vec<String> =
                given.keys().map(ToString::to_string).filter(|name| named(name)).collect();
            let (mut path, list) = ("/".to_owned(), signed.join(";"));
            let (field, value) = match scheme {
                0 => ("authorization", format!("AWS4-HMAC-SHA256 Credential=A, SignedHeaders={list}, Signature=0")),
                1 => ("signature-input", format!("sig=(\"{}\");created=1", signed.join("\" \""))),
                2 => ("signature", format!("keyId=\"k\",headers=\"{}\",signature=\"0\"", signed.join(" "))),
                _ => ("x-none", String::new()),
            };
            if scheme == 3 {
                path = format!("/a?X-Amz-SignedHeaders={}&X-Amz-Signature=0", list.replace(';', "%3B"));
            }
            given.insert(HeaderName::from_static(field), HeaderValue::from_str(&value).unwrap());
            let before = given.clone();
            let fields = SignedFields::of(&given, &path);
            for_upstream(&mut given, "api.example.com", fields);
            for name in signed {
                let values = |headers: &HeaderMap| headers.get_all(&name).iter().cloned().collect::<Vec<_>>();
                prop_assert_eq!(values(&given), values(&before), "{}", name);
            }
        }
    }

    #[test]
    fn split_cookie_fields_are_joined() {
        let mut crumbs = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        for_upstream(&mut crumbs, "a", SignedFields::default());
        let cookies: Vec<_> = crumbs.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn an_offer_of_http2_is_no_upgrade_but_a_websocket_is() {
        let ask = |value| other_protocol(&Method::GET, &headers(&[("upgrade", value)]));
        assert!(ask("h2c").is_none());
        let reason = |refused: Option<LocalResponse>| refused.unwrap().reason;
        assert_eq!(reason(ask("websocket")), "UpgradeRefused");
        assert_eq!(reason(other_protocol(&Method::CONNECT, &HeaderMap::new())), "ConnectRefused");
    }
}
