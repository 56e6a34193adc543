//! What an answer means for the call, and for all that wait: read before the client sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use quotakeeper_dialects::profile::Class;
use quotakeeper_dialects::{Head, Reading, Verdict};
use quotakeeper_engine::event::{CallClass, Fingerprint, Rejection};
use quotakeeper_engine::time::Stamp;
use quotakeeper_wire::message::NoticeKind;

use super::relay::Answer;
use super::stream_watch::StreamWatch;
use super::trailer_watch::TrailerWatch;
use super::wait::wait;
use super::{Call, Next, RECONNECT, Stop};
use crate::account::{Account, engine_observations, engine_rejection};
use crate::admission::{Ended, Permit};
use crate::coding;
use crate::record::Why;

/// The longest wait for a busy record.
const LONGEST_LOCK: Duration = Duration::from_secs(2);

impl Call<'_> {
    /// Reads what the answer, begun at `at`, means, and reports it to the limiter.
    pub(super) async fn classify(
        &mut self,
        mut permit: Permit,
        at: Stamp,
        mut answer: Answer,
    ) -> Result<Next, Stop> {
        let (status, reading) = read(&self.account, &self.engine_class, self.stream, &mut answer).await;
        if let Some(other) = self.account.another_organization(&reading) {
            self.of_another_organization(other, status);
            // It says nothing of this account: a probe has learned nothing by it either.
            return Ok(Next::Answer(Box::new(answer.under(permit))));
        }
        let observations = engine_observations(reading.observations);
        let Verdict::Rejected { class, scope, shared_with, wait: pause, reason } = reading.verdict else {
            permit.first_byte(at, observations);
            return Ok(Next::Answer(Box::new(answer.under(permit))));
        };
        let advised_against = reading.retry_advice == Some(false);
        let (method, headers) = (&self.head.method, &self.head.headers);
        let safe = !advised_against && self.account.profile.may_resend(method, headers, Some(status));
        let rejection =
            engine_rejection(class, &scope, shared_with, pause, &reason, &self.account, &self.engine_class);
        let organization = reading.organization.as_deref().map(str::as_bytes);
        let organization = organization.map(|name| self.context.admission.fingerprint(Some(name)));
        let organization = organization.filter(|fingerprint| *fingerprint != Fingerprint::default());
        let rejection = rejection.map(|rejection| Rejection { organization, ..rejection });
        let again = match class {
            // With the bypass on, it would be sent again at once, and again.
            Class::Quota | Class::Concurrency => {
                !advised_against && self.body.is_whole() && !self.account.bypass && !permit.bypasses()
            }
            Class::Capacity | Class::Lock => self.may_repeat(safe),
            Class::Terminal | Class::Oversize | Class::Partial => false,
        };
        let Some(rejection) = rejection else {
            permit.first_byte(at, observations);
            if !again {
                return Ok(Next::Answer(Box::new(answer.under(permit))));
            }
            answer.drain();
            permit.end(Ended::UNPROCESSED);
            tokio::time::sleep(pause.unwrap_or(RECONNECT).min(LONGEST_LOCK)).await;
            return Ok(Next::Again(self.admit().await?));
        };
        if !again {
            permit.rejected_finally(at, observations, rejection);
            return Ok(Next::Answer(Box::new(answer.under(permit))));
        }
        answer.drain();
        if matches!(class, Class::Quota | Class::Concurrency) {
            self.context.telemetry.counts.forced();
        }
        self.record.call.why = Why::Rejected(reason.clone());
        self.rejection = Some(reason);
        let granted = permit.rejected(at, observations, rejection);
        wait(self.context, &self.account, &mut self.record, granted).await?;
        Ok(Next::Again(permit))
    }

    /// Counts an answer of another account, logs the first, and tells the limiter.
    fn of_another_organization(&self, other: &str, status: StatusCode) {
        let (account, context) = (&self.account, self.context);
        let quota = &account.quota;
        context.telemetry.metrics.another_organization(quota);
        let said = format!("An answer with status {} names the organisation {other}", status.as_u16());
        context.admission.notice(account.index, NoticeKind::AnotherOrganization, said.clone());
        if !account.logged_organization.swap(true, Ordering::Relaxed) {
            tracing::warn!(%quota, "{said}, which is not the quota's; what such answers say of limits and rejections is ignored; call with a key of the quota's account, or correct its `account.organization`");
        }
    }
}

/// What the answer says, and the status that it stands for: of an event stream by its first events, of gRPC by its
/// trailers. `stream`: the request wants an event stream.
async fn read(
    account: &Arc<Account>,
    class: &CallClass,
    stream: bool,
    answer: &mut Answer,
) -> (StatusCode, Reading) {
    let profile = &account.profile;
    let status = answer.status();
    let watch = StreamWatch::new(account, class, status, &answer.head.headers, stream);
    if let Some(watch) = watch
        && let Some(rejection) = answer.read_first_event(watch).await
    {
        return (rejection.status, rejection.reading);
    }
    let watch = TrailerWatch::new(account, class, status, &answer.head.headers);
    let grpc = watch.is_some();
    if let Some(watch) = watch
        && let Some(rejection) = answer.read_first_message(watch).await
    {
        return (rejection.status, rejection.reading);
    }
    let endpoint = class.endpoint.as_deref();
    // Messages of gRPC are no text.
    if !grpc && profile.needs_body(Head { status, headers: &answer.head.headers, endpoint }) {
        answer.read_beginning().await;
    }
    let headers = &answer.head.headers;
    let body = coding::decoded(headers, &answer.beginning);
    let body = body.as_deref().filter(|body| !body.is_empty() && !grpc);
    (status, profile.read(Head { status, headers, endpoint }, body, Timestamp::now()))
}
