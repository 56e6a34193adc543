//! Connections that never end by themselves, and others that come.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::SocketAddr;

use quotakeeper_listen::{Bounds, ClosedConnections, Listener};
use test_support::crowd::Crowd;
use test_support::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BOUNDS: Bounds = Bounds { connections: 6, pending: 4 };

/// Echoes a byte, trusts the peer from then on, and never ends a connection by itself.
async fn echoing() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(socket, BOUNDS, "a test", ClosedConnections::default());
    tokio::spawn(async move {
        loop {
            let (mut stream, place) = listener.accept().await;
            tokio::spawn(async move {
                let echo = async {
                    while let Ok(byte) = stream.read_u8().await {
                        place.trust();
                        stream.write_u8(byte).await.unwrap();
                    }
                };
                place.hold(echo).await;
            });
        }
    });
    address
}

async fn echoed(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_u8(1).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 1);
    stream
}

#[tokio::test]
async fn a_crowd_makes_room_for_one_that_comes() {
    let address = echoing().await;
    let crowd = Crowd::of(20, address, b"").await;
    until("no more are pending than may be", || crowd.closed() == 20 - BOUNDS.pending).await;
    let one = echoed(address).await;
    until("one gave way", || crowd.closed() == 20 - BOUNDS.pending + 1).await;
    drop(one);
}

#[tokio::test]
async fn one_that_is_trusted_keeps_its_place() {
    let address = echoing().await;
    let mut one = echoed(address).await;
    let crowd = Crowd::of(20, address, b"x").await;
    until("no more are open than may be", || crowd.closed() == 20 - (BOUNDS.connections - 1)).await;
    one.write_u8(2).await.unwrap();
    assert_eq!(one.read_u8().await.unwrap(), 2);
}

#[tokio::test]
async fn a_place_is_free_when_its_connection_ends() {
    let address = echoing().await;
    for _ in 0..20 {
        echoed(address).await;
    }
}
