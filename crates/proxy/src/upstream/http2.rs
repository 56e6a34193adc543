//! HTTP/2: requests share a connection; each is a stream.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::body::UpstreamBody;
use super::frames::Frames;
use super::write_permit::WritePermit;
use super::{BoxError, RequestBody, SendError};

/// What the provider may send ahead of a stream's reader, in bytes …
const STREAM_WINDOW: u32 = 256 * 1024;
/// … and of all readers of a connection: slow ones must not starve the others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// The most that is queued of one request's body, in bytes.
const SEND_AHEAD: usize = 256 * 1024;

/// A connection that many requests share.
#[derive(Clone)]
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    frames: Arc<Frames>,
    open: Arc<AtomicUsize>,
}

/// A place for one request on a shared connection.
pub struct Slot {
    shared: Shared,
    place: OpenStream,
}

/// Counts a request among those of its connection while it lives.
struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) async fn start<S>(stream: S, frames: Arc<Frames>) -> Result<Self, BoxError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_AHEAD)
            .enable_push(false)
            .handshake(stream)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        Ok(Self { sender, frames, open: Arc::default() })
    }

    /// The place of the request that the connection was made for.
    pub(super) fn first_slot(&self) -> Slot {
        self.open.fetch_add(1, Ordering::Relaxed);
        Slot { shared: self.clone(), place: OpenStream(Arc::clone(&self.open)) }
    }

    /// A place for one more request, as far as the provider's limit of streams allows: a request beyond it
    /// would be held back after its grant was asked.
    pub(super) fn slot(&self) -> Option<Slot> {
        let most = self.sender.current_max_send_streams();
        let more = |open: usize| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Slot { shared: self.clone(), place: OpenStream(Arc::clone(&self.open)) })
    }

    /// Whether the connection still takes requests.
    pub(super) fn is_open(&self) -> bool {
        let mut sender = self.sender.clone();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        !matches!(sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

impl Slot {
    pub(super) async fn send(
        self,
        request: Request<RequestBody>,
        turn: Arc<dyn WritePermit>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let Self { shared, place } = self;
        let (mut parts, body) = request.into_parts();
        parts.version = Version::HTTP_2;
        parts.headers.remove(header::HOST);
        let request = Request::from_parts(parts, ());
        let unwritten = |error: h2::Error| SendError::Unwritten(error.into());
        let mut sender = shared.sender.ready().await.map_err(unwritten)?;
        if !turn.may_write() {
            return Err(SendError::Expired);
        }
        let (answer, stream) = sender.send_request(request, body.is_end_stream()).map_err(unwritten)?;
        drop(sender);
        let id = stream.stream_id().as_u32();
        shared.frames.watch(id, turn);
        let watch = Watch { frames: Arc::clone(&shared.frames), id };
        let mut pump = None;
        if !body.is_end_stream() {
            pump = Some(AbortOnDropHandle::new(tokio::spawn(send_body(stream, body))));
        }
        match answer.await {
            Ok(response) => Ok(response.map(|body| {
                UpstreamBody::http2(Answer { body, data_ended: false, _pump: pump, _place: place })
            })),
            Err(error) => {
                let unprocessed = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
                let source = error.into();
                Err(match watch.forget() {
                    true => SendError::Written { source, unprocessed },
                    false => SendError::Unwritten(source),
                })
            }
        }
    }
}

/// Forgets a stream's turn when its sender is gone.
struct Watch {
    frames: Arc<Frames>,
    id: u32,
}

impl Watch {
    fn forget(&self) -> bool {
        self.frames.forget(self.id)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Sends a body as fast as the provider's windows open. A body that fails resets the stream, so that the
/// provider does not take the part for the whole.
async fn send_body(mut stream: SendStream<Bytes>, body: RequestBody) {
    let mut body = pin!(body);
    loop {
        let next = poll_fn(|cx| {
            // The provider may have all that it wants (RFC 9113 §8.1).
            if let Poll::Ready(_reset) = stream.poll_reset(cx) {
                return Poll::Ready(None);
            }
            body.as_mut().poll_frame(cx).map(Some)
        });
        let sent = match next.await {
            None => return,
            Some(None) => stream.send_data(Bytes::new(), true),
            Some(Some(Err(_))) => {
                stream.send_reset(Reason::CANCEL);
                return;
            }
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let end = body.is_end_stream();
                    match send_data(&mut stream, data, end).await {
                        Ok(()) if !end => continue,
                        sent => sent,
                    }
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => stream.send_trailers(trailers),
                    Err(_) => continue,
                },
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a request's body could not be sent to the end");
        }
        return;
    }
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> Result<(), h2::Error> {
    if data.is_empty() {
        return stream.send_data(data, end);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(capacity) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Err(Reason::STREAM_CLOSED.into());
        };
        let part = data.split_to(capacity?.min(data.len()));
        stream.send_data(part, end && data.is_empty())?;
    }
    Ok(())
}

/// The body of an answer.
pub(super) struct Answer {
    body: RecvStream,
    data_ended: bool,
    _pump: Option<AbortOnDropHandle<()>>,
    _place: OpenStream,
}

impl Answer {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.data_ended {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The next part is asked for when the client has taken this one.
                    let released = self.body.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(released.map(|()| Frame::data(data)).map_err(Into::into)));
                }
                // The provider needs no more of the request and resets it after a whole answer (RFC 9113 §8.1).
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    self.data_ended = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.body.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error.into())),
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.is_end_stream() {
            true => SizeHint::with_exact(0),
            false => SizeHint::default(),
        }
    }
}
