//! One sending of a call, by one grant: a connection, the request, and what follows when there is no answer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use tokio::time::timeout;

use super::reconnect::{GiveUp, may_pass};
use super::relay::Answer;
use super::send_by::SendBy;
use super::wait::wait;
use super::{Call, Next, RECONNECT, Stop};
use crate::admission::{Ended, Permit};
use crate::clock;
use crate::local_response::LocalResponse;
use crate::record::Why;
use crate::upstream::write_permit::WritePermit;
use crate::upstream::{ConnectError, SendError};

/// How often one call is sent after failures; rejections of a quota do not count.
const ATTEMPTS: u32 = 2;

impl Call<'_> {
    /// Sends the call once, if its grant lasts until it can be written.
    pub(super) async fn attempt(&mut self, mut permit: Permit) -> Result<Next, Stop> {
        let context = self.context;
        let ready = context.upstreams.ready(&self.origin, self.protocols);
        let ready = match timeout(permit.remaining(), ready).await {
            Ok(Ok(ready)) => ready,
            // The connection is still being made; the next grant will use it.
            Err(_) => return self.unused(permit).await,
            Ok(Err(error)) => {
                drop(permit);
                return self.not_connected(&error).await;
            }
        };
        if self.has_expired() {
            return Err(Stop::Refused(SendBy::refused()));
        }
        let Some(body) = self.body.attempt(&self.record.sent) else {
            return Err(Stop::Failed(unreachable(
                "its body was too large to be buffered for a second attempt",
            )));
        };
        let request = Request::from_parts(self.head.clone(), body);
        let began = Instant::now();
        let write = Arc::new(Counted {
            permit: permit.write_permit(),
            send_by: self.send_by,
            once: Once::new(),
            sent: self.record.attempts(),
        });
        match ready.send(request, Arc::clone(&write) as Arc<dyn WritePermit>).await {
            Ok(response) => {
                let at = clock::now();
                write.count();
                let quota = &self.account.quota;
                context.telemetry.metrics.answered(quota, response.status().as_u16(), began.elapsed());
                self.classify(permit, at, Answer::new(response)).await
            }
            Err(SendError::Expired) if self.has_expired() => Err(Stop::Refused(SendBy::refused())),
            Err(SendError::Expired) => {
                let granted = permit.granted();
                wait(context, &self.account, &mut self.record, granted).await?;
                Ok(Next::Again(permit))
            }
            Err(SendError::Unwritten(error)) => self.closed_unwritten(permit, &error.to_string()).await,
            Err(error @ SendError::TooLarge) => {
                write.count();
                Err(Stop::Failed(unreachable(&error.to_string())))
            }
            Err(SendError::Written { source, unprocessed }) => {
                write.count();
                permit.end(if unprocessed { Ended::UNPROCESSED } else { Ended::default() });
                let (method, headers) = (&self.head.method, &self.head.headers);
                let safe = unprocessed || self.account.profile.may_resend(method, headers, None);
                if self.may_repeat(safe) {
                    return Ok(Next::Again(self.admit().await?));
                }
                Err(Stop::Failed(unreachable(&source.to_string())))
            }
        }
    }

    /// There is no connection to the provider: asks for another grant after a pause.
    async fn not_connected(&mut self, error: &ConnectError) -> Result<Next, Stop> {
        if error.is_shortage() {
            return self.later(error).await;
        }
        if self.context.unreachable.is_news() {
            tracing::warn!(quota = %self.account.quota, %error, "a provider can't be reached");
        }
        let (until, max_wait) = (self.last_try(), self.account.queue.max_wait);
        match self.reconnects.refused(Instant::now(), may_pass(error), until, max_wait) {
            Ok(pause) => self.after(pause, Why::ProviderUnreachable).await,
            Err(GiveUp) => Err(Stop::Failed(unreachable(&error.to_string()))),
        }
    }

    /// The connection closed before a byte was written.
    async fn closed_unwritten(&mut self, permit: Permit, error: &str) -> Result<Next, Stop> {
        let (until, max_wait) = (self.last_try(), self.account.queue.max_wait);
        match self.reconnects.closed(Instant::now(), until, max_wait) {
            Ok(Duration::ZERO) => self.unused(permit).await,
            Ok(pause) => {
                drop(permit);
                self.after(pause, Why::ProviderUnreachable).await
            }
            Err(GiveUp) => Err(Stop::Failed(unreachable(error))),
        }
    }

    /// Asks for another grant after a pause that is a part of the call's wait.
    async fn after(&mut self, pause: Duration, why: Why) -> Result<Next, Stop> {
        self.record.call.why = why;
        let account = Arc::clone(&self.account);
        let pause = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        wait(self.context, &account, &mut self.record, pause).await?;
        Ok(Next::Again(self.admit().await?))
    }

    /// Asks again a little later, for as long as the queue allows. A lack of file descriptors is this machine's
    /// problem, not the provider's, and calls that end free some.
    async fn later(&mut self, error: &ConnectError) -> Result<Next, Stop> {
        let context = self.context;
        if context.shortage.is_news() {
            tracing::warn!(quota = %self.account.quota, %error, "calls wait for a file descriptor");
        }
        if self.short_since.get_or_insert_with(Instant::now).elapsed() >= self.account.queue.max_wait {
            let message = format!("Quotakeeper's proxy could not send this call: {error}");
            let own = LocalResponse::new(StatusCode::SERVICE_UNAVAILABLE, "NoFileDescriptor", message);
            return Err(Stop::Failed(own));
        }
        self.after(RECONNECT, Why::NoFileDescriptor).await
    }

    /// Whether the call's signature or token is too old to be sent.
    fn has_expired(&self) -> bool {
        self.send_by.is_some_and(|send_by| send_by.has_passed(Instant::now()))
    }

    async fn unused(&mut self, mut permit: Permit) -> Result<Next, Stop> {
        let granted = permit.unused();
        wait(self.context, &self.account, &mut self.record, granted).await?;
        Ok(Next::Again(permit))
    }

    /// Whether a failed attempt may be followed by another; takes it out of the budget.
    pub(super) fn may_repeat(&mut self, safe: bool) -> bool {
        self.failures += 1;
        safe && self.failures < ATTEMPTS && self.body.is_whole() && self.account.spend()
    }
}

/// Counts an attempt when it is written, even if its client hangs up before the answer.
struct Counted {
    permit: Arc<dyn WritePermit>,
    send_by: Option<SendBy>,
    once: Once,
    sent: Arc<AtomicU32>,
}

impl Counted {
    fn count(&self) {
        self.once.call_once(|| {
            self.sent.fetch_add(1, Ordering::Relaxed);
        });
    }
}

impl WritePermit for Counted {
    fn may_write(&self) -> bool {
        let expired = self.send_by.is_some_and(|send_by| send_by.has_passed(Instant::now()));
        !expired && self.permit.may_write()
    }

    fn wrote(&self) {
        self.permit.wrote();
        self.count();
    }
}

fn unreachable(why: &str) -> LocalResponse {
    let message = format!("Quotakeeper's proxy got no answer from the provider: {why}");
    LocalResponse::new(StatusCode::BAD_GATEWAY, "ProviderUnreachable", message)
}
