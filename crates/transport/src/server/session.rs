//! One session on the server's side: whose it is, what its proxy says, why it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use http::header::AUTHORIZATION;
use quotakeeper_wire::limiter::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::server::StreamingService;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::claims::Vouched;
use super::{Answer, GRACE, Server, State};
use crate::authenticate::{Authenticate, Unauthenticated};
use crate::limiter::{Accept, Accepted, Speak, Stopped};

/// How long a token's check may take.
const CHECK: Duration = Duration::from_secs(10);

/// A connection's one session, about to begin.
pub(super) struct Sessions<A, L, O> {
    pub(super) server: Arc<Server<A, L, O>>,
    pub(super) state: Arc<State>,
}

impl<A: Authenticate, L: Accept, O: Answer> StreamingService<Option<ToLimiter>> for Sessions<A, L, O> {
    type Response = ToProxy;
    type ResponseStream = Says;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Says>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Option<ToLimiter>>>) -> Self::Future {
        Box::pin(begin(Arc::clone(&self.server), Arc::clone(&self.state), request))
    }
}

async fn begin<A: Authenticate, L: Accept, O: Answer>(
    server: Arc<Server<A, L, O>>,
    state: Arc<State>,
    request: Request<Streaming<Option<ToLimiter>>>,
) -> Result<Response<Says>, Status> {
    let pod = authenticate(&server.authenticate, request.metadata()).await.map_err(|error| {
        info!(%error, "a session is refused");
        match error {
            Unauthenticated::Missing | Unauthenticated::Refused(_) => {
                Status::unauthenticated(error.to_string())
            }
            Unauthenticated::Unavailable(_) => Status::unavailable(error.to_string()),
        }
    })?;
    let accepted = server.limiter.accept(pod.clone()).await.map_err(stopped)?;
    let Accepted { speak, says, ended } = accepted;
    let speak = Vouched::new(speak, pod.clone(), Arc::clone(&server.claims));
    let (verdict, pronounced) = oneshot::channel();
    state.busy.store(true, Ordering::Relaxed);
    let stop = server.stop.clone();
    tokio::spawn(async move {
        let mut heard = request.into_inner();
        let why = listen(&mut heard, speak, ended, &stop, &state.cut).await;
        debug!(namespace = pod.namespace, pod = pod.pod, ?why, "a session ended");
        // Nobody hears it when the connection is lost.
        let _ = why.map(|why| verdict.send(why));
        tokio::select! {
            () = state.cut.cancelled() => {}
            () = sleep(GRACE) => state.cut.cancel(),
        }
    });
    Ok(Response::new(Says { says, verdict: Some(pronounced) }))
}

async fn authenticate(
    authenticate: &impl Authenticate,
    metadata: &MetadataMap,
) -> Result<PodIdentity, Unauthenticated> {
    let header = metadata.get(AUTHORIZATION.as_str()).and_then(|value| value.to_str().ok());
    // The scheme is without case (RFC 9110, section 11.1).
    let token = header.and_then(|header| match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        _ => None,
    });
    let token = token.filter(|token| !token.is_empty()).ok_or(Unauthenticated::Missing)?;
    let late = |_| Unauthenticated::Unavailable(format!("no answer within {CHECK:?}"));
    timeout(CHECK, authenticate.authenticate(token)).await.map_err(late)?
}

/// Carries what a proxy says until one end is done. `None`: the proxy has gone.
async fn listen<S: Speak>(
    heard: &mut Streaming<Option<ToLimiter>>,
    mut speak: S,
    mut ended: oneshot::Receiver<SessionEnd>,
    stop: &CancellationToken,
    cut: &CancellationToken,
) -> Option<Status> {
    let why = loop {
        tokio::select! {
            biased;
            end = &mut ended => break Some(end.map_or_else(|_| stopped(Stopped), status)),
            () = stop.cancelled() => break Some(stopped(Stopped)),
            () = cut.cancelled() => break None,
            message = heard.message() => match message {
                Ok(Some(Some(message))) => if let Err(gone) = speak.say(message).await {
                    break Some(stopped(gone));
                },
                Ok(Some(None)) => {}
                Ok(None) => break None,
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                    warn!(why = status.message(), "a proxy says what can't be read; its session ends");
                    break Some(status);
                }
                Err(status) => {
                    debug!(%status, "a connection is lost");
                    break None;
                }
            },
        }
    };
    speak.close().await;
    why
}

fn status(end: SessionEnd) -> Status {
    let sentence = end.to_string();
    match end {
        SessionEnd::Violation(_) => Status::invalid_argument(sentence),
        SessionEnd::TooSlow => Status::resource_exhausted(sentence),
        SessionEnd::Replaced | SessionEnd::Changed(_) => Status::aborted(sentence),
        SessionEnd::NotAdmitted(_) => Status::permission_denied(sentence),
        SessionEnd::Stopped => stopped(Stopped),
    }
}

fn stopped(gone: Stopped) -> Status {
    Status::unavailable(gone.to_string())
}

/// What the limiter says, until the session's verdict, which overtakes what is still unsaid.
pub(super) struct Says {
    says: mpsc::Receiver<ToProxy>,
    verdict: Option<oneshot::Receiver<Status>>,
}

impl Stream for Says {
    type Item = Result<ToProxy, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(verdict) = &mut self.verdict else { return Poll::Ready(None) };
        if let Poll::Ready(pronounced) = Pin::new(verdict).poll(cx) {
            self.verdict = None;
            return Poll::Ready(pronounced.ok().map(Err));
        }
        match ready!(self.says.poll_recv(cx)) {
            Some(message) => Poll::Ready(Some(Ok(message))),
            // The verdict is on its way.
            None => Poll::Pending,
        }
    }
}
