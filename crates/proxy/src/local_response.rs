//! The proxy's own responses, marked by `x-quotakeeper-reason`.
//!
//! One body serves all SDKs: OpenAI's reads `error.message` and `error.code`, Anthropic's `type` and
//! `error.type`, HubSpot's `status`, `message` and `category`; others show it as it is.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use jiff::{Timestamp, Unit};
use quotakeeper_engine::event::RefusalReason;
use serde_json::json;

use crate::admission::{Reason, Refused};
use crate::record::WaitBound;
use crate::upstream::BoxError;

/// The header that distinguishes the proxy's responses from the provider's.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-quotakeeper-reason");
/// Honoured by the SDKs of OpenAI and Anthropic.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What the SDKs of AWS honour in its place, in milliseconds (botocore, `retries/standard.py`).
const AMZ_RETRY_AFTER: HeaderName = HeaderName::from_static("x-amz-retry-after");
/// The SDKs honour Retry-After up to a minute; a longer one would be cut short.
const LONGEST_SDK_WAIT: Duration = Duration::from_secs(60);

/// The body of an answer to the application.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// A response of the proxy itself.
#[derive(Debug)]
pub(crate) struct LocalResponse {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
    headers: Vec<(HeaderName, &'static str)>,
}

impl LocalResponse {
    /// A response to which no later retry makes a difference.
    pub(crate) fn new(status: StatusCode, reason: &'static str, message: String) -> Self {
        let headers = Vec::new();
        Self { status, reason, message, retry_after: None, should_retry: None, headers }
    }

    /// Adds a header that the status calls for.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A call of `quota` that is refused at `now`. `rejection`: the provider's reason, if it rejected the call before.
    pub(crate) fn refused(refused: Refused, quota: &str, rejection: Option<&str>, now: Timestamp) -> Self {
        let reason = refused.reason;
        let (status, what) = status_and_words(reason);
        let rejected = match (&refused.words, rejection) {
            (Some(figures), _) if reason == Reason::Limiter(RefusalReason::BudgetExhausted) => {
                let room = refused.retry_after.and_then(|wait| now.checked_add(wait).ok());
                let room = room.map(|at| format!("; there is room for it at {}", to_the_second(at)));
                format!(": {figures}{}", room.unwrap_or_default())
            }
            (Some(figures), _) if reason == Reason::Limiter(RefusalReason::NeverFits) => {
                format!(": {figures}")
            }
            (Some(words), _) => format!("; the provider said: {words}"),
            (None, Some(words)) => format!("; the provider said: {words}"),
            (None, None) => String::new(),
        };
        let message = format!("Quotakeeper did not send this call of quota {quota}: {what}{rejected}");
        let forbidden = status == StatusCode::FORBIDDEN;
        let retry_after = refused.retry_after.filter(|_| !forbidden);
        let too_long = retry_after.is_some_and(|wait| wait > LONGEST_SDK_WAIT);
        Self {
            status,
            reason: reason.as_str(),
            message,
            retry_after,
            should_retry: (forbidden || too_long).then_some(false),
            headers: Vec::new(),
        }
    }

    /// Adds a reason for people to the message.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.message = format!("{} ({reason})", self.message);
        self
    }

    /// Adds what bounded the call's wait, and how to move it.
    pub(crate) fn bounded(self, bound: WaitBound) -> Self {
        self.because(&match bound {
            WaitBound::Client(timeout) => format!(
                "its client gives up after {} s, and a fifth of that is left for the answer; set a longer timeout",
                decimals(timeout)
            ),
            WaitBound::Queue(wait) => format!(
                "the quota lets calls wait {} s; set enforcement.maxQueueSeconds higher",
                decimals(wait)
            ),
        })
    }

    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        // Rounded up: a retry that comes early is refused again.
        let seconds = |wait: Duration| (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let retry_after = self.retry_after.map(seconds);
        let message = match retry_after {
            Some(1) => format!("{}. Try again in 1 second.", self.message),
            Some(wait) => format!("{}. Try again in {wait} seconds.", self.message),
            None => format!("{}.", self.message),
        };
        let (kind, category) = match self.status {
            StatusCode::TOO_MANY_REQUESTS => ("rate_limit_error", "RATE_LIMITS"),
            StatusCode::FORBIDDEN => ("permission_error", "FORBIDDEN"),
            status if status.is_server_error() => ("api_error", "SERVER_ERROR"),
            _ => ("invalid_request_error", "VALIDATION_ERROR"),
        };
        let body = json!({
            "type": "error",
            "error": {"type": kind, "code": self.reason, "message": message, "param": null},
            "status": "error",
            "message": message,
            "category": category,
        });
        let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REASON_HEADER, HeaderValue::from_static(self.reason));
        for (name, value) in self.headers {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(wait) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
            headers.insert(AMZ_RETRY_AFTER, HeaderValue::from(wait.saturating_mul(1_000)));
        }
        if let Some(retry) = self.should_retry {
            let value = if retry { "true" } else { "false" };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(value));
        }
        response
    }
}

/// The status of a call that is refused for `reason`, and why in words.
fn status_and_words(reason: Reason) -> (StatusCode, &'static str) {
    match reason {
        Reason::Limiter(RefusalReason::WaitTooLong) => {
            (StatusCode::TOO_MANY_REQUESTS, "it would have to wait longer for a grant than it may")
        }
        Reason::Limiter(RefusalReason::WaitExceeded) => {
            (StatusCode::TOO_MANY_REQUESTS, "no grant came in time")
        }
        Reason::Limiter(RefusalReason::QueueFull) => {
            (StatusCode::TOO_MANY_REQUESTS, "as many calls wait as the queue holds")
        }
        Reason::Limiter(RefusalReason::QuotaExceeded) => {
            (StatusCode::TOO_MANY_REQUESTS, "the quota is used up, and its onExceeded is Reject")
        }
        Reason::TooManyCalls => {
            (StatusCode::TOO_MANY_REQUESTS, "the proxy has as many open calls as it may; make fewer at once")
        }
        Reason::Limiter(RefusalReason::NeverFits) => (
            StatusCode::FORBIDDEN,
            "it needs more than a whole window of the quota allows, so make it smaller",
        ),
        Reason::Limiter(RefusalReason::ProviderStopped) => {
            (StatusCode::FORBIDDEN, "the provider has stopped the account; look at its billing and limits")
        }
        Reason::Limiter(RefusalReason::BudgetExhausted) => (
            StatusCode::FORBIDDEN,
            "a budget is used up for longer than it may wait, so raise the budget or send it later",
        ),
        Reason::NotInForce => (StatusCode::SERVICE_UNAVAILABLE, "the quota is not in force"),
        Reason::RequestExpired => {
            (StatusCode::TOO_MANY_REQUESTS, "the provider would reject it, because it has waited too long")
        }
        Reason::ProxyStopping => (StatusCode::SERVICE_UNAVAILABLE, "the proxy is stopping"),
        Reason::LimiterUnreachable => {
            (StatusCode::SERVICE_UNAVAILABLE, "the proxy has no connection to the limiter")
        }
    }
}

fn to_the_second(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

/// Seconds, with a decimal where they are few.
fn decimals(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    match (tenths / 10, tenths % 10) {
        (seconds, 1..) if seconds < 10 => format!("{seconds}.{}", tenths % 10),
        (seconds, _) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_824_000, 0);

    fn refusal(reason: Reason, millis: Option<u64>) -> Response<ResponseBody> {
        let retry_after = millis.map(Duration::from_millis);
        LocalResponse::refused(
            Refused { reason, retry_after, words: None },
            "gtm/openai",
            Some("status 429"),
            NOW,
        )
        .into_response()
    }

    fn field(response: &Response<ResponseBody>, name: HeaderName) -> Option<&str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_wait_is_rounded_up_and_a_long_one_is_not_retried() {
        for (millis, seconds, retry) in [
            (1, "1", None),
            (1_000, "1", None),
            (1_001, "2", None),
            (60_000, "60", None),
            (60_001, "61", Some("false")),
        ] {
            let response = refusal(Reason::Limiter(RefusalReason::WaitTooLong), Some(millis));
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(field(&response, header::RETRY_AFTER), Some(seconds), "{millis}");
            let millis_told = field(&response, AMZ_RETRY_AFTER).unwrap();
            assert_eq!(millis_told.strip_suffix("000"), Some(seconds), "{millis}");
            assert_eq!(field(&response, SHOULD_RETRY), retry, "{millis}");
            assert_eq!(field(&response, REASON_HEADER), Some("WaitTooLong"));
        }
    }

    #[tokio::test]
    async fn the_bound_that_kept_a_call_from_waiting_is_named() {
        let told = async |bound| {
            let reason = Reason::Limiter(RefusalReason::WaitTooLong);
            let refused = Refused { reason, retry_after: Some(Duration::from_secs(45)), words: None };
            let response = LocalResponse::refused(refused, "crm", None, NOW).bounded(bound).into_response();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        };
        let queue = told(WaitBound::Queue(Duration::from_secs(30))).await;
        assert!(queue.contains("the quota lets calls wait 30 s; set enforcement.maxQueueSeconds"), "{queue}");
        assert!(!queue.contains("client"), "{queue}");
        let client = told(WaitBound::Client(Duration::from_millis(3_960))).await;
        assert!(client.contains("its client gives up after 4 s"), "{client}");
        assert!(!client.contains("maxQueueSeconds"), "{client}");
    }

    #[test]
    fn what_waiting_does_not_help_is_403_without_retry_after() {
        use RefusalReason::{BudgetExhausted, NeverFits, ProviderStopped};
        for reason in [NeverFits, ProviderStopped, BudgetExhausted] {
            let response = refusal(Reason::Limiter(reason), Some(5_000));
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
            assert_eq!(field(&response, header::RETRY_AFTER), None);
            assert_eq!(field(&response, SHOULD_RETRY), Some("false"));
        }
    }

    #[tokio::test]
    async fn a_call_that_never_fits_is_told_both_figures() {
        let reason = Reason::Limiter(RefusalReason::NeverFits);
        let figures = "it can draw 4596 tokens of the limit tokens, which allows 3000 tokens".to_owned();
        let refused = Refused { reason, retry_after: None, words: Some(figures) };
        let body = LocalResponse::refused(refused, "gtm/openai", None, NOW).into_response().into_body();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(body.contains("so make it smaller: it can draw 4596 tokens"), "{body}");
        assert!(!body.contains("the provider said"), "{body}");
    }

    #[tokio::test]
    async fn a_call_that_a_budget_has_no_room_for_is_told_the_figures_and_when_there_is_room() {
        let reason = Reason::Limiter(RefusalReason::BudgetExhausted);
        let figures = "all of daily (250000 requests) is used".to_owned();
        let refused = Refused { reason, retry_after: Some(Duration::from_secs(3_600)), words: Some(figures) };
        let body = LocalResponse::refused(refused, "gtm/crm", None, NOW).into_response().into_body();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let words = "all of daily (250000 requests) is used; there is room for it at 2026-11-28T01:00:00Z.";
        assert!(body.contains(words), "{body}");
    }

    #[tokio::test]
    async fn the_body_says_quota_reason_and_the_providers_word() {
        let response = refusal(Reason::Limiter(RefusalReason::WaitExceeded), Some(2_000));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["error"]["message"],
            "Quotakeeper did not send this call of quota gtm/openai: no grant came in time; \
             the provider said: status 429. Try again in 2 seconds."
        );
        assert_eq!(body["error"]["code"], "WaitExceeded");
    }
}
