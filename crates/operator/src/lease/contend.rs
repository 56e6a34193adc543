//! The requests about the lease.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use quotakeeper_api::names::OPERATOR;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Contender, Leadership, REQUEST, RETRY, Step};
use crate::clock;

/// Contends for the lease until `stop`, then gives it up if it is held. `leadership` follows.
pub async fn contend(leases: Api<Lease>, identity: String, leadership: Leadership, stop: CancellationToken) {
    let mut contender = Contender::new(identity);
    let mut led = false;
    while !stop.is_cancelled() {
        let asked = clock::now();
        match timeout(REQUEST, attempt(&leases, &mut contender)).await {
            Ok(Ok(true)) => leadership.extend(asked),
            // Whoever holds it now was able to take it: it is ours no more.
            Ok(Ok(false)) => leadership.resign(),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                debug!("another replica was quicker");
            }
            Ok(Err(error)) => warn!(%error, "the Lease {OPERATOR} can't be renewed; trying on"),
            Err(_) => warn!("the API server is silent; the Lease {OPERATOR} can't be renewed, trying on"),
        }
        if led != leadership.holds() {
            led = !led;
            info!("{}", if led { "this replica leads and writes" } else { "this replica leads no more" });
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            () = stop.cancelled() => {}
        }
    }
    leadership.resign();
    if led && let Ok(Err(error)) = timeout(REQUEST, release(&leases, &contender)).await {
        debug!(%error, "the lease was not given up; it ends by itself");
    }
}

/// Whether the lease is ours now.
async fn attempt(leases: &Api<Lease>, contender: &mut Contender) -> kube::Result<bool> {
    let lease = leases.get_opt(OPERATOR).await?;
    match contender.next(lease.as_ref(), clock::now(), jiff::Timestamp::now()) {
        Step::Create(lease) => leases.create(&PostParams::default(), &lease).await.map(|_| true),
        Step::Replace(lease) => leases.replace(OPERATOR, &PostParams::default(), &lease).await.map(|_| true),
        Step::Wait => Ok(false),
    }
}

async fn release(leases: &Api<Lease>, contender: &Contender) -> kube::Result<()> {
    let lease = leases.get_opt(OPERATOR).await?;
    if let Some(released) = lease.and_then(|lease| contender.released(&lease, jiff::Timestamp::now())) {
        leases.replace(OPERATOR, &PostParams::default(), &released).await?;
    }
    Ok(())
}
