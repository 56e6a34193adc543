//! What became of a call: one access line, the metrics and an event, however the call ended.
//!
//! The line holds neither headers nor queries nor, unless it is asked for, the path: credentials stand there.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use quotakeeper_engine::event::CallClass;
use quotakeeper_engine::tokens::TokenUsage;
use tokio::sync::broadcast;

use crate::admission::Reason;
use crate::learned_patience::{ClientKind, LearnedPatience};
use crate::metrics::Metrics;
use crate::quota_endpoint::QuotaEndpoint;
use crate::stats::Counts;
use crate::token_ratios::{Missing, Used};
use crate::unknown_costs::{MissingUsage, UnknownCost};

/// A call that is over.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// The quota that it drew on.
    pub quota: Arc<str>,
    pub provider: String,
    pub method: Method,
    /// The path, without query. Some providers have credentials in it.
    pub path: String,
    /// The pattern of the profile that covers the path, else `*`: what others may see.
    pub shown_path: String,
    /// The endpoint and the model that it calls, as the provider counts them.
    pub class: CallClass,
    /// The most output tokens that it allows, where it says so.
    pub max_output: Option<u64>,
    /// What it has used of tokens; none: not known, or nothing of the account counts any.
    pub usage: Option<TokenUsage>,
    /// The status that the client got; none when it was gone.
    pub status: Option<u16>,
    pub outcome: Outcome,
    /// What bounded its wait; known of calls that were refused for it.
    pub bound: Option<WaitBound>,
    pub why: Why,
    /// How long it waited for grants, all together.
    pub waited: Duration,
    /// How often it was sent.
    pub attempts: u32,
    /// Bytes of its body that were handed to the provider's connection, all attempts together.
    pub sent_bytes: u64,
    /// Bytes of the answer's body that were handed to the client.
    pub answered_bytes: u64,
    /// From its arrival to its end.
    pub duration: Duration,
}

impl CallRecord {
    /// What its author is told of a cost that its answer does not tell.
    pub(crate) fn unknown_cost(&self, why: MissingUsage) -> String {
        format!("{} {}: its answer {}", self.method, self.shown_path, why.in_words())
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The provider's answer went to the client, whatever its status.
    Answered,
    /// It was refused.
    Refused(Reason),
    /// The provider could not be reached, or its connection broke before the answer began.
    Unreachable,
    /// The answer broke off.
    BrokenOff,
    /// The client hung up.
    ClientGone,
}

/// What keeps a call from waiting longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitBound {
    /// Its client waits so long for the answer.
    Client(Duration),
    /// The queue lets calls wait so long.
    Queue(Duration),
}

impl Outcome {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused(reason) => reason.as_str(),
            Self::Unreachable => "unreachable",
            Self::BrokenOff => "broken off",
            Self::ClientGone => "client gone",
        }
    }
}

/// Why a call waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It did not.
    NoWait,
    /// Calls were ahead of it, or units were missing.
    Queue,
    /// The limiter could not be reached.
    LimiterUnreachable,
    /// Its quota was not in force.
    NotInForce,
    /// The proxy had no file descriptor left for a connection.
    NoFileDescriptor,
    /// The provider could not be reached.
    ProviderUnreachable,
    /// A pause was in force: the provider's reason, or who paused.
    Paused(String),
    /// The provider rejected it, and it waited for another grant: the provider's reason.
    Rejected(String),
}

impl Why {
    fn text(&self) -> (&'static str, &str) {
        match self {
            Self::NoWait => ("", ""),
            Self::Queue => ("queue", ""),
            Self::LimiterUnreachable => ("limiter unreachable", ""),
            Self::NotInForce => ("quota not in force", ""),
            Self::NoFileDescriptor => ("no file descriptor", ""),
            Self::ProviderUnreachable => ("provider unreachable", ""),
            Self::Paused(reason) => ("paused: ", reason),
            Self::Rejected(reason) => ("rejected: ", reason),
        }
    }
}

/// Where records go.
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) counts: Counts,
    pub(crate) learned: Mutex<LearnedPatience>,
    pub(crate) events: broadcast::Sender<crate::Event>,
}

/// The record of a call that is under way; written when it is dropped.
pub(crate) struct Record {
    telemetry: Arc<Telemetry>,
    started: Instant,
    pub(crate) sent: Arc<AtomicU64>,
    attempts: Arc<AtomicU32>,
    /// Its client, where that is known.
    client: Option<ClientKind>,
    /// When its answer began.
    answer_begun: Option<Instant>,
    pub(crate) call: CallRecord,
}

impl Telemetry {
    /// Learns from a call of `client` whose answer began at `begun`, or whose client was gone by then.
    fn learn(&self, quota: &str, client: &ClientKind, started: Instant, begun: Option<Instant>, gone: bool) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let now = begun.unwrap_or_else(Instant::now);
        let age = now.saturating_duration_since(started);
        let name = client.name.as_str();
        if begun.is_some() {
            if learned.stayed(client, age, now) {
                self.metrics.learned_patience(quota, name, None);
                tracing::info!(quota, client = name, ?age, "clients wait longer than they were believed to");
            }
        } else if gone && let Some(patience) = learned.hung_up(client, age, now) {
            self.metrics.learned_patience(quota, name, Some(patience));
            tracing::warn!(
                quota,
                client = name,
                ?patience,
                "clients of this kind hang up at about this age, whatever timeout they announce; from now on their calls wait no longer than leaves time for an answer"
            );
        }
    }

    /// How long a client is believed to wait, at most what it announces.
    pub(crate) fn patience(&self, client: &ClientKind, announced: Option<Duration>) -> Option<Duration> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.believed(client, Instant::now()).into_iter().chain(announced).min()
    }
}

impl Record {
    pub(crate) fn new(
        telemetry: Arc<Telemetry>,
        endpoint: &QuotaEndpoint,
        method: &Method,
        path: &str,
    ) -> Self {
        telemetry.counts.begun();
        Self {
            telemetry,
            started: Instant::now(),
            sent: Arc::default(),
            attempts: Arc::default(),
            client: None,
            answer_begun: None,
            call: CallRecord {
                quota: Arc::clone(&endpoint.quota),
                provider: endpoint.provider.clone(),
                method: method.clone(),
                path: path.split('?').next().unwrap_or_default().to_owned(),
                shown_path: "*".to_owned(),
                class: CallClass::default(),
                max_output: None,
                usage: None,
                status: None,
                // Until something else is known: the future that serves a client is dropped when it hangs up.
                outcome: Outcome::ClientGone,
                bound: None,
                why: Why::NoWait,
                waited: Duration::ZERO,
                attempts: 0,
                sent_bytes: 0,
                answered_bytes: 0,
                duration: Duration::ZERO,
            },
        }
    }

    /// What others may see of its path.
    pub(crate) fn shows(&mut self, path: &str) {
        self.call.shown_path = path.to_owned();
    }

    /// Learns from the call how long its client waits.
    pub(crate) fn of_client(&mut self, client: Option<ClientKind>) {
        self.client = client;
    }

    /// The answer begins, with this status.
    pub(crate) fn answers(&mut self, status: u16) {
        self.call.status = Some(status);
        self.answer_begun = Some(Instant::now());
    }

    /// Counts what the answer has used, and that this is not known.
    pub(crate) fn used(&mut self, used: &Used) {
        let Used { usage, missing } = used;
        self.call.usage = *usage;
        let quota = &self.call.quota;
        if let Some(usage) = usage {
            self.telemetry.metrics.used(quota, usage);
        }
        if let Some(Missing { reason, is_news }) = missing {
            let word = reason.as_str();
            self.telemetry.metrics.usage_missing(quota, word);
            if *is_news {
                let path = &self.call.shown_path;
                tracing::warn!(%quota, %path, reason = word, "{}", UnknownCost::Told(*reason).in_words());
            }
        }
    }

    /// Where attempts are counted as they are written.
    pub(crate) fn attempts(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.attempts)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self { telemetry, started, sent, attempts, client, answer_begun, call } = self;
        call.duration = started.elapsed();
        call.sent_bytes = sent.load(Ordering::Relaxed);
        call.attempts = attempts.load(Ordering::Relaxed);
        let (why, word) = call.why.text();
        let whole = tracing::enabled!(target: "quotakeeper::access", tracing::Level::DEBUG);
        tracing::info!(
            target: "quotakeeper::access",
            provider = %call.provider,
            quota = %call.quota,
            method = %call.method,
            path = %if whole { &call.path } else { &call.shown_path },
            status = call.status,
            outcome = call.outcome.as_str(),
            why = %format_args!("{why}{word}"),
            waited_ms = millis(call.waited),
            attempts = call.attempts,
            sent_bytes = call.sent_bytes,
            answered_bytes = call.answered_bytes,
            duration_ms = millis(call.duration),
        );
        if let Some(client) = client {
            let gone = call.outcome == Outcome::ClientGone;
            telemetry.learn(&call.quota, client, *started, *answer_begun, gone);
        }
        if let Outcome::Refused(reason) = call.outcome {
            telemetry.metrics.decided(&call.quota, reason.as_str());
        }
        telemetry.metrics.waited(&call.quota, call.waited);
        telemetry.counts.ended(call);
        // Nobody needs to listen.
        let _heard = telemetry.events.send(crate::Event::Call(Arc::new(call.clone())));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
