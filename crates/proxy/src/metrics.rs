//! What the proxy counts, for Prometheus. Labels are bounded: quotas of the pod, reasons, status codes.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use quotakeeper_engine::tokens::TokenUsage;
use quotakeeper_listen::{ClosedConnections, Doors};

/// From a call that did not wait to one that waited for a window of minutes.
const WAITS: [f64; 14] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// From a word to the most that models of today produce.
const TOKENS: [f64; 11] =
    [16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 65536.0, 131_072.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Quota {
    quota: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Decision {
    quota: String,
    decision: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Unreadable {
    quota: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    quota: String,
    kind: &'static str,
    source: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MissingUsage {
    quota: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Code {
    quota: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TurnedAway {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Client {
    quota: String,
    client: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Degraded {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failure {
    reason: &'static str,
}

type HistogramFamily = Family<Quota, Histogram, fn() -> Histogram>;

/// The proxy's metrics.
pub struct Metrics {
    registry: Registry,
    calls: Family<Decision, Counter<u64, AtomicU64>>,
    wait: HistogramFamily,
    waiting: Family<Quota, Gauge<i64, AtomicI64>>,
    responses: Family<Code, Counter<u64, AtomicU64>>,
    upstream: HistogramFamily,
    pauses: Family<Quota, Counter<u64, AtomicU64>>,
    max_output_tokens: HistogramFamily,
    unreadable: Family<Unreadable, Counter<u64, AtomicU64>>,
    another_organization: Family<Quota, Counter<u64, AtomicU64>>,
    learned_patience: Family<Client, Gauge<f64, AtomicU64>>,
    tokens: Family<Tokens, Counter<u64, AtomicU64>>,
    missing_usages: Family<MissingUsage, Counter<u64, AtomicU64>>,
    turned_away: Family<TurnedAway, Counter<u64, AtomicU64>>,
    failed_handshakes: Family<Failure, Counter<u64, AtomicU64>>,
    degraded: Family<Degraded, Gauge<i64, AtomicI64>>,
    /// What was closed of the connections for metrics and probes.
    pub closed: ClosedConnections,
}

impl Metrics {
    /// The metrics of a proxy whose calls are this workload's: `namespace/kind/name`.
    pub fn new(workload: &str) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(WAITS);
        let mut this = Self {
            registry: Registry::with_prefix("quotakeeper_proxy"),
            calls: Family::default(),
            wait: Family::new_with_constructor(histogram),
            waiting: Family::default(),
            responses: Family::default(),
            upstream: Family::new_with_constructor(histogram),
            pauses: Family::default(),
            max_output_tokens: Family::new_with_constructor(|| Histogram::new(TOKENS)),
            unreadable: Family::default(),
            another_organization: Family::default(),
            learned_patience: Family::default(),
            tokens: Family::default(),
            missing_usages: Family::default(),
            turned_away: Family::default(),
            failed_handshakes: Family::default(),
            degraded: Family::default(),
            closed: ClosedConnections::default(),
        };
        this.register();
        let info = Info::new(vec![("workload", workload.to_owned())]);
        this.registry.register("workload", "1; its label names whose calls the proxy sends", info);
        this.set_connected(false);
        this
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "calls",
            "Calls by decision: granted, or the reason of the refusal",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "queue_wait",
            "Time that calls waited for a grant",
            Unit::Seconds,
            self.wait.clone(),
        );
        registry.register("waiting_calls", "Calls that are waiting for a grant", self.waiting.clone());
        registry.register(
            "upstream_responses",
            "Responses of the provider, including rejections of calls that were sent again",
            self.responses.clone(),
        );
        registry.register_with_unit(
            "upstream_response",
            "Time from the grant to the first byte of the response",
            Unit::Seconds,
            self.upstream.clone(),
        );
        registry.register("pauses", "Pauses announced by the limiter", self.pauses.clone());
        registry.register(
            "max_output_tokens",
            "The most tokens that requests let their answers have, of those that say so",
            self.max_output_tokens.clone(),
        );
        registry.register(
            "unreadable_requests",
            "Requests whose model is not known: they wait for all models and are charged to each",
            self.unreadable.clone(),
        );
        registry.register(
            "other_organization_answers",
            "Answers that name another account than the quota's `account.organization`: what they say of limits and rejections is ignored",
            self.another_organization.clone(),
        );
        self.register_usage();
        self.register_clients();
    }

    fn register_usage(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "tokens",
            "Tokens of calls of quotas that limit tokens, by kind and by whether the provider reported or the proxy estimated them; cached and cache_write are parts of input",
            self.tokens.clone(),
        );
        registry.register(
            "missing_usages",
            "Answers read to their end whose tokens are estimated, by reason",
            self.missing_usages.clone(),
        );
    }

    fn register_clients(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "learned_patience",
            "Timeout of a kind of clients, learned from those that hung up; absent where nothing is learned",
            Unit::Seconds,
            self.learned_patience.clone(),
        );
        registry.register(
            "turned_away_requests",
            "Requests that belong to no quota, by the reason that their answer names",
            self.turned_away.clone(),
        );
        registry.register(
            "failed_handshakes",
            "Connections of clients that ended before a request, by reason: most often they do not trust the CA",
            self.failed_handshakes.clone(),
        );
        registry.register_collector(Box::new(Doors(vec![("metrics", self.closed.clone())])));
        registry.register("degraded", "1 while the proxy is degraded for this reason", self.degraded.clone());
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _written = encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn decided(&self, quota: &str, decision: &'static str) {
        self.calls.get_or_create(&Decision { quota: quota.to_owned(), decision }).inc();
    }

    pub(crate) fn waited(&self, quota: &str, wait: Duration) {
        self.wait.get_or_create(&Quota::of(quota)).observe(wait.as_secs_f64());
    }

    pub(crate) fn waiting(&self, quota: &str) -> Gauge<i64, AtomicI64> {
        self.waiting.get_or_create(&Quota::of(quota)).clone()
    }

    pub(crate) fn answered(&self, quota: &str, code: u16, after: Duration) {
        self.responses.get_or_create(&Code { quota: quota.to_owned(), code }).inc();
        self.upstream.get_or_create(&Quota::of(quota)).observe(after.as_secs_f64());
    }

    pub(crate) fn paused(&self, quota: &str) {
        self.pauses.get_or_create(&Quota::of(quota)).inc();
    }

    pub(crate) fn max_output_tokens(&self, quota: &str, tokens: u64) {
        // A float has 53 bits: more tokens than that are in the last bucket anyway.
        self.max_output_tokens.get_or_create(&Quota::of(quota)).observe(tokens as f64);
    }

    pub(crate) fn used(&self, quota: &str, usage: &TokenUsage) {
        let source = if usage.exact { "reported" } else { "estimated" };
        for (kind, tokens) in [
            ("input", usage.input),
            ("cached", usage.cached),
            ("cache_write", usage.cache_write),
            ("output", usage.output),
        ] {
            let quota = quota.to_owned();
            self.tokens.get_or_create(&Tokens { quota, kind, source }).inc_by(tokens);
        }
    }

    pub(crate) fn usage_missing(&self, quota: &str, reason: &'static str) {
        self.missing_usages.get_or_create(&MissingUsage { quota: quota.to_owned(), reason }).inc();
    }

    pub(crate) fn unreadable(&self, quota: &str, reason: &'static str) {
        self.unreadable.get_or_create(&Unreadable { quota: quota.to_owned(), reason }).inc();
    }

    pub(crate) fn another_organization(&self, quota: &str) {
        self.another_organization.get_or_create(&Quota { quota: quota.to_owned() }).inc();
    }

    pub(crate) fn turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&TurnedAway { reason }).inc();
    }

    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        self.failed_handshakes.get_or_create(&Failure { reason }).inc();
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.degraded.get_or_create(&Degraded { reason: "NoCalls" }).set(i64::from(silent));
    }

    /// The timeout that is learned of a kind of clients; none: it is forgotten. Kinds are bounded.
    pub(crate) fn learned_patience(&self, quota: &str, client: &str, patience: Option<Duration>) {
        let client = Client { quota: quota.to_owned(), client: client.to_owned() };
        match patience {
            Some(patience) => {
                self.learned_patience.get_or_create(&client).set(patience.as_secs_f64());
            }
            None => {
                self.learned_patience.remove(&client);
            }
        }
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        let down = Degraded { reason: "LimiterUnreachable" };
        self.degraded.get_or_create(&down).set(i64::from(!connected));
    }
}

impl Quota {
    fn of(quota: &str) -> Self {
        Self { quota: quota.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_documented() {
        let metrics = Metrics::new("gtm/Job/enrich");
        metrics.decided("gtm/openai", "granted");
        metrics.waited("gtm/openai", Duration::from_millis(3));
        metrics.waiting("gtm/openai").inc();
        metrics.answered("gtm/openai", 200, Duration::from_secs(1));
        metrics.paused("gtm/openai");
        metrics.max_output_tokens("gtm/openai", 4096);
        metrics.unreadable("gtm/openai", "NoModel");
        metrics.another_organization("gtm/openai");
        metrics.used("gtm/openai", &TokenUsage { input: 9, output: 7, exact: true, ..TokenUsage::default() });
        metrics.usage_missing("gtm/openai", "Absent");
        metrics.learned_patience("gtm/openai", "node", Some(Duration::from_secs(285)));
        metrics.turned_away("UnknownProvider");
        metrics.handshake_failed("DistrustedCA");
        metrics.set_silent(true);
        metrics.set_connected(true);
        let text = metrics.text();
        test_support::metrics_page::assert_section("quotakeeper_proxy", &text);
        for line in [
            r#"quotakeeper_proxy_workload_info{workload="gtm/Job/enrich"} 1"#,
            r#"quotakeeper_proxy_calls_total{quota="gtm/openai",decision="granted"} 1"#,
            r#"quotakeeper_proxy_queue_wait_seconds_bucket{le="0.005",quota="gtm/openai"} 1"#,
            r#"quotakeeper_proxy_waiting_calls{quota="gtm/openai"} 1"#,
            r#"quotakeeper_proxy_upstream_responses_total{quota="gtm/openai",code="200"} 1"#,
            r#"quotakeeper_proxy_upstream_response_seconds_count{quota="gtm/openai"} 1"#,
            r#"quotakeeper_proxy_pauses_total{quota="gtm/openai"} 1"#,
            r#"quotakeeper_proxy_max_output_tokens_bucket{le="4096.0",quota="gtm/openai"} 1"#,
            r#"quotakeeper_proxy_unreadable_requests_total{quota="gtm/openai",reason="NoModel"} 1"#,
            r#"quotakeeper_proxy_other_organization_answers_total{quota="gtm/openai"} 1"#,
            r#"quotakeeper_proxy_tokens_total{quota="gtm/openai",kind="output",source="reported"} 7"#,
            r#"quotakeeper_proxy_missing_usages_total{quota="gtm/openai",reason="Absent"} 1"#,
            r#"quotakeeper_proxy_learned_patience_seconds{quota="gtm/openai",client="node"} 285.0"#,
            r#"quotakeeper_proxy_turned_away_requests_total{reason="UnknownProvider"} 1"#,
            r#"quotakeeper_proxy_failed_handshakes_total{reason="DistrustedCA"} 1"#,
            r#"quotakeeper_proxy_degraded{reason="NoCalls"} 1"#,
            r#"quotakeeper_proxy_degraded{reason="LimiterUnreachable"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
