//! The wire's messages as gRPC's: they are written straight into the connection's buffer.

use std::marker::PhantomData;

use bytes::Buf;
use quotakeeper_wire::codec::Coded;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What a session's buffers hold at first, in bytes, …
const BUFFER: usize = 2 * 1024;
/// … and how much is gathered before it is sent, if more messages are due.
const TOGETHER: usize = 16 * 1024;

/// One end's codec: it sends `S` and receives `H`.
pub(crate) struct SessionCodec<S, H>(PhantomData<fn(S) -> H>);

/// Writes messages, or reads them.
pub(crate) struct Half<M>(PhantomData<fn() -> M>);

impl<S, H> Default for SessionCodec<S, H> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<S: Coded + Send + 'static, H: Coded + Send + 'static> Codec for SessionCodec<S, H> {
    type Encode = S;
    /// `None` is to be passed over.
    type Decode = Option<H>;
    type Encoder = Half<S>;
    type Decoder = Half<H>;

    fn encoder(&mut self) -> Half<S> {
        Half(PhantomData)
    }

    fn decoder(&mut self) -> Half<H> {
        Half(PhantomData)
    }
}

impl<M: Coded> Encoder for Half<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buf).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, TOGETHER)
    }
}

impl<M: Coded> Decoder for Half<M> {
    type Item = Option<M>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Option<M>>, Status> {
        let length = buf.remaining();
        // One piece as a rule, and then nothing is copied.
        let decoded = match buf.chunk() {
            whole if whole.len() == length => M::decode(whole),
            _ => return M::decode(&buf.copy_to_bytes(length)).map(Some).map_err(refuse),
        };
        buf.advance(length);
        decoded.map(Some).map_err(refuse)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, TOGETHER)
    }
}

fn refuse(error: quotakeeper_wire::codec::DecodeError) -> Status {
    Status::invalid_argument(error.to_string())
}
