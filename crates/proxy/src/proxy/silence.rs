//! A proxy that no call comes through: the application may have nothing to ask, or its calls go around the quota.

use std::sync::Arc;
use std::time::Duration;

use quotakeeper_wire::message::NoticeKind;
use tokio::time::sleep;

use crate::forward::ProxyContext;

/// How often it is looked whether the first call has come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Logs and counts it when no call has come `after` so long; until the first one comes.
pub(super) async fn watch(context: Arc<ProxyContext>, after: Duration, by_hosts: bool) {
    sleep(after).await;
    // Connections of clients that don't trust the proxy have been told of.
    if heard_of(&context) {
        return;
    }
    context.telemetry.metrics.set_silent(true);
    let seconds = after.as_secs();
    let remedy = remedy(by_hosts);
    let what = format!(
        "no call has come through the proxy within {seconds} s; if the application has made any, they went around the \
         quota: {remedy}"
    );
    tracing::warn!("{what}");
    for endpoint in &context.endpoints {
        context.admission.notice(endpoint.index, NoticeKind::NoCalls, what.clone());
    }
    while !heard_of(&context) {
        sleep(LOOK_EVERY).await;
    }
    context.telemetry.metrics.set_silent(false);
}

fn heard_of(context: &ProxyContext) -> bool {
    context.telemetry.counts.heard_of()
}

/// What sends calls around the proxy, and what brings them back.
pub(super) fn remedy(by_hosts: bool) -> &'static str {
    match by_hosts {
        true => {
            "its client asks DNS instead of /etc/hosts (cacheable-lookup, got's dnsCache, aiodns and other resolvers of \
             a program's own); switch that off, or give the client a base URL that leads to the proxy"
        }
        false => {
            "its client does not read the variables that name the base URL; pass it the value, or intercept the \
             provider's hosts (quotakeeper run --hosts on, as root)"
        }
    }
}
