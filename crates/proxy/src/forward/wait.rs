//! How long a call has waited and why, for its record and the gauges.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::ProxyContext;
use crate::account::Account;
use crate::admission::{Reason, Refused};
use crate::record::{Record, Why};

/// Who is granted sooner has not waited.
const NO_WAIT: Duration = Duration::from_millis(5);
/// When a call may find another proxy than the one that stops.
const NEXT_PROXY: Duration = Duration::from_secs(1);
/// How often what many calls run into is logged.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// Waits for a grant and notes how long and why.
pub(super) async fn wait<T>(
    context: &ProxyContext,
    account: &Account,
    record: &mut Record,
    granted: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let mut noted = Noted::begin(context, &account.quota, record);
    let mut granted = std::pin::pin!(granted);
    if let Ok(at_once) = timeout(NO_WAIT, &mut granted).await {
        return at_once;
    }
    noted.why(context, account);
    tokio::select! {
        biased;
        granted = granted => granted,
        () = context.closing.begun() => Err(stopping()),
    }
}

/// Why calls that wait while the proxy stops are refused: nothing would come of their waiting.
pub(super) fn stopping() -> Refused {
    Refused { reason: Reason::ProxyStopping, retry_after: Some(NEXT_PROXY), words: None }
}

/// A call that waits, until it is dropped: also when its client hangs up meanwhile.
pub(super) struct Noted<'a> {
    record: &'a mut Record,
    gauge: prometheus_client::metrics::gauge::Gauge<i64, std::sync::atomic::AtomicI64>,
    since: Instant,
}

impl<'a> Noted<'a> {
    pub(super) fn begin(context: &ProxyContext, quota: &str, record: &'a mut Record) -> Self {
        let gauge = context.telemetry.metrics.waiting(quota);
        gauge.inc();
        Self { record, gauge, since: Instant::now() }
    }

    fn why(&mut self, context: &ProxyContext, account: &Account) {
        let why = &mut self.record.call.why;
        if matches!(why, Why::NoWait | Why::Queue) {
            *why = match context.admission.pause_of(account.index) {
                _ if !context.admission.is_connected() => Why::LimiterUnreachable,
                Some(reason) => Why::Paused(reason),
                None => Why::Queue,
            };
        }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
        self.record.call.waited += self.since.elapsed();
    }
}

/// When something was last logged that many calls run into, some repeatedly.
#[derive(Default)]
pub(crate) struct RareLog(Mutex<Option<Instant>>);

impl RareLog {
    pub(crate) fn is_news(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN);
        if news {
            *told = Some(Instant::now());
        }
        news
    }
}
