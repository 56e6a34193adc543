//! The answers that the proxy gives itself, marked as its own by `x-quotakeeper-reason`.
//!
//! One body serves all SDKs: OpenAI's reads `error.message` and `error.code`, Anthropic's `type` and
//! `error.type`, HubSpot's `status`, `message` and `category`; others show it as it is.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use quotakeeper_engine::event::RefusalReason;
use serde_json::json;

use crate::admission::{Reason, Refused};
use crate::upstream::BoxError;

/// The header that tells our answers from the provider's.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-quotakeeper-reason");
/// Obeyed by the SDKs of OpenAI and Anthropic.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The SDKs wait as long as Retry-After says only up to a minute; after that they would come back too early.
const LONGEST_SDK_WAIT: Duration = Duration::from_secs(60);

/// The body of an answer to the application.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// An answer of our own.
#[derive(Debug)]
pub(crate) struct LocalResponse {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
}

impl LocalResponse {
    /// An answer that no waiting changes.
    pub(crate) fn new(status: StatusCode, reason: &'static str, message: String) -> Self {
        Self { status, reason, message, retry_after: None, should_retry: None }
    }

    /// A call of `quota` that is refused. `provider_said`: the provider's own word, if it rejected the call
    /// before.
    pub(crate) fn refused(refused: Refused, quota: &str, provider_said: Option<&str>) -> Self {
        let reason = refused.reason;
        let (status, what) = match reason {
            Reason::Limiter(RefusalReason::WaitTooLong) => {
                (StatusCode::TOO_MANY_REQUESTS, "its turn would come after its client gives up")
            }
            Reason::Limiter(RefusalReason::WaitExceeded) => {
                (StatusCode::TOO_MANY_REQUESTS, "its turn did not come in time")
            }
            Reason::Limiter(RefusalReason::QueueFull) => {
                (StatusCode::TOO_MANY_REQUESTS, "as many calls wait as may")
            }
            Reason::Limiter(RefusalReason::QuotaExceeded) => {
                (StatusCode::TOO_MANY_REQUESTS, "the quota is used up and refuses instead of queueing")
            }
            Reason::TooManyCalls => {
                (StatusCode::TOO_MANY_REQUESTS, "the proxy holds as many calls as it may")
            }
            Reason::Limiter(RefusalReason::NeverFits) => {
                (StatusCode::FORBIDDEN, "it is larger than the quota, so waiting would not help")
            }
            Reason::Limiter(RefusalReason::ProviderStopped) => {
                (StatusCode::FORBIDDEN, "the provider refuses all calls until a person acts")
            }
            Reason::NotInForce => (StatusCode::SERVICE_UNAVAILABLE, "the quota is not in force"),
            Reason::LimiterUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "the limiter can't be reached"),
        };
        let said = provider_said.map_or_else(String::new, |word| format!("; the provider said: {word}"));
        let message = format!("Quotakeeper did not send this call of quota {quota}: {what}{said}");
        let forbidden = status == StatusCode::FORBIDDEN;
        let retry_after = refused.retry_after.filter(|_| !forbidden);
        let too_long = retry_after.is_some_and(|wait| wait > LONGEST_SDK_WAIT);
        Self {
            status,
            reason: reason.as_str(),
            message,
            retry_after,
            should_retry: (forbidden || too_long).then_some(false),
        }
    }

    /// The same with a reason, for people.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.message = format!("{} ({reason})", self.message);
        self
    }

    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        // A second begun is waited for: who comes back earlier is refused again.
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
        if let Some(wait) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        if let Some(retry) = self.should_retry {
            let value = if retry { "true" } else { "false" };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(reason: Reason, millis: Option<u64>) -> Response<ResponseBody> {
        let retry_after = millis.map(Duration::from_millis);
        LocalResponse::refused(Refused { reason, retry_after }, "gtm/openai", Some("status 429"))
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
            assert_eq!(field(&response, SHOULD_RETRY), retry, "{millis}");
            assert_eq!(field(&response, REASON_HEADER), Some("WaitTooLong"));
        }
    }

    #[test]
    fn what_waiting_does_not_help_is_403_without_retry_after() {
        for reason in [RefusalReason::NeverFits, RefusalReason::ProviderStopped] {
            let response = refusal(Reason::Limiter(reason), Some(5_000));
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
            assert_eq!(field(&response, header::RETRY_AFTER), None);
            assert_eq!(field(&response, SHOULD_RETRY), Some("false"));
        }
    }

    #[tokio::test]
    async fn the_body_says_quota_reason_and_the_providers_word() {
        let response = refusal(Reason::Limiter(RefusalReason::WaitExceeded), Some(2_000));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["error"]["message"],
            "Quotakeeper did not send this call of quota gtm/openai: its turn did not come in time; \
             the provider said: status 429. Try again in 2 seconds."
        );
        assert_eq!(body["error"]["code"], "WaitExceeded");
    }
}
