//! Other webhooks, called after ours. One adds a container to every pod, one takes from init containers what makes them
//! sidecars, as those do that know an older Kubernetes.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use json_patch::Patch;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub const ADDED: &str = "added";
/// The namespace whose pods lose their sidecars; those of others get a container.
pub const STRIPPED: &str = "stripped";

pub async fn serve(listener: TcpListener, config: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(config);
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
            drop(
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(&body).unwrap();
    let request: AdmissionRequest<DynamicObject> = review.try_into().unwrap();
    let patch = match request.namespace.as_deref() {
        Some(STRIPPED) => stripping(request.object.as_ref().unwrap()),
        _ => {
            let container = json!({"name": ADDED, "image": "y"});
            json!([{"op": "add", "path": "/spec/containers/-", "value": container}])
        }
    };
    let patch: Patch = serde_json::from_value(patch).unwrap();
    let answer = AdmissionResponse::from(&request).with_patch(patch).unwrap().into_review();
    Response::new(Full::new(Bytes::from(serde_json::to_vec(&answer).unwrap())))
}

fn stripping(pod: &DynamicObject) -> Value {
    let containers = pod.data["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let sidecars =
        containers.iter().enumerate().filter(|(_, container)| !container["restartPolicy"].is_null());
    sidecars
        .map(|(index, _)| json!({"op": "remove", "path": format!("/spec/initContainers/{index}/restartPolicy")}))
        .collect()
}
