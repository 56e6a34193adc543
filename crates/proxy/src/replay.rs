//! A request's body, buffered while the call waits, so that it can be read to its end and sent again after a rejection.
//!
//! | room | holds |
//! |---|---|
//! | `room` | the bounds of all bodies together |
//! | `store` | a body while it arrives |
//! | `stored` | a body that has arrived |

mod room;
mod store;
mod stored;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::upstream::{BoxError, RequestBody};
use room::{Reservation, Room};
use store::Store;
use stored::Continued;
pub(crate) use stored::Stored;

/// A body of unknown length that pauses this long is a stream: its client may wait for an answer before it
/// goes on (gRPC's bidirectional calls do).
pub(crate) const STREAM_PAUSE: Duration = Duration::from_millis(250);

/// How much of a body is read for the model's name when no more can be buffered, in bytes.
const BEGINNING: u64 = 16 * 1024;

/// The bounds of the buffered bodies.
#[derive(Clone, Debug)]
pub struct BodyBounds {
    /// The largest body that is buffered so that the call can be sent again, in bytes. A larger one streams through.
    pub each: u64,
    /// All that are in memory, in bytes.
    pub memory: u64,
    /// All that are in files, in bytes. When this is used up too, no more bodies are read until one is sent.
    pub disk: u64,
    /// The folder of the files, which have no names there; none: no body leaves memory.
    pub folder: Option<PathBuf>,
}

impl Default for BodyBounds {
    /// 256 MiB in memory, none in files.
    fn default() -> Self {
        Self { each: 256 * 1024 * 1024, memory: 256 * 1024 * 1024, disk: 0, folder: None }
    }
}

/// The buffer of request bodies.
pub(crate) struct ReplayBuffer {
    each: u64,
    room: Room,
    folder: Option<PathBuf>,
}

/// A body that came from the client.
pub(crate) struct ReplayBody {
    form: Form,
    _reservation: Option<Reservation>,
}

enum Form {
    /// All of it; can be sent any number of times.
    Whole { data: Stored, trailers: Option<HeaderMap> },
    /// Only its beginning; the rest streams, so there is one attempt. Empty once that was made.
    Streaming { start: Stored, rest: Option<RequestBody> },
}

/// What came of reading a body.
enum Read {
    Whole(Option<HeaderMap>),
    /// It is too long, or pauses; with the part that has no room any more.
    Stopped(Option<Bytes>),
}

impl ReplayBuffer {
    /// Buffers bodies within these bounds. Beginnings are read even where there is no room left, since a call that
    /// is not understood would be counted wrongly: 16 KiB and a frame each.
    pub(crate) fn new(bounds: &BodyBounds) -> Self {
        let disk = bounds.folder.as_ref().map_or(0, |_| bounds.disk);
        Self { each: bounds.each, room: Room::new(bounds.memory, disk), folder: bounds.folder.clone() }
    }

    /// Reads a body as far as it may be buffered; waits for room before. Where its length is not known, a pause of
    /// `stream_pause` makes it a stream.
    ///
    /// # Errors
    /// When the client's connection fails.
    pub(crate) async fn buffer<B>(&self, body: B, stream_pause: Duration) -> Result<ReplayBody, BoxError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = body.map_err(Into::into);
        let known = body.size_hint().exact();
        let reservation = match known {
            None | Some(0) => None,
            Some(length) if length > self.each => None,
            Some(length) => self.room.reserve(length).await,
        };
        let fits = known.is_none_or(|length| length == 0 || reservation.is_some());
        let mut store = match fits {
            true => Store::new(self.room.clone(), self.folder.clone(), self.each, reservation),
            false => Store::beginning(self.room.clone(), BEGINNING.min(self.each)),
        };
        let pause = known.is_none().then_some(stream_pause);
        let read = read(&mut body, &mut store, pause).await?;
        let (mut data, reservation) = store.finish().await;
        let form = match read {
            Read::Whole(trailers) => Form::Whole { data, trailers },
            Read::Stopped(part) => {
                data.parts.extend(part);
                Form::Streaming { start: data, rest: Some(body.boxed_unsync()) }
            }
        };
        Ok(ReplayBody { form, _reservation: reservation })
    }
}

async fn read<B>(body: &mut B, store: &mut Store, pause: Option<Duration>) -> Result<Read, BoxError>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    loop {
        let next = match pause {
            None => body.frame().await,
            Some(pause) => match timeout(pause, body.frame()).await {
                Ok(next) => next,
                Err(_) => return Ok(Read::Stopped(None)),
            },
        };
        let Some(frame) = next.transpose()? else {
            return Ok(Read::Whole(None));
        };
        match frame.into_data() {
            Ok(part) => {
                if store.push(&part).await.is_err() {
                    return Ok(Read::Stopped(Some(part)));
                }
            }
            Err(frame) => return Ok(Read::Whole(Frame::into_trailers(frame).ok())),
        }
    }
}

impl ReplayBody {
    /// As much of the body as is here.
    pub(crate) fn start(&self) -> &Stored {
        match &self.form {
            Form::Whole { data, .. } | Form::Streaming { start: data, .. } => data,
        }
    }

    /// Whether the body can be sent once more.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.form, Form::Whole { .. })
    }

    /// Adds a member, with the comma after it, to the JSON object that the body is, which has some already. Returns the
    /// body's length then; `None`: it is no object in memory.
    pub(crate) fn insert_member(&mut self, member: &str) -> Option<u64> {
        let Form::Whole { data, trailers: None } = &mut self.form else {
            return None;
        };
        data.insert_behind(b'{', member).then(|| data.len())
    }

    /// The body for one attempt, whose bytes are counted in `sent`; none where a stream was used up.
    pub(crate) fn attempt(&mut self, sent: &Arc<AtomicU64>) -> Option<RequestBody> {
        Some(match &mut self.form {
            Form::Whole { data, trailers } => data.body(trailers.clone(), sent).boxed_unsync(),
            Form::Streaming { start, rest } => {
                let rest = rest.take()?;
                let start = std::mem::take(start).body(None, sent);
                Continued { start, rest }.boxed_unsync()
            }
        })
    }
}

#[cfg(test)]
mod tests;
