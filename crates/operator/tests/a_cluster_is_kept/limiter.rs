//! A limiter that enforces nothing: it takes whatever document it finds, and reports what the story
//! tells it to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

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
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

type Changes = Arc<Mutex<BTreeMap<String, Value>>>;

/// What it tells.
#[derive(Clone, Default)]
struct Told {
    changes: Changes,
    /// It keeps its connections and tells nothing, as a stopped process does.
    silent: Arc<AtomicBool>,
}

/// It runs until dropped.
pub struct FakeLimiter {
    told: Told,
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
        let shared = Told::default();
        let told = shared.clone();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, told) = (TlsAcceptor::from(Arc::clone(&tls)), told.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, told.clone()));
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        FakeLimiter { told: shared, _runtime: runtime }
    }

    /// What is reported of a quota from now on, beside what its document says.
    pub fn change(&self, quota: &str, change: impl FnOnce(&mut Value)) {
        change(self.told.changes.lock().unwrap().entry(quota.to_owned()).or_insert_with(|| json!({})));
    }

    /// A pause of all calls of a quota, which ends after so many seconds from now.
    pub fn pause(&self, quota: &str, seconds: u64, reason: &str) {
        let ends = SystemTime::now() + Duration::from_secs(seconds);
        let ends = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        self.change(quota, |report| {
            report["pauses"] =
                json!([{"scope": "account", "endsAtMillis": ends, "reason": reason, "stopped": false}]);
        });
    }

    /// Stops the reports, or continues with them.
    pub fn falls_silent(&self, silent: bool) {
        self.told.silent.store(silent, Ordering::Relaxed);
    }
}

async fn answer(
    request: Request<Incoming>,
    told: Told,
) -> Result<Response<StreamBody<impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>>>>, Infallible> {
    let right = request.uri().path() == "/status/v1"
        && request.headers()["authorization"] == "Bearer the operator's token";
    let lines = stream::unfold(Lines { told, last: None, next: None }, |mut lines| async {
        let report = lines.next().await;
        Some((Ok(Frame::data(Bytes::from(format!("{report}\n")))), lines))
    });
    let mut response = Response::new(StreamBody::new(lines));
    *response.status_mut() = if right { StatusCode::OK } else { StatusCode::FORBIDDEN };
    Ok(response)
}

/// The reports of one reader.
struct Lines {
    told: Told,
    last: Option<Value>,
    /// The report that is being made.
    next: Option<JoinHandle<Value>>,
}

impl Lines {
    /// The newest report; on a machine that is slow to make another, the last one again: a limiter is not silent then.
    async fn next(&mut self) -> Value {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.told.silent.load(Ordering::Relaxed) {
                continue;
            }
            let known = self.told.changes.lock().unwrap().clone();
            let mut next =
                self.next.take().unwrap_or_else(|| tokio::task::spawn_blocking(move || report(&known)));
            match tokio::time::timeout(Duration::from_secs(1), &mut next).await {
                Ok(report) => self.last = Some(report.unwrap()),
                Err(_) => self.next = Some(next),
            }
            if let Some(last) = &self.last {
                return last.clone();
            }
        }
    }
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
        for pause in account["pauses"].as_array_mut().into_iter().flatten() {
            let Some(ends) = pause.as_object_mut().unwrap().remove("endsAtMillis") else { continue };
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
            pause["remainingMillis"] = json!(ends.as_u64().unwrap().saturating_sub(now));
        }
        account
    });
    let accounts: Vec<Value> = accounts.collect();
    json!({"epoch": 1, "gateOpen": false, "proxies": {"current": 0, "connected": 0}, "accounts": accounts})
}
