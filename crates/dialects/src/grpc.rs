//! gRPC answers: how a call ended stands in `grpc-status`, in the trailers or, where no message was sent, in the head.
//!
//! A rejection is read by the rules of `rejections`, as an answer in JSON with the status that Google's APIs give the
//! same error over HTTP, and the body `{"error": {"status": …, "message": …, "details": [{"retryDelay": …}]}}`.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use prost::Message;
use serde_json::json;

use crate::profile::Profile;
use crate::response::{Head, Reading, Verdict, unnamed_reason};

/// gRPC's codes that may be rejections, and what they stand for (google/rpc/code.proto).
const CODES: [(&[u8], StatusCode, &str); 2] = [
    (b"8", StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
    (b"14", StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
];
/// Senders of binary headers may leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Type of the detail that names the wait.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Whether an answer with these headers is gRPC's.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

impl Profile {
    /// What the trailers of a gRPC answer with this head say, if they reject the call; with the HTTP status that the
    /// rejection stands for. Of an answer without messages, the trailers are the head's own headers.
    pub fn rejection_in_trailers(
        &self,
        head: Head<'_>,
        trailers: &HeaderMap,
        now: Timestamp,
    ) -> Option<(StatusCode, Reading)> {
        let code = trailers.get("grpc-status")?.as_bytes();
        let (_, status, name) = CODES.iter().find(|(known, ..)| *known == code)?;
        let wait = retry_delay(trailers);
        let mut headers = head.headers.clone();
        headers.extend(trailers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = wait {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
            headers.insert("retry-after-ms", u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into());
        }
        let details: Vec<_> =
            wait.iter().map(|wait| json!({"retryDelay": format!("{}s", wait.as_secs_f64())})).collect();
        let body = json!({"error": {"status": name, "message": message(trailers), "details": details}});
        let head = Head { status: *status, headers: &headers, ..head };
        let mut reading = self.read(head, Some(body.to_string().as_bytes()), now);
        let Verdict::Rejected { reason, .. } = &mut reading.verdict else { return None };
        // No status 429 was sent.
        if *reason == unnamed_reason(*status) {
            *reason = (*name).to_owned();
        }
        Some((*status, reading))
    }
}

/// The wait that the error's details name.
fn retry_delay(trailers: &HeaderMap) -> Option<Duration> {
    let details = BASE64.decode(trailers.get("grpc-status-details-bin")?.as_bytes()).ok()?;
    let status = Status::decode(details.as_slice()).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    Some(Duration::new(delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?))
}

/// `grpc-message`, whose bytes outside printable ASCII are percent-encoded.
fn message(trailers: &HeaderMap) -> String {
    let encoded = trailers.get("grpc-message").map(|value| value.as_bytes()).unwrap_or_default();
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        let decoded = (*first == b'%').then(|| after.get(..2)).flatten();
        let decoded = decoded.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if decoded.is_some() { &after[2..] } else { after };
        bytes.push(decoded.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Scope;
    use crate::profile::Class;

    fn trailers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn read(lines: &[(&'static str, &str)]) -> Option<(StatusCode, Verdict)> {
        let headers = trailers(&[("content-type", "application/grpc")]);
        let head = Head { status: StatusCode::OK, headers: &headers, endpoint: None };
        let read = Profile::default().rejection_in_trailers(head, &trailers(lines), Timestamp::UNIX_EPOCH);
        read.map(|(status, reading)| (status, reading.verdict))
    }

    fn details(seconds: i64, nanos: i32) -> String {
        let info = RetryInfo { retry_delay: Some(Delay { seconds, nanos }) };
        let detail = |type_url: &str, value| Detail { type_url: type_url.to_owned(), value };
        let others = detail("type.googleapis.com/google.rpc.QuotaFailure", vec![1, 2, 3]);
        let status = Status { details: vec![others, detail(RETRY_INFO, info.encode_to_vec())] };
        BASE64.encode(status.encode_to_vec())
    }

    fn rejected(
        status: StatusCode,
        class: Class,
        scope: Scope,
        millis: Option<u64>,
    ) -> Option<(StatusCode, Verdict)> {
        let wait = millis.map(Duration::from_millis);
        let named = CODES.iter().find(|(_, known, _)| *known == status);
        let reason = named.unwrap().2.to_owned();
        Some((status, Verdict::Rejected { class, scope, shared_with: None, wait, reason }))
    }

    #[test]
    fn an_exhausted_resource_is_a_429_and_its_details_name_the_wait() {
        let quota = |millis| rejected(StatusCode::TOO_MANY_REQUESTS, Class::Quota, Scope::Account, millis);
        assert_eq!(read(&[("grpc-status", "8")]), quota(None));
        let in_words = [("grpc-status", "8"), ("grpc-message", "Quota%20exceeded: retry in 1.5s")];
        assert_eq!(read(&in_words), quota(Some(1_500)));
        let padded = details(3, 500_000_000);
        for details in [padded.as_str(), padded.trim_end_matches('=')] {
            let lines = [("grpc-status", "8"), ("grpc-status-details-bin", details)];
            assert_eq!(read(&lines), quota(Some(3_500)), "{details}");
        }
        let broken = [("grpc-status", "8"), ("grpc-status-details-bin", "AAAA")];
        assert_eq!(read(&broken), quota(None));
        assert_eq!(read(&[("grpc-status", "8"), ("grpc-status-details-bin", &details(-3, 0))]), quota(None));
    }

    #[test]
    fn other_ends_are_no_rejections() {
        for code in ["0", "2", "4", "16", "08", ""] {
            assert_eq!(read(&[("grpc-status", code)]), None, "{code}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("grpc-status", "14")]), None, "it may be the application's own");
        let overloaded =
            rejected(StatusCode::SERVICE_UNAVAILABLE, Class::Capacity, Scope::Provider, Some(2_000));
        assert_eq!(read(&[("grpc-status", "14"), ("grpc-status-details-bin", &details(2, 0))]), overloaded);
    }
}
