//! A peer that begins requests and resets them at once loses its connection, and nobody else notices.

use std::sync::Arc;

use h2::{Reason, client};
use http::Request;
use quotakeeper_transport::tls::client_config;
use quotakeeper_wire::codec::METHOD;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::host::{self, Host};
use crate::raw;
use crate::world::{Ca, NAME, Server, Tokens, free, server_tls};

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_a_connection() {
    let ca = Ca::new();
    let host = Host::start(host::account(Vec::new()), 1);
    let server = Server::start(free(), server_tls(&ca, NAME), Tokens::of("pod-1"), host.clone()).await;
    let _proxy = raw::open(server.address, &ca, Some("Bearer pod-1"), METHOD).await.unwrap();

    let stream = TcpStream::connect(server.address).await.unwrap();
    let tls = TlsConnector::from(Arc::clone(&client_config(&ca.pem()).unwrap()));
    let stream = tls.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap();
    let (mut requests, connection) = client::handshake(stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let mut begun = 0;
    while begun < 10_000 {
        let Ok(mut ready) = requests.ready().await else { break };
        let request = Request::get(format!("https://{NAME}/")).body(()).unwrap();
        let Ok((_, mut stream)) = ready.send_request(request, false) else { break };
        stream.send_reset(Reason::CANCEL);
        requests = ready;
        begun += 1;
    }
    assert!((1..10_000).contains(&begun), "{begun} requests were begun");
    assert!(ended.await.unwrap().is_err());
    assert!(raw::open(server.address, &ca, Some("Bearer pod-1"), METHOD).await.is_ok());
    server.stop().await;
}
