//! One session on the server's side: authentication, the proxy's messages, the reason of its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use http::header::AUTHORIZATION;
use quotakeeper_wire::limiter::{PodIdentity, SessionEnd};
use quotakeeper_wire::message::{ToLimiter, ToProxy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::StreamingService;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::claims::VerifiedInbox;
use super::pods::OfPod;
use super::{Answer, FIRST_MESSAGE, GRACE, Server, State};
use crate::authenticate::{Authenticate, Unauthenticated};
use crate::limiter::{ACTIVE_LIMITER, Accept, Accepted, Inbox, NotAccepted, Stopped};

/// Timeout of the check of a token.
const CHECK: Duration = Duration::from_secs(10);

/// A connection's one session, about to begin.
pub(super) struct Sessions<A, L, O> {
    pub(super) server: Arc<Server<A, L, O>>,
    pub(super) state: Arc<State>,
}

impl<A: Authenticate, L: Accept, O: Answer> StreamingService<Option<ToLimiter>> for Sessions<A, L, O> {
    type Response = ToProxy;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Option<ToLimiter>>>) -> Self::Future {
        Box::pin(begin(Arc::clone(&self.server), Arc::clone(&self.state), request))
    }
}

async fn begin<A: Authenticate, L: Accept, O: Answer>(
    server: Arc<Server<A, L, O>>,
    state: Arc<State>,
    request: Request<Streaming<Option<ToLimiter>>>,
) -> Result<Response<Responses>, Status> {
    let pod = authenticate(&server.authenticate, request.metadata()).await.map_err(|error| {
        info!(%error, "a session is refused");
        match error {
            Unauthenticated::Missing | Unauthenticated::Refused(_) => {
                Status::unauthenticated(error.to_string())
            }
            Unauthenticated::Unavailable(_) => Status::unavailable(error.to_string()),
        }
    })?;
    let accepted = server.limiter.accept(pod.clone()).await.map_err(not_accepted)?;
    let Accepted { inbox, outgoing, ended } = accepted;
    let inbox = VerifiedInbox::new(inbox, pod.clone(), Arc::clone(&server.claims));
    let (end, final_status) = oneshot::channel();
    state.begin();
    let stop = server.stop.clone();
    let of_pod = server.pods.begin(&pod.uid, state.cut.clone());
    tokio::spawn(async move {
        let mut incoming = request.into_inner();
        let ends = Ends { ended, stop: &stop, cut: &state.cut };
        let why = receive(&mut incoming, inbox, &of_pod, ends).await;
        drop(of_pod);
        debug!(namespace = pod.namespace, pod = pod.pod, ?why, "a session ended");
        // Fails when the connection is lost: then nobody can read it.
        let _ = why.map(|why| end.send(why));
        tokio::select! {
            () = state.cut.cancelled() => {}
            () = sleep(GRACE) => state.cut.cancel(),
        }
    });
    Ok(Response::new(Responses { outgoing, final_status: Some(final_status) }))
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

/// What ends a session from the limiter's side.
struct Ends<'a> {
    ended: oneshot::Receiver<SessionEnd>,
    stop: &'a CancellationToken,
    cut: &'a CancellationToken,
}

/// Delivers a proxy's messages until one end is done. `None`: the proxy has disconnected.
async fn receive<I: Inbox>(
    incoming: &mut Streaming<Option<ToLimiter>>,
    mut inbox: I,
    of_pod: &OfPod,
    ends: Ends<'_>,
) -> Option<Status> {
    let Ends { mut ended, stop, cut } = ends;
    let mut first = true;
    let why = loop {
        let message = async {
            if !first {
                return (incoming.message().await, None);
            }
            let admitted = of_pod.first_message().await;
            let late =
                || Err(Status::deadline_exceeded(format!("no first message within {FIRST_MESSAGE:?}")));
            (timeout(FIRST_MESSAGE, incoming.message()).await.unwrap_or_else(|_| late()), admitted)
        };
        tokio::select! {
            biased;
            end = &mut ended => break Some(end.map_or_else(|_| stopped(Stopped), status)),
            () = stop.cancelled() => break Some(stopped(Stopped)),
            () = cut.cancelled() => break None,
            (message, _admitted) = message => match message {
                Ok(Some(Some(message))) => {
                    first = false;
                    if let Err(error) = inbox.deliver(message).await {
                        break Some(stopped(error));
                    }
                }
                Ok(Some(None)) => {}
                Ok(None) => break None,
                Err(status) if status.code() == Code::DeadlineExceeded => break Some(status),
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                    warn!(why = status.message(), "a proxy's message can't be decoded; its session ends");
                    break Some(status);
                }
                Err(status) => {
                    debug!(%status, "a connection is lost");
                    break None;
                }
            },
        }
    };
    inbox.close().await;
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

fn not_accepted(why: NotAccepted) -> Status {
    let mut status = Status::unavailable(why.to_string());
    if let NotAccepted::Standby { active } = why {
        // Empty: none is known.
        let active = active.map(|active| active.to_string()).unwrap_or_default();
        // An address is plain ASCII.
        let value = active.parse().unwrap_or_else(|_| MetadataValue::from_static(""));
        status.metadata_mut().insert(ACTIVE_LIMITER, value);
    }
    status
}

fn stopped(error: Stopped) -> Status {
    Status::unavailable(error.to_string())
}

/// Messages to the proxy, until the session's final status, which overtakes messages that are not sent yet.
pub(super) struct Responses {
    outgoing: mpsc::Receiver<ToProxy>,
    final_status: Option<oneshot::Receiver<Status>>,
}

impl Stream for Responses {
    type Item = Result<ToProxy, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(final_status) = &mut self.final_status else { return Poll::Ready(None) };
        if let Poll::Ready(status) = Pin::new(final_status).poll(cx) {
            self.final_status = None;
            return Poll::Ready(status.ok().map(Err));
        }
        match ready!(self.outgoing.poll_recv(cx)) {
            Some(message) => Poll::Ready(Some(Ok(message))),
            // The final status is still to come.
            None => Poll::Pending,
        }
    }
}
