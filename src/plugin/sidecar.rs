//! What a proxy in a pod says of its quotas, through a forwarded port: nothing but the pod reaches it otherwise.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use quotakeeper_wire::bootstrap::BASE_URL_PORT;
use quotakeeper_wire::headroom::{Headroom, PATH};
use std::time::Duration;
use tokio::time::timeout;

use super::cluster::is_forbidden;

/// The whole answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// No answer is larger, in bytes.
const MOST_BYTES: usize = 16 << 20;

/// What the pod's proxy says of its quotas.
pub(super) async fn headroom(pods: &Api<Pod>, pod: &str) -> anyhow::Result<Headroom> {
    let body = get(pods, pod, BASE_URL_PORT, PATH).await?;
    serde_json::from_slice(&body).context("its proxy is of a version that does not say it; restart the pod")
}

/// The body of `GET path` at a port of a pod.
pub(super) async fn get(pods: &Api<Pod>, pod: &str, port: u16, path: &str) -> anyhow::Result<Bytes> {
    match timeout(PATIENCE, fetch(pods, pod, port, path)).await {
        Ok(answer) => answer,
        Err(_) => bail!("port {port} of pod {pod} does not answer within {} s", PATIENCE.as_secs()),
    }
}

async fn fetch(pods: &Api<Pod>, pod: &str, port: u16, path: &str) -> anyhow::Result<Bytes> {
    let mut forwarder = match pods.portforward(pod, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(error) if is_forbidden(&error) => {
            bail!("you may not look into it: the right to create pods/portforward is missing ({error})")
        }
        Err(error) => {
            return Err(error).with_context(|| format!("port {port} of pod {pod} can't be forwarded"));
        }
    };
    let stream = forwarder.take_stream(port).context("the port is not forwarded")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("the forwarded port does not answer")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer can't be read: {error}"))?.to_bytes();
    connection.abort();
    ensure!(status.is_success(), "{path} is answered by {status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}
