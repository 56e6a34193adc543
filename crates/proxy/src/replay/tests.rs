//! Bodies are buffered as far as there is room, and sent as they came.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http_body::SizeHint;
use http_body_util::Full;
use http_body_util::channel::Channel;

use super::*;

const KIB: u64 = 1024;

fn bounds(each: u64, memory: u64) -> BodyBounds {
    BodyBounds { each, memory, disk: 0, folder: None }
}

fn in_memory(each: u64, memory: u64) -> ReplayBuffer {
    ReplayBuffer::new(&bounds(each, memory))
}

fn with_files(memory: u64, disk: u64) -> ReplayBuffer {
    let folder = Some(std::env::temp_dir());
    ReplayBuffer::new(&BodyBounds { each: 1 << 30, memory, disk, folder })
}

async fn buffer<B>(buffer: &ReplayBuffer, body: B) -> ReplayBody
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    buffer.buffer(body, STREAM_PAUSE).await.unwrap()
}

async fn sent_once(body: &mut ReplayBody, sent: &Arc<AtomicU64>) -> Option<Bytes> {
    Some(body.attempt(sent)?.collect().await.unwrap().to_bytes())
}

fn start(body: &ReplayBody) -> Vec<u8> {
    let mut read = Vec::new();
    body.start().reader().read_to_end(&mut read).unwrap();
    read
}

/// Bytes of which no two parts are alike.
fn bytes(length: u64) -> Bytes {
    (0..length / 8 + 1).flat_map(u64::to_le_bytes).take(length as usize).collect()
}

#[tokio::test]
async fn a_small_body_can_be_sent_again_and_a_large_one_once() {
    let (room, sent) = (in_memory(5, 8 * KIB), Arc::new(AtomicU64::new(0)));
    let mut small = buffer(&room, Full::new(Bytes::from_static(b"12345"))).await;
    assert!(small.is_whole());
    for _ in 0..2 {
        assert_eq!(sent_once(&mut small, &sent).await.unwrap(), "12345");
    }
    assert_eq!(sent.load(Ordering::Relaxed), 10);
    let mut large = buffer(&room, Full::new(Bytes::from_static(b"123456"))).await;
    assert!(!large.is_whole());
    assert_eq!(sent_once(&mut large, &sent).await.unwrap(), "123456");
    assert_eq!(sent.load(Ordering::Relaxed), 16);
    assert_eq!(sent_once(&mut large, &sent).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_is_a_stream_with_its_beginning_at_hand() {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data(Bytes::from_static(b"{\"model\":\"m\"")).await.unwrap();
    let mut body = buffer(&in_memory(64 * KIB, 64 * KIB), body).await;
    assert!(!body.is_whole());
    assert_eq!(start(&body), b"{\"model\":\"m\"");
    sender.send_data(Bytes::from_static(b"}")).await.unwrap();
    drop(sender);
    let sent = Arc::new(AtomicU64::new(0));
    assert_eq!(sent_once(&mut body, &sent).await.unwrap(), "{\"model\":\"m\"}");
    assert_eq!(sent.load(Ordering::Relaxed), 13);
}

#[tokio::test]
async fn trailers_are_stored_with_the_body() {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data(Bytes::from_static(b"x")).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    sender.send_trailers(trailers.clone()).await.unwrap();
    let mut body = buffer(&in_memory(64 * KIB, 64 * KIB), body).await;
    assert!(body.is_whole());
    let sent = Arc::new(AtomicU64::new(0));
    let collected = body.attempt(&sent).unwrap().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
}

#[tokio::test]
async fn the_beginning_of_a_body_that_is_too_large_is_read_without_room() {
    let room = in_memory(32 * KIB, 0);
    let body = buffer(&room, Full::new(bytes(64 * KIB))).await;
    assert!(!body.is_whole());
    assert!(body.start().len() >= BEGINNING, "the model may stand there");
}

#[tokio::test]
async fn bodies_beyond_memory_go_to_files_and_come_back_unchanged() {
    let room = with_files(64 * KIB, 128 << 20);
    let sent = Arc::new(AtomicU64::new(0));
    for length in [300 * KIB + 1, 256 * KIB, 5 << 20] {
        let all = bytes(length);
        let (mut sender, unknown) = Channel::<Bytes, BoxError>::new(4);
        let known = buffer(&room, Full::new(all.clone())).await;
        let pieces = all.clone();
        let feeding = tokio::spawn(async move {
            for piece in pieces.chunks(100_000) {
                sender.send_data(Bytes::copy_from_slice(piece)).await.unwrap();
            }
        });
        let unknown = buffer(&room, unknown).await;
        feeding.await.unwrap();
        for mut body in [known, unknown] {
            assert!(body.is_whole() && !body.start().in_memory(), "{length}");
            assert!(start(&body) == all, "{length} bytes are read otherwise");
            for _ in 0..2 {
                assert!(
                    sent_once(&mut body, &sent).await.unwrap() == all,
                    "{length} bytes are sent otherwise"
                );
            }
        }
    }
    assert_eq!(
        (room.room.free_memory(), room.room.free_disk()),
        (64 * KIB, 128 << 20),
        "room was not given back"
    );
}

#[tokio::test]
async fn a_body_without_a_file_streams() {
    let folder = Some("/nonexistent/quotakeeper".into());
    let room = ReplayBuffer::new(&BodyBounds { each: 1 << 30, memory: 64 * KIB, disk: 1 << 20, folder });
    let mut body = buffer(&room, Full::new(bytes(100 * KIB))).await;
    assert!(!body.is_whole());
    let sent = Arc::new(AtomicU64::new(0));
    assert!(sent_once(&mut body, &sent).await.unwrap() == bytes(100 * KIB));
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_until_one_before_it_has_left() {
    let room = Arc::new(in_memory(100 * KIB, 160 * KIB));
    let first = buffer(&room, Full::new(bytes(90 * KIB))).await;
    let second = tokio::spawn({
        let room = Arc::clone(&room);
        async move { buffer(&room, Full::new(bytes(90 * KIB))).await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(first.is_whole() && !second.is_finished(), "it was read although there is no room");
    // A small one does not wait behind it.
    assert!(buffer(&room, Full::new(bytes(20 * KIB))).await.is_whole());
    drop(first);
    assert!(second.await.unwrap().is_whole());
    assert_eq!(room.room.free_memory(), 160 * KIB);
}

/// A body that announces its length, whose parts come when its sender sends them.
struct Announced(Channel<Bytes, BoxError>, u64);

impl Body for Announced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

/// Fifty bodies of 90,000 bytes that arrive side by side, where few have room at a time: all are read in turn, and
/// none waits for ever.
async fn many_at_once(room: ReplayBuffer, announced: bool) -> usize {
    let free = (room.room.free_memory(), room.room.free_disk());
    let room = Arc::new(room);
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        tokio::spawn(async move {
            for _ in 0..9 {
                // Nobody reads on where only a beginning is stored.
                let _ = sender.send_data(Bytes::from(vec![b'x'; 10_000])).await;
                tokio::task::yield_now().await;
            }
        });
        let room = Arc::clone(&room);
        reading.spawn(async move {
            let body = match announced {
                true => buffer(&room, Announced(body, 90_000)).await,
                false => buffer(&room, body).await,
            };
            tokio::task::yield_now().await;
            body.is_whole()
        });
    }
    let whole = reading.join_all().await.into_iter().filter(|whole| *whole).count();
    assert_eq!((room.room.free_memory(), room.room.free_disk()), free, "room was not given back");
    whole
}

#[tokio::test(start_paused = true)]
async fn many_bodies_that_arrive_together_share_the_memory() {
    assert_eq!(many_at_once(in_memory(100_000, 400_000), true).await, 50);
}

#[tokio::test]
async fn many_bodies_of_unknown_length_share_memory_and_disk() {
    assert_eq!(many_at_once(with_files(300_000, 128 << 20), false).await, 50);
}

#[tokio::test(start_paused = true)]
async fn bodies_of_unknown_length_stream_rather_than_wait_for_each_other() {
    // Those that found no room have their beginnings at hand: it ends.
    many_at_once(in_memory(100_000, 300_000), false).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_broke_off_leaves_its_room_to_others() {
    let room = in_memory(64 * KIB, 64 * KIB);
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data(Bytes::from_static(b"x")).await.unwrap();
    sender.abort("hung up".into());
    assert!(room.buffer(Announced(body, 900), STREAM_PAUSE).await.is_err());
    assert_eq!(room.room.free_memory(), 64 * KIB);

    let (_sender, body) = Channel::<Bytes, BoxError>::new(4);
    let reading = room.buffer(Announced(body, 900), STREAM_PAUSE);
    assert!(timeout(Duration::from_secs(1), reading).await.is_err());
    assert_eq!(room.room.free_memory(), 64 * KIB);
}

#[tokio::test]
async fn files_have_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let bounds =
        BodyBounds { each: 1 << 30, memory: 0, disk: 1 << 20, folder: Some(folder.path().to_owned()) };
    let body = buffer(&ReplayBuffer::new(&bounds), Full::new(bytes(500 * KIB))).await;
    assert!(!body.start().in_memory());
    let names: BTreeSet<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, BTreeSet::new());
}
