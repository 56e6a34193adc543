//! The statuses in the cluster: written when they say something new, within a budget.

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
use crate::conditions::{reasons, types, with_reason};
use crate::configuration::AppliedState;
use crate::limiter_view::LimiterView;
use crate::pods::Counts;
use crate::reconcile::QuotaView;
use crate::status::write_policy::{Worth, worth};
use crate::status::{Limiter, Subject, status};

/// Changes that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often time alone may change a status.
const TICK: Duration = Duration::from_secs(EVERY_SECONDS);
/// Between two writes of one quota, unless something begins or ends.
const APART: Duration = Duration::from_secs(10);
/// Between two writes of all: 20 a second.
const BUDGET: Duration = Duration::from_millis(50);
/// After this time without a report the limiter counts as unavailable.
const UNHEARD: Duration = Duration::from_secs(60);
/// Calls that have waited this long are more than paced.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// After this time without such calls nothing queues any more.
const QUEUED: Duration = Duration::from_secs(30);

/// What the leader remembers of a quota.
#[derive(Clone, Debug, Default)]
struct StatusCache {
    /// Of which object.
    uid: String,
    /// When it was last written.
    written: Option<Instant>,
    /// What was in the cluster before, and what was written: until the watch tells of it.
    ahead: Option<(Arc<ApiQuotaStatus>, ApiQuotaStatus)>,
    /// When calls were last seen to wait.
    queued: Option<Instant>,
}

impl StatusCache {
    fn of(view: &QuotaView) -> StatusCache {
        let queued = with_reason(&view.status.conditions, types::THROTTLED, reasons::QUEUEING).is_some();
        StatusCache { uid: view.uid.clone(), queued: queued.then(Instant::now), ..StatusCache::default() }
    }

    /// Whether calls wait, or did so a moment ago.
    fn queueing(&mut self, report: Option<&AccountReport>, now: Instant) -> bool {
        if report.is_some_and(|it| it.status.longest_wait() >= Some(LONG_WAIT)) {
            self.queued = Some(now);
        }
        self.queued.is_some_and(|queued| now.duration_since(queued) < QUEUED)
    }

    /// What is in the cluster, as far as is known.
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

/// Keeps all statuses, while this replica leads.
pub async fn run(
    cluster: &Cluster,
    caches: &Caches,
    mut published: watch::Receiver<Option<AppliedState>>,
    mut heard: watch::Receiver<LimiterView>,
    mut counts: watch::Receiver<Counts>,
) {
    let resource = ApiResource::erase::<ApiQuota>(&());
    let mut memories: HashMap<String, StatusCache> = HashMap::new();
    loop {
        let now = published.borrow_and_update().clone();
        let said = heard.borrow_and_update().clone();
        let pods = counts.borrow_and_update().clone();
        if let (Some(published), Some(quotas)) = (now, caches.quotas.all()) {
            memories.retain(|name, memory| quotas.get(name).is_some_and(|view| view.uid == memory.uid));
            for (name, view, new) in due(cluster, &quotas, &published, &said, &pods, &mut memories) {
                let before = Arc::clone(&view.status);
                match write(cluster, &resource, &name, &view, &new).await {
                    Ok(()) => {
                        let memory = memories.entry(name).or_insert_with(|| StatusCache::of(&view));
                        memory.written = Some(Instant::now());
                        memory.ahead = Some((before, new));
                    }
                    Err(error) if error.is_missing() => {}
                    Err(error) => warn!(quota = name, %error, "the status can't be written; trying on"),
                }
                sleep(BUDGET).await;
            }
        }
        tokio::select! {
            // The leader's other tasks live as long as this one.
            _ = published.changed() => {}
            _ = heard.changed() => {}
            _ = counts.changed() => {}
            () = sleep(TICK) => {}
        }
        sleep(TOGETHER).await;
    }
}

/// The statuses to be written now, what has begun or ended first.
fn due(
    cluster: &Cluster,
    quotas: &BTreeMap<String, QuotaView>,
    published: &AppliedState,
    heard: &LimiterView,
    counts: &Counts,
    memories: &mut HashMap<String, StatusCache>,
) -> Vec<(String, QuotaView, ApiQuotaStatus)> {
    let now = Instant::now();
    let accounts = heard.report.as_deref().map(by_quota).unwrap_or_default();
    let mut due = Vec::new();
    for (name, view) in quotas {
        let Some(verdict) = published.desired.quotas.get(name) else { continue };
        let memory = memories.entry(name.clone()).or_insert_with(|| StatusCache::of(view));
        let present = memory.present(view);
        let account = accounts.get(name.as_str()).copied();
        let view = QuotaView { status: Arc::new(present), ..view.clone() };
        let subject = Subject {
            view: &view,
            verdict,
            unwritten: published.unwritten.get(name).map(String::as_str),
            limiter: limiter(heard, account, now),
            queueing: memory.queueing(account, now),
            not_injected: counts.not_injected.get(name).copied().unwrap_or(0),
            namespace: &cluster.namespace,
            now: Timestamp::now(),
        };
        let new = status(&subject);
        let rested = memory.written.is_none_or(|written| now.duration_since(written) >= APART);
        let worth = worth(&view.status, &new);
        if worth == Worth::Now || worth == Worth::Later && rested {
            due.push((worth, name.clone(), quotas[name].clone(), new));
        }
    }
    due.sort_by_key(|(worth, ..)| std::cmp::Reverse(*worth));
    due.into_iter().map(|(_, name, view, new)| (name, view, new)).collect()
}

fn by_quota(report: &Report) -> HashMap<&str, &AccountReport> {
    report.accounts.iter().map(|account| (account.quota.as_str(), account)).collect()
}

fn limiter<'a>(heard: &'a LimiterView, account: Option<&'a AccountReport>, now: Instant) -> Limiter<'a> {
    if now.duration_since(heard.at) >= UNHEARD {
        return Limiter::Lost;
    }
    match &heard.report {
        Some(report) => Limiter::Connected { account, gate_open_until: report.gate_open_until },
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
