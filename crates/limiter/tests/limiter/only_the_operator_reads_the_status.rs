//! The operator, and nobody else, reads a line when something has changed, and one in five seconds.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quotakeeper_transport::tls::client_config;
use quotakeeper_wire::status::{PATH, Report};
use rustls_pki_types::ServerName;
use test_support::wait::until;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cluster::{Key, claims, claims_of};
use crate::proxy::{NAME, Proxy};
use crate::world::{OPERATOR, World, at_once, quota};

async fn get(world: &World, token: Option<&str>) -> http::Response<Incoming> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let tls = TlsConnector::from(client_config(&world.ca.pem()).unwrap());
    let stream = tls.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let mut request = Request::get(format!("https://{NAME}{PATH}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

/// The lines of a stream.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Option<Report> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.rest.extend_from_slice(&data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), Vec::new()).await;
    assert_eq!(get(&world, None).await.status(), StatusCode::UNAUTHORIZED);
    // A pod's token opens sessions; that is all.
    let pods = world.pod("gtm", "pod-1");
    assert_eq!(get(&world, Some(&pods)).await.status(), StatusCode::FORBIDDEN);
    let elsewhere = world.cluster.token_of("gtm", "pod-2", "quotakeeper-operator");
    assert_eq!(get(&world, Some(&elsewhere)).await.status(), StatusCode::FORBIDDEN);
    // Nor is a token that the API server does not confirm any more.
    let gone = world.cluster.key.sign(&claims_of("quotakeeper", "operator-0", "quotakeeper-operator"));
    assert_eq!(get(&world, Some(&gone)).await.status(), StatusCode::FORBIDDEN);
    // One outside of the cluster has a token that is bound to no pod.
    let mut outside = claims_of("quotakeeper", "-", "quotakeeper-operator");
    outside["kubernetes.io"].as_object_mut().unwrap().remove("pod");
    let outside = world.cluster.key.sign(&outside);
    world.cluster.vouch(&outside, OPERATOR, None);
    assert_eq!(get(&world, Some(&outside)).await.status(), StatusCode::OK);
    let operators = operators(&world);
    // Somebody makes up keys, more than are reviewed.
    for made_up in 0..250 {
        let token = Key::ecdsa(&format!("made-up-{made_up}")).sign(&claims("gtm", "pod-1"));
        assert_ne!(get(&world, Some(&token)).await.status(), StatusCode::OK);
    }
    assert_eq!(get(&world, Some(&operators)).await.status(), StatusCode::OK);
}

fn operators(world: &World) -> String {
    let (namespace, account) = OPERATOR.trim_start_matches("system:serviceaccount:").split_once(':').unwrap();
    world.cluster.token_of(namespace, "operator-1", account)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_reports_use_and_waiting_calls() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), vec![quota("gtm/openai", 5)]).await;
    let response = get(&world, Some(&operators(&world))).await;
    let mut lines = Lines { body: response.into_body(), rest: Vec::new() };
    let first = lines.next().await.unwrap();
    assert_eq!((first.accounts.len(), first.proxies.connected, first.gate_open), (1, 0, false));
    let active = first.active.unwrap();
    assert_eq!((active.name.as_str(), active.began.as_str()), ("limiter-0", "First"));

    // Nobody does anything: a line comes nevertheless, so that silence means that the limiter is gone.
    let second = lines.next().await.unwrap();
    assert_eq!(
        (second.epoch, second.proxies, second.accounts[0].totals.granted),
        (first.epoch, first.proxies, 0)
    );

    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (1, &token), "gtm/Job/enrich", &["gtm/openai"]);
    proxy.ask(0, 12);
    until("the quota is used up", || proxy.granted(0) == at_once(5)).await;
    let account = loop {
        let report = lines.next().await.unwrap();
        let account = report.accounts.into_iter().next().unwrap();
        if account.totals.granted == at_once(5) && !account.status.waiting.is_empty() {
            break account;
        }
    };
    assert_eq!((account.quota.as_str(), account.key.as_str()), ("gtm/openai", "demo/gtm/openai"));
    assert_eq!(
        (account.status.waiting[0].consumer.as_str(), account.status.waiting[0].calls),
        ("gtm/Job/pod-1", 12 - at_once(5))
    );
    assert_eq!(account.status.limits[0].amount, 5);
    assert_eq!((account.proxies.connected, account.generation), (1, Some(1)));

    // A limiter that ends, ends the stream.
    world.stop().await;
    while lines.next().await.is_some() {}
}
