//! Bodies are kept as far as there is room, and sent as they came.
#![allow(clippy::unwrap_used)]
use http_body_util::channel::Channel;

use super::*;

async fn read(kept: &mut ReplayBody, sent: &Arc<AtomicU64>) -> Option<Bytes> {
    Some(kept.attempt(sent)?.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_small_body_can_be_sent_again_and_a_large_one_once() {
    let (buffer, sent) = (ReplayBuffer::new(5, 100), Arc::new(AtomicU64::new(0)));
    let mut small = buffer.buffer(Full::new(Bytes::from_static(b"12345"))).await.unwrap();
    assert!(small.is_whole());
    for _ in 0..2 {
        assert_eq!(read(&mut small, &sent).await.unwrap(), "12345");
    }
    assert_eq!(sent.load(Ordering::Relaxed), 10);
    let mut large = buffer.buffer(Full::new(Bytes::from_static(b"123456"))).await.unwrap();
    assert!(!large.is_whole());
    assert_eq!(read(&mut large, &sent).await.unwrap(), "123456");
    assert_eq!(sent.load(Ordering::Relaxed), 16);
    assert_eq!(read(&mut large, &sent).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_is_a_stream_with_its_beginning_at_hand() {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data(Bytes::from_static(b"{\"model\":\"m\"")).await.unwrap();
    let mut kept = ReplayBuffer::new(1000, 1000).buffer(body).await.unwrap();
    assert!(!kept.is_whole());
    assert_eq!(kept.start(), b"{\"model\":\"m\"");
    sender.send_data(Bytes::from_static(b"}")).await.unwrap();
    drop(sender);
    let sent = Arc::new(AtomicU64::new(0));
    assert_eq!(read(&mut kept, &sent).await.unwrap(), "{\"model\":\"m\"}");
}

#[tokio::test]
async fn trailers_are_kept_with_the_body() {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data(Bytes::from_static(b"x")).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    sender.send_trailers(trailers.clone()).await.unwrap();
    let mut kept = ReplayBuffer::new(1000, 1000).buffer(body).await.unwrap();
    assert!(kept.is_whole());
    let sent = Arc::new(AtomicU64::new(0));
    let collected = kept.attempt(&sent).unwrap().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
}

#[tokio::test]
async fn the_beginning_of_a_body_that_is_too_large_is_read_all_the_same() {
    let body = Full::new(Bytes::from(vec![b'x'; 64 * 1024]));
    let kept = ReplayBuffer::new(32 * 1024, 1024 * 1024).buffer(body).await.unwrap();
    assert!(!kept.is_whole());
    assert!(kept.start().len() >= BEGINNING, "the model stands there");
}

#[tokio::test]
async fn past_the_bound_of_all_bodies_only_beginnings_are_kept() {
    let buffer = ReplayBuffer::new(100_000, 150_000);
    let body = || Full::new(Bytes::from(vec![b'x'; 90_000]));
    let first = buffer.buffer(body()).await.unwrap();
    let second = buffer.buffer(body()).await.unwrap();
    assert!(first.is_whole() && !second.is_whole());
    drop(first);
    drop(second);
    assert!(buffer.buffer(body()).await.unwrap().is_whole());
    assert_eq!(buffer.room.taken.load(Ordering::Relaxed), 0);
}

/// A body that says how long it is, whose parts come when its sender sends them.
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

/// Fifty bodies of 90,000 bytes, all of which are under way before one is whole; there is room for three.
async fn many_at_once(announced: bool) {
    const ROOM: usize = 300_000;
    let buffer = Arc::new(ReplayBuffer::new(100_000, ROOM));
    let (mut senders, mut taking) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let (sender, body) = Channel::<Bytes, BoxError>::new(16);
        senders.push(sender);
        let buffer = Arc::clone(&buffer);
        taking.push(tokio::spawn(async move {
            match announced {
                true => buffer.buffer(Announced(body, 90_000)).await,
                false => buffer.buffer(body).await,
            }
        }));
    }
    for _ in 0..9 {
        for sender in &mut senders {
            // Nobody reads on where only a beginning is kept.
            let _ = sender.send_data(Bytes::from(vec![b'x'; 10_000])).await;
        }
        tokio::task::yield_now().await;
    }
    drop(senders);
    let mut kept = Vec::new();
    for taken in taking {
        kept.push(taken.await.unwrap().unwrap());
    }
    let whole = kept.iter().filter(|kept| kept.is_whole()).count();
    assert!(whole <= 3, "{whole} bodies of 90,000 bytes are kept in {ROOM}");
    assert!(!announced || whole == 3, "{whole} are kept where three have room");
    assert!(kept.iter().all(|kept| kept.start().len() >= BEGINNING), "the model stands there");
    let bytes: usize = kept.iter().map(|kept| kept.start().len()).sum();
    assert!(bytes <= ROOM + kept.len() * (BEGINNING + 10_000), "{bytes} are held");
    assert_eq!(buffer.room.taken.load(Ordering::Relaxed), bytes);
    drop(kept);
    assert_eq!(buffer.room.taken.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn many_bodies_that_arrive_together_share_the_room() {
    many_at_once(true).await;
}

#[tokio::test(start_paused = true)]
async fn many_bodies_of_unknown_length_share_the_room() {
    many_at_once(false).await;
}

#[tokio::test(start_paused = true)]
async fn what_broke_off_or_was_given_up_leaves_its_room_to_others() {
    let buffer = ReplayBuffer::new(1000, 1000);
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    sender.send_data(Bytes::from_static(b"x")).await.unwrap();
    sender.abort("hung up".into());
    assert!(buffer.buffer(Announced(body, 900)).await.is_err());
    assert_eq!(buffer.room.taken.load(Ordering::Relaxed), 0);

    let (_sender, body) = Channel::<Bytes, BoxError>::new(4);
    let given_up = timeout(Duration::from_secs(1), buffer.buffer(Announced(body, 900))).await;
    assert!(given_up.is_err());
    assert_eq!(buffer.room.taken.load(Ordering::Relaxed), 0);
}
