//! The stream of reports for the operator, on the port of the sessions: one JSON document per line.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use quotakeeper_transport::{ACTIVE_LIMITER, Answer, Body, NotAccepted, Stopped, Unauthenticated};
use quotakeeper_wire::status::{ActiveLimiter, EVERY_SECONDS, PATH, Report};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::auth::Authenticator;
use crate::auth::cluster_api::ClusterApi;
use crate::door::Door;
use crate::handover::Handovers;
use crate::task::Limiter;

/// The shortest time between two lines: all changes in between are one line.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Who may read the status of accounts.
pub trait Readers: Send + Sync + 'static {
    /// Checks that the bearer of a token may read it.
    ///
    /// # Errors
    /// [`Unauthenticated`].
    fn may_read(&self, token: &str) -> impl Future<Output = Result<(), Unauthenticated>> + Send;
}

/// The operator.
pub struct Operators<A> {
    /// Checks their tokens.
    pub authenticator: Authenticator<A>,
    /// Their user names, such as `system:serviceaccount:NAMESPACE:quotakeeper-operator`.
    pub users: Vec<String>,
}

impl<A: ClusterApi> Readers for Operators<A> {
    async fn may_read(&self, token: &str) -> Result<(), Unauthenticated> {
        self.authenticator.is_one_of(token, &self.users).await
    }
}

/// Answers `GET /status/v1`.
pub struct StatusStream<R> {
    /// Who may read it.
    pub readers: R,
    /// The limiter whose accounts are reported, while it is active.
    pub door: Door,
    /// The name of its pod.
    pub name: String,
    /// Ends the streams.
    pub stop: CancellationToken,
}

impl<R: Readers> Answer for StatusStream<R> {
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        if request.uri().path() != PATH {
            return None;
        }
        if request.method() != Method::GET {
            return Some(refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed"));
        }
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|header| match header.split_once(' ') {
            // The scheme is without case (RFC 9110, section 11.1).
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
            _ => None,
        });
        let allowed = match token {
            Some(token) => self.readers.may_read(token).await,
            None => Err(Unauthenticated::Missing),
        };
        if let Err(error) = allowed {
            info!(%error, "a request for the status is refused");
            let status = match error {
                Unauthenticated::Missing => StatusCode::UNAUTHORIZED,
                Unauthenticated::Refused(_) => StatusCode::FORBIDDEN,
                Unauthenticated::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            return Some(refusal(status, &error.to_string()));
        }
        let limiter = match self.door.active() {
            Ok(limiter) => limiter,
            Err(why) => return Some(standby(why)),
        };
        let active = self.door.began().map(|began| ActiveLimiter {
            name: self.name.clone(),
            since: began.at,
            began: began.change.to_string(),
        });
        let lines = Lines { limiter, active, last: None };
        let stop = self.stop.clone();
        let frames = stream::unfold(lines, move |mut lines| {
            let stop = stop.clone();
            async move {
                let line = tokio::select! {
                    () = stop.cancelled() => return None,
                    line = lines.next() => line.ok()?,
                };
                Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(line))), lines))
            }
        });
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
        Some(response)
    }
}

/// Names the active limiter.
pub(crate) fn standby(why: NotAccepted) -> Response<Body> {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, &why.to_string());
    if let NotAccepted::Standby { active: Some(active) } = why
        && let Ok(active) = HeaderValue::try_from(active.to_string())
    {
        response.headers_mut().insert(ACTIVE_LIMITER, active);
    }
    response
}

/// An answer that is a sentence.
pub(crate) fn refusal(status: StatusCode, sentence: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(format!("{sentence}\n")))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The status stream, and what other limiters ask for.
pub struct Others<R> {
    /// For the operator.
    pub status: StatusStream<R>,
    /// For other limiters.
    pub handovers: Handovers,
}

impl<R: Readers> Answer for Others<R> {
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        match request.uri().path() {
            PATH => self.status.answer(request).await,
            _ => self.handovers.answer(request).await,
        }
    }
}

/// One reader's lines.
struct Lines {
    limiter: Limiter,
    active: Option<ActiveLimiter>,
    last: Option<(Report, Instant)>,
}

impl Lines {
    /// The next line, when there is one.
    async fn next(&mut self) -> Result<String, Stopped> {
        let mut look = self.last.as_ref().map_or_else(Instant::now, |(_, at)| *at + AT_MOST_EVERY);
        loop {
            sleep_until(look).await;
            let report = self.limiter.health().await?.report;
            let report = Report { active: self.active.clone(), ..report };
            let due = self.last.as_ref().is_none_or(|(last, at)| {
                *last != report || at.elapsed() >= Duration::from_secs(EVERY_SECONDS)
            });
            if due {
                // Plain values always have a JSON form.
                let line = serde_json::to_string(&report).unwrap_or_default() + "\n";
                self.last = Some((report, Instant::now()));
                return Ok(line);
            }
            look += AT_MOST_EVERY;
        }
    }
}
