//! What happens in a proxy, and what it does when the limiter reports a change.

use std::collections::BTreeSet;
use std::sync::Arc;

use quotakeeper_wire::message::{AccountIndex, AccountState, AccountUpdate};
use tokio::sync::watch;

use crate::admission::LimiterEvent;
use crate::quota_endpoint::QuotaEndpoint;
use crate::record::{CallRecord, Telemetry};
use crate::upstream::Origin;

/// What happens in a proxy, for progress lines.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call is over.
    Call(Arc<CallRecord>),
    /// A quota has changed: its state, or a pause of its calls.
    Quota {
        /// The quota's name.
        quota: Arc<str>,
        /// What has changed.
        update: AccountUpdate,
    },
    /// The link to the limiter is up, or lost.
    Connected(bool),
}

/// The accounts that the bypass is on for: their calls are sent even if the limiter does not answer.
pub(super) fn bypassed(endpoints: &[Arc<QuotaEndpoint>]) -> BTreeSet<AccountIndex> {
    let bypassed =
        endpoints.iter().filter(|endpoint| endpoint.account().is_some_and(|account| account.bypass));
    bypassed.map(|endpoint| endpoint.index).collect()
}

/// Puts changes into force and turns them into logs, metrics and [`Event`]s.
pub(super) fn handler(
    endpoints: Vec<Arc<QuotaEndpoint>>,
    bypass: watch::Sender<BTreeSet<AccountIndex>>,
    telemetry: Arc<Telemetry>,
) -> impl Fn(LimiterEvent) + Send + Sync {
    move |event| {
        let event = match event {
            LimiterEvent::Connected(connected) => {
                telemetry.metrics.set_connected(connected);
                log_connected(connected, bypass.borrow().len() == endpoints.len());
                Event::Connected(connected)
            }
            LimiterEvent::Account { account, update } => {
                let Some(endpoint) = endpoints.get(account.0 as usize) else { return };
                match &update {
                    AccountUpdate::State(state) => {
                        apply(endpoint, state);
                        let now = bypassed(&endpoints);
                        bypass.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
                    }
                    AccountUpdate::Paused { scope, remaining, reason } => {
                        telemetry.metrics.paused(&endpoint.quota);
                        tracing::warn!(quota = %endpoint.quota, %scope, ?remaining, reason, "paused");
                    }
                    AccountUpdate::Resumed { scope, paused_for } => {
                        tracing::info!(quota = %endpoint.quota, %scope, ?paused_for, "resumed");
                    }
                }
                Event::Quota { quota: Arc::clone(&endpoint.quota), update }
            }
        };
        // An error means that nobody has subscribed.
        let _receivers = telemetry.events.send(event);
    }
}

fn log_connected(connected: bool, all_bypassed: bool) {
    match connected {
        true => tracing::info!("the limiter is connected"),
        false if all_bypassed => {
            tracing::warn!("the limiter is not connected; the bypass is on, calls are sent without a grant");
        }
        false => tracing::warn!("the limiter is not connected; calls wait"),
    }
}

/// Puts a state into force, and logs what that means for calls.
fn apply(endpoint: &QuotaEndpoint, state: &AccountState) {
    let was_bypassed = endpoint.account().is_some_and(|account| account.bypass);
    if let Err(error) = endpoint.apply(state) {
        return tracing::error!(quota = %endpoint.quota, %error, "a configuration of the limiter can't be applied; the one before stays in force");
    }
    match endpoint.account() {
        None => {
            tracing::warn!(quota = %endpoint.quota, reason = %endpoint.absence(), "not in force; calls wait");
        }
        Some(account) if account.bypass && !was_bypassed => {
            tracing::warn!(quota = %endpoint.quota, "the bypass is on: calls are sent whatever the quota allows");
        }
        Some(account) if was_bypassed && !account.bypass => {
            tracing::warn!(quota = %endpoint.quota, "the bypass is off: calls wait for grants again");
        }
        Some(_) => tracing::info!(quota = %endpoint.quota, "in force"),
    }
    let account = endpoint.account();
    if let Some((account, other)) = account.as_ref().and_then(|it| Some((it, it.other_upstream.as_ref()?))) {
        let upstream = account.upstream.as_ref().map(Origin::authority);
        tracing::warn!(quota = %endpoint.quota, upstream, other = other.authority(), "the provider's baseUrl.upstream is another now; calls and their keys go where they went when the pod was admitted, until it is restarted");
    }
}
