//! A limiter that enforces nothing: it takes whatever document it finds, and reports what the story
//! tells it to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use test_support::kubectl::get;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

type Changes = Arc<Mutex<BTreeMap<String, Value>>>;

/// It runs until dropped.
pub struct FakeLimiter {
    changes: Changes,
    _runtime: Runtime,
}

impl FakeLimiter {
    /// Serves with the certificate that the operator makes, once it is there.
    pub fn start(address: &str) -> FakeLimiter {
        let secret = crate::until("the limiter's certificate", || {
            let secret = get(&["secret", "quotakeeper-limiter-tls", "-n", "quotakeeper"]);
            secret["data"].as_object().cloned()
        });
        let entry = |name: &str| crate::replica::text(&secret[name]).unwrap();
        let tls = quotakeeper_transport::tls::server_config(&entry("tls.crt"), &entry("tls.key")).unwrap();
        let (runtime, address) = (Runtime::new().unwrap(), address.to_owned());
        let changes = Changes::default();
        let told = Arc::clone(&changes);
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, told) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&told));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, Arc::clone(&told)));
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        FakeLimiter { changes, _runtime: runtime }
    }

    /// What is reported of a quota from now on, beside what its document says.
    pub fn change(&self, quota: &str, change: impl FnOnce(&mut Value)) {
        change(self.changes.lock().unwrap().entry(quota.to_owned()).or_insert_with(|| json!({})));
    }
}

async fn answer(
    request: Request<Incoming>,
    changes: Changes,
) -> Result<Response<StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>>>>, Infallible> {
    let right = request.uri().path() == "/status/v1"
        && request.headers()["authorization"] == "Bearer the operator's token";
    let lines = stream::unfold(changes, |changes| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let known = changes.lock().unwrap().clone();
        let report = tokio::task::spawn_blocking(move || report(&known)).await.unwrap();
        Some((Ok(Frame::data(Bytes::from(format!("{report}\n")))), changes))
    });
    let mut response = Response::new(StreamBody::new(lines));
    *response.status_mut() = if right { StatusCode::OK } else { StatusCode::FORBIDDEN };
    Ok(response)
}

fn report(changes: &BTreeMap<String, Value>) -> Value {
    let accounts = crate::documents().into_iter().map(|(quota, document)| {
        let mut account = json!({
            "key": document["key"], "quota": quota, "tier": document["tier"], "generation": document["generation"],
            "mode": document["engine"]["mode"], "limits": [], "pauses": [], "waiting": [], "underWay": 0,
            "proxies": {"current": 0, "connected": 0}, "granted": 0, "unused": 0, "refused": 0, "rejected": 0, "breaches": 0,
        });
        for (field, value) in changes.get(&quota).and_then(Value::as_object).into_iter().flatten() {
            account[field] = value.clone();
        }
        account
    });
    let accounts: Vec<Value> = accounts.collect();
    json!({"epoch": 1, "gateOpen": false, "proxies": {"current": 0, "connected": 0}, "accounts": accounts})
}
