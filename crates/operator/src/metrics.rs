//! What the operator counts of itself, and the states of quotas.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use quotakeeper_listen::{ClosedConnections, Doors};
use tokio::sync::watch;

/// The operator's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    writes: Family<Write, Counter>,
    /// Whether this replica leads: 1 or 0.
    pub leader: Gauge,
    quotas: Family<Accepted, Gauge>,
    certificates: Family<Certificate, Gauge<f64, AtomicU64>>,
    /// By `namespace/name`.
    states: watch::Sender<BTreeMap<String, QuotaFigures>>,
    /// What was closed of the webhook's connections.
    pub closed_at_webhook: ClosedConnections,
    /// The same of metrics and probes.
    pub(crate) closed_at_metrics: ClosedConnections,
}

/// What is shown of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaFigures {
    /// The words of the column STATUS.
    pub(crate) state: String,
    /// It is accepted and enforced.
    pub(crate) ready: bool,
    /// Pods that request it and have no proxy.
    pub(crate) not_injected: u32,
}

/// One series a quota: its state is a label, as in kube-state-metrics.
#[derive(Debug)]
struct StateCollector(watch::Receiver<BTreeMap<String, QuotaFigures>>);

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "1 for the state of an ApiQuota that its column STATUS shows, as the leader sees it";
        let mut family = encoder.encode_descriptor("apiquota_status", help, None, MetricType::Gauge)?;
        let quotas = self.0.borrow();
        for (quota, figures) in &*quotas {
            let (namespace, name) = quota.split_once('/').unwrap_or_default();
            let labels = [("namespace", namespace), ("name", name), ("status", figures.state.as_str())];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        let ready = |figures: &QuotaFigures| i64::from(figures.ready);
        let help = "1 if an ApiQuota is accepted and enforced, else 0, as the leader sees it";
        each(&mut encoder, &quotas, ("apiquota_ready", help), ready)?;
        let not_injected = |figures: &QuotaFigures| i64::from(figures.not_injected);
        let help = "Pods that request an ApiQuota and have no proxy: their calls are not limited";
        each(&mut encoder, &quotas, ("apiquota_not_injected_pods", help), not_injected)
    }
}

/// A figure of each quota.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    quotas: &BTreeMap<String, QuotaFigures>,
    (name, help): (&str, &str),
    value: impl Fn(&QuotaFigures) -> i64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (quota, figures) in quotas {
        let (namespace, name) = quota.split_once('/').unwrap_or_default();
        let labels = [("namespace", namespace), ("name", name)];
        ConstGauge::new(value(figures)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    object: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Accepted {
    accepted: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Certificate {
    secret: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (writes, leader) = (Family::default(), Gauge::default());
        let (quotas, certificates) = (Family::default(), Family::default());
        let (states, shown) = watch::channel(BTreeMap::new());
        let mut root = Registry::with_prefix("quotakeeper");
        root.register_collector(Box::new(StateCollector(shown)));
        let registry = root.sub_registry_with_prefix("operator");
        let (closed_at_webhook, closed_at_metrics) = Default::default();
        let doors = [("webhook", &closed_at_webhook), ("metrics", &closed_at_metrics)];
        let doors = doors.map(|(door, closed): (_, &ClosedConnections)| (door, closed.clone()));
        registry.register_collector(Box::new(Doors(doors.into())));
        registry.register("writes", "Writes to the API server by kind of object", writes.clone());
        registry.register("leader", "Whether this replica leads", leader.clone());
        registry.register("quotas", "ApiQuotas, as the leader sees them", quotas.clone());
        let help = "When the certificate of a Secret ends, in seconds since 1970";
        registry.register("certificate_end_timestamp_seconds", help, certificates.clone());
        let registry = Arc::new(root);
        Self { registry, writes, leader, quotas, certificates, states, closed_at_webhook, closed_at_metrics }
    }
}

impl Metrics {
    /// A write was answered, or not.
    pub(crate) fn wrote(&self, object: &'static str, well: bool) {
        let outcome = if well { "done" } else { "failed" };
        self.writes.get_or_create(&Write { object, outcome }).inc();
    }

    /// So many quotas are accepted, and so many refused.
    pub(crate) fn quotas(&self, accepted: usize, refused: usize) {
        for (label, count) in [("true", accepted), ("false", refused)] {
            let gauge = self.quotas.get_or_create(&Accepted { accepted: label });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How quotas are, by `namespace/name`.
    pub(crate) fn states(&self, states: BTreeMap<String, QuotaFigures>) {
        self.states.send_replace(states);
    }

    /// This replica does not lead any more: what it knows of quotas is old.
    pub(crate) fn leads_no_more(&self) {
        self.leader.set(0);
        self.quotas.clear();
        self.states.send_replace(BTreeMap::new());
    }

    /// The certificate of a Secret ends so many seconds after 1970.
    pub(crate) fn certificate(&self, secret: &'static str, seconds: f64) {
        self.certificates.get_or_create(&Certificate { secret }).set(seconds);
    }

    /// All of them, in the format of OpenMetrics 1.0.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_documented() {
        let metrics = Metrics::default();
        metrics.wrote("Secret", true);
        metrics.leader.set(1);
        metrics.quotas(2, 1);
        metrics.certificate("quotakeeper-webhook-tls", 1.0);
        let figures = QuotaFigures { state: "Queueing".to_owned(), ready: true, not_injected: 2 };
        metrics.states(BTreeMap::from([("gtm/openai".to_owned(), figures)]));
        let text = metrics.text();
        test_support::metrics_page::assert_section("quotakeeper_operator", &text);
        assert!(
            text.contains("quotakeeper_operator_writes_total{object=\"Secret\",outcome=\"done\"} 1"),
            "{text}"
        );
        let state = r#"quotakeeper_apiquota_status{namespace="gtm",name="openai",status="Queueing"} 1"#;
        assert!(text.lines().any(|line| line == state), "{text}");
        let missing = r#"quotakeeper_apiquota_not_injected_pods{namespace="gtm",name="openai"} 2"#;
        assert!(text.lines().any(|line| line == missing), "{text}");
        metrics.leads_no_more();
        let text = metrics.text();
        assert!(!text.contains("gtm") && !text.contains("accepted="), "{text}");
        assert!(text.contains("quotakeeper_operator_leader 0"), "{text}");
    }
}
