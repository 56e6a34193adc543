//! A probe that comes while the proxy starts is answered, not refused the connection.

use std::process::Command;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use test_support::ports::free_port;
use tokio::net::TcpStream;

use crate::world;

/// A start that lasts: a file of CAs that nobody writes yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_in_the_first_moment_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("own.pem");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());
    let admin = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut settings = world::settings(vec![world::account("hubspot", None, world::plenty())]);
    settings.admin = Some(admin);
    settings.own_ca_files = vec![slow.clone()];
    let starting = tokio::spawn(world::start(settings));

    let deadline = Instant::now() + Duration::from_secs(30);
    let probe = loop {
        match TcpStream::connect(admin).await {
            Ok(probe) => break probe,
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => {
                // The start goes on, so that the test can end.
                std::fs::write(slow, "").unwrap();
                panic!("nothing listens while the proxy starts: {error}");
            }
        }
        assert!(!starting.is_finished());
    };
    assert!(!starting.is_finished(), "it waits for the file still");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(probe)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/healthz").header("host", "x").body(String::new()).unwrap();
    let answer = tokio::spawn(async move { sender.send_request(request).await.unwrap().status() });

    tokio::task::spawn_blocking(move || std::fs::write(slow, "").unwrap()).await.unwrap();
    let _running = starting.await.unwrap();
    assert_eq!(answer.await.unwrap(), 200);
}
