//! Tells the programs of the own pod what is used and left of its quotas, and how one more call would fare.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use quotakeeper_engine::event::CallClass;
use quotakeeper_wire::codec::MOST_NAME;
use quotakeeper_wire::headroom::{Headroom, PATH, QuotaHeadroom};

use crate::admission::{AdmissionClient, NoOutlook};
use crate::local_response::{LocalResponse, ResponseBody};
use crate::quota_endpoint::QuotaEndpoint;

/// Which quotas, and for which calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    quota: Option<String>,
    provider: Option<String>,
    class: CallClass,
}

/// Whether a request of the base-URL listener asks for it.
pub(crate) fn is_asked(uri: &Uri) -> bool {
    uri.path() == PATH
}

/// Answers it.
///
/// # Errors
/// The answer that says what to ask instead.
pub(crate) async fn answer(
    endpoints: &[Arc<QuotaEndpoint>],
    admission: &AdmissionClient,
    method: &Method,
    uri: &Uri,
) -> Result<Response<ResponseBody>, LocalResponse> {
    if method != Method::GET && method != Method::HEAD {
        let message = format!("{PATH} answers GET");
        let response = LocalResponse::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        return Err(response.with_header(header::ALLOW, "GET, HEAD"));
    }
    let question = Question::read(uri.query().unwrap_or_default()).map_err(bad_question)?;
    let asked: Vec<_> = endpoints.iter().filter(|endpoint| question.concerns(endpoint)).collect();
    if asked.is_empty() {
        return Err(bad_question(unknown_quota(endpoints)));
    }
    let asked = asked.into_iter().map(|endpoint| headroom(endpoint, admission, &question.class));
    let quotas = try_join_all(asked).await?;
    let body = serde_json::to_vec(&Headroom { quotas }).unwrap_or_default();
    let mut response =
        Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn headroom(
    endpoint: &QuotaEndpoint,
    admission: &AdmissionClient,
    class: &CallClass,
) -> Result<QuotaHeadroom, LocalResponse> {
    let (quota, provider) = ((&*endpoint.quota).into(), endpoint.provider.as_str());
    let absent = endpoint.absence();
    if !absent.is_empty() {
        return Ok(QuotaHeadroom::unavailable(quota, provider, absent.to_string()));
    }
    match admission.look(endpoint.index, class.clone()).await {
        Ok(outlook) => Ok(QuotaHeadroom::of(quota, provider, outlook)),
        Err(NoOutlook::TooOften) => {
            let message = NoOutlook::TooOften.to_string();
            let response = LocalResponse::new(StatusCode::TOO_MANY_REQUESTS, "TooOften", message);
            Err(response.with_header(header::RETRY_AFTER, "1"))
        }
        Err(why) => Ok(QuotaHeadroom::unavailable(quota, provider, why.to_string())),
    }
}

impl Question {
    fn read(query: &str) -> Result<Question, String> {
        let mut question = Question::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "quota" => &mut question.quota,
                "provider" => &mut question.provider,
                "model" => &mut question.class.model,
                "endpoint" => &mut question.class.endpoint,
                _ => return Err(format!("{name:?} is unknown; give quota, provider, model or endpoint")),
            };
            if value.is_empty() || value.len() > MOST_NAME {
                return Err(format!("give {name} 1 to {MOST_NAME} bytes"));
            }
            *field = Some(value.into_owned());
        }
        Ok(question)
    }

    fn concerns(&self, endpoint: &QuotaEndpoint) -> bool {
        let of_quota = self.quota.as_ref().is_none_or(|quota| {
            *quota == *endpoint.quota || endpoint.quota.rsplit('/').next() == Some(quota.as_str())
        });
        of_quota && self.provider.as_ref().is_none_or(|provider| *provider == endpoint.provider)
    }
}

fn unknown_quota(endpoints: &[Arc<QuotaEndpoint>]) -> String {
    let known: Vec<&str> = endpoints.iter().map(|endpoint| &*endpoint.quota).collect();
    format!("no such quota here; this proxy has {}", known.join(", "))
}

fn bad_question(message: String) -> LocalResponse {
    LocalResponse::new(StatusCode::BAD_REQUEST, "BadQuestion", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_question_names_quotas_and_calls() {
        let question = Question::read("quota=gtm%2Fopenai&model=gpt-5+mini").unwrap();
        assert_eq!(question.quota.as_deref(), Some("gtm/openai"));
        assert_eq!(question.class.model.as_deref(), Some("gpt-5 mini"));
        assert_eq!(Question::read("").unwrap(), Question::default());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (query, says) in [
            ("models=x", "\"models\" is unknown; give quota, provider, model or endpoint"),
            ("model", "give model 1 to 512 bytes"),
        ] {
            assert_eq!(Question::read(query).unwrap_err(), says);
        }
        assert!(Question::read(&format!("model={}", "x".repeat(513))).is_err());
    }
}
