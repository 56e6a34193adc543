//! A provider that can't be connected to for some seconds delays calls of any method and loses none.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use test_support::ports::free_port;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::{client, limiter, world};

const CALLS: usize = 120;
const DOWN: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn posts_are_sent_once_when_it_is_back() {
    let (provider, _) = world::provider().await;
    world::set_limit(&provider, 100_000, Duration::from_secs(1));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let url = format!("http://{address}");
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let proxied = proxy.base_url_addr();
    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let post = client::request("POST", &format!("/demo/anything/{number}"), "{}");
            tokio::spawn(async move { client::send(proxied, post).await.status })
        })
        .collect();
    world::until("all calls have come", || proxy.stats().calls == CALLS as u64).await;
    tokio::time::sleep(DOWN).await;

    let listener = TcpListener::bind(address).await.unwrap();
    let behind = provider.http().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut provider = TcpStream::connect(behind).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut provider).await;
            });
        }
    });
    let mut answered = 0;
    for call in calls {
        answered += usize::from(call.await.unwrap() == 200);
    }
    assert_eq!(answered, CALLS);
    let log = provider.log("key");
    let paths: HashSet<_> = log.iter().map(|entry| entry.path.clone()).collect();
    assert_eq!((log.len(), paths.len()), (CALLS, CALLS), "each was sent once");
}
