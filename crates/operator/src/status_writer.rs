//! Writes the statuses of quotas to the cluster: when something has changed, and at a limited rate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use quotakeeper_api::names::API_VERSION;
use quotakeeper_api::quota::{ApiQuota, ApiQuotaStatus};
use quotakeeper_wire::status::{AccountReport, EVERY_SECONDS, Report};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::caches::Caches;
use crate::cluster::{Cluster, STATUS_MANAGER, WriteError};
use crate::conditions::{TRUE, find, reasons, types, with_reason};
use crate::configuration::AppliedState;
use crate::limiter_view::{LIMITER_TIMEOUT, LimiterView, REPLACEMENT};
use crate::metrics::{Metrics, QuotaFigures};
use crate::pods::Counts;
use crate::reconcile::QuotaView;
use crate::status::refusals::RefusalCounter;
use crate::status::state::shown_word;
use crate::status::write_policy::{Worth, worth};
use crate::status::{Limiter, Subject, status};

/// How long changes are collected before a round.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The longest time between two rounds.
const TICK: Duration = Duration::from_secs(EVERY_SECONDS);
/// The time between two writes of one quota, unless something begins or ends.
const WRITE_INTERVAL_OF_QUOTA: Duration = Duration::from_secs(10);
/// The time between two writes: at most 20 a second.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);
/// A wait from this length on is reported as queueing; shorter ones are pacing.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// The state of a quota between two rounds.
#[derive(Clone, Debug, Default)]
struct StatusCache {
    /// The UID of the object.
    uid: String,
    /// When it was last written.
    written: Option<Instant>,
    /// The status before the last write, and the one written: until the watch shows it.
    ahead: Option<(Arc<ApiQuotaStatus>, ApiQuotaStatus)>,
    refusals: RefusalCounter,
    /// When a long wait was last reported.
    queued: Option<Instant>,
}

impl StatusCache {
    fn of(view: &QuotaView) -> StatusCache {
        let queued = with_reason(&view.status.conditions, types::THROTTLED, reasons::QUEUEING).is_some();
        StatusCache { uid: view.uid.clone(), queued: queued.then(Instant::now), ..StatusCache::default() }
    }

    /// How long ago a call was last seen that had waited for long.
    fn long_wait_ago(&mut self, report: Option<&AccountReport>, now: Instant) -> Option<Duration> {
        if report.is_some_and(|it| it.status.longest_wait() >= Some(LONG_WAIT)) {
            self.queued = Some(now);
        }
        self.queued.map(|queued| now.duration_since(queued))
    }

    /// The status in the cluster, as far as is known.
    fn present(&mut self, view: &QuotaView) -> ApiQuotaStatus {
        match &self.ahead {
            Some((before, written)) if *before == view.status => written.clone(),
            _ => {
                self.ahead = None;
                (*view.status).clone()
            }
        }
    }
}

/// Writes the statuses of all quotas, while this replica leads.
pub async fn run(
    cluster: &Cluster,
    caches: &Caches,
    metrics: &Metrics,
    mut applied: watch::Receiver<Option<AppliedState>>,
    mut limiter: watch::Receiver<LimiterView>,
    mut counts: watch::Receiver<Counts>,
) {
    let resource = ApiResource::erase::<ApiQuota>(&());
    let mut cache: HashMap<String, StatusCache> = HashMap::new();
    loop {
        let state = applied.borrow_and_update().clone();
        let limiter_view = limiter.borrow_and_update().clone();
        let pods = counts.borrow_and_update().clone();
        if let (Some(state), Some(quotas)) = (state, caches.quotas.all()) {
            cache.retain(|name, cached| quotas.get(name).is_some_and(|view| view.uid == cached.uid));
            let replaced = caches.limiter_is_replaced(&cluster.namespace, Timestamp::now());
            let observed = Observed {
                cluster,
                quotas: &quotas,
                applied: &state,
                limiter: &limiter_view,
                replaced,
                counts: &pods,
            };
            for (name, view, new) in due(&observed, &mut cache, metrics) {
                let before = Arc::clone(&view.status);
                match write(cluster, &resource, &name, &view, &new).await {
                    Ok(()) => {
                        let cached = cache.entry(name).or_insert_with(|| StatusCache::of(&view));
                        cached.written = Some(Instant::now());
                        cached.ahead = Some((before, new));
                    }
                    Err(error) if error.is_missing() => {}
                    Err(error) => warn!(quota = name, %error, "the status can't be written; trying again"),
                }
                sleep(WRITE_INTERVAL).await;
            }
        }
        tokio::select! {
            // The leader's other tasks live as long as this one.
            _ = applied.changed() => {}
            _ = limiter.changed() => {}
            _ = counts.changed() => {}
            () = sleep(TICK) => {}
        }
        sleep(DEBOUNCE).await;
    }
}

/// What a round works from.
struct Observed<'a> {
    cluster: &'a Cluster,
    quotas: &'a BTreeMap<String, QuotaView>,
    applied: &'a AppliedState,
    limiter: &'a LimiterView,
    /// The limiter's pod is being replaced.
    replaced: bool,
    counts: &'a Counts,
}

/// The statuses to be written now, what has begun or ended first.
fn due(
    observed: &Observed<'_>,
    cache: &mut HashMap<String, StatusCache>,
    metrics: &Metrics,
) -> Vec<(String, QuotaView, ApiQuotaStatus)> {
    let Observed { cluster, quotas, applied, counts, replaced, limiter: limiter_view } = *observed;
    let now = Instant::now();
    let accounts = limiter_view.current(now).map(|report| by_quota(report)).unwrap_or_default();
    let (mut due, mut states) = (Vec::new(), BTreeMap::new());
    for (name, view) in quotas {
        let Some(verdict) = applied.desired.quotas.get(name) else { continue };
        let cached = cache.entry(name.clone()).or_insert_with(|| StatusCache::of(view));
        let present = cached.present(view);
        let account = accounts.get(name.as_str()).copied();
        let (view, time) = (QuotaView { status: Arc::new(present), ..view.clone() }, Timestamp::now());
        let subject = Subject {
            view: &view,
            verdict,
            unwritten: applied.unwritten.get(name).map(String::as_str),
            limiter: limiter(limiter_view, account, replaced, now),
            long_wait_ago: cached.long_wait_ago(account, now),
            refusals: cached.refusals.next(account, time),
            not_injected: counts.not_injected.get(name).copied().unwrap_or(0),
            namespace: &cluster.namespace,
            now: time,
        };
        let new = status(&subject);
        if let Some(state) = new.summary.as_ref().and_then(|summary| summary.status.as_deref()) {
            let ready = find(&new.conditions, types::READY).is_some_and(|ready| ready.status == TRUE);
            let not_injected = subject.not_injected;
            states.insert(name.clone(), QuotaFigures { state: shown_word(state), ready, not_injected });
        }
        let rested =
            cached.written.is_none_or(|written| now.duration_since(written) >= WRITE_INTERVAL_OF_QUOTA);
        let worth = worth(&view.status, &new);
        if worth == Worth::Now || worth == Worth::Later && rested {
            due.push((worth, name.clone(), quotas[name].clone(), new));
        }
    }
    metrics.states(states);
    due.sort_by_key(|(worth, ..)| std::cmp::Reverse(*worth));
    due.into_iter().map(|(_, name, view, new)| (name, view, new)).collect()
}

fn by_quota(report: &Report) -> HashMap<&str, &AccountReport> {
    report.accounts.iter().map(|account| (account.quota.as_str(), account)).collect()
}

/// The limiter as the status of one quota sees it; `replaced`: its pod has just begun, or is about to end.
pub(crate) fn limiter<'a>(
    view: &'a LimiterView,
    account: Option<&'a AccountReport>,
    replaced: bool,
    now: Instant,
) -> Limiter<'a> {
    let silence = view.silence(now);
    if silence >= LIMITER_TIMEOUT {
        return Limiter::Lost { since: view.at_time, silence, replaced: replaced && silence < REPLACEMENT };
    }
    match &view.report {
        Some(report) => {
            let (active, gate_open_until) = (report.active.as_ref(), report.gate_open_until);
            Limiter::Connected { account, active, gate_open_until }
        }
        None => Limiter::Unknown,
    }
}

async fn write(
    cluster: &Cluster,
    resource: &ApiResource,
    name: &str,
    view: &QuotaView,
    status: &ApiQuotaStatus,
) -> Result<(), WriteError> {
    let Some((namespace, name)) = name.split_once('/') else { return Ok(()) };
    let quotas: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, resource);
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": "ApiQuota",
        // Not another object of the same name.
        "metadata": {"name": name, "namespace": namespace, "uid": view.uid},
        "status": status,
    });
    debug!(quota = name, namespace, "the status is written");
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    let patch = Patch::Apply(&object);
    let request = quotas.patch_status(name, &parameters, &patch);
    cluster.write("ApiQuota status", request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limiter_is_being_replaced_for_a_minute_at_most() {
        let view = LimiterView::nothing();
        let after = |replaced, silence| match limiter(&view, None, replaced, view.at + silence) {
            Limiter::Lost { replaced, .. } => Some(replaced),
            Limiter::Unknown | Limiter::Connected { .. } => None,
        };
        let tick = Duration::from_millis(1);
        assert_eq!(after(true, LIMITER_TIMEOUT - tick), None);
        assert_eq!(after(true, LIMITER_TIMEOUT), Some(true));
        assert_eq!(after(false, LIMITER_TIMEOUT), Some(false));
        assert_eq!(after(true, REPLACEMENT - tick), Some(true));
        assert_eq!(after(true, REPLACEMENT), Some(false));
    }
}
