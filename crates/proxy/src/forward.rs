//! The life of one call: described, admitted, sent once per grant, and its answer read before the client sees it.
//!
//! | the provider's answer | what the client sees |
//! |---|---|
//! | quota or concurrency rejection | nothing: the call waits for another grant; past its deadline our 429, which quotes the provider |
//! | none: the provider can't be reached, and not one byte was written | nothing: the call is tried again for as long as its client waits; then our 502 |
//! | capacity rejection, busy record, lost connection | the answer of a second attempt, where that is safe and the budget of repetitions (one call in five) allows; else the provider's own answer, or our 502 |
//! | terminal or oversize rejection, anything else | the provider's answer, unchanged |
//!
//! The client gets our 429 instead of the provider's because the limiter knows when a retry makes sense, while the
//! provider's Retry-After has passed by then. A body that was too large to buffer allows one attempt, whose answer
//! goes through.
//!
//! | room | holds |
//! |---|---|
//! | `attempt` | one sending by one grant, and what follows when there is no answer |
//! | `classify` | what an answer means |
//! | `links` | URLs in the heads of answers |
//! | `reconnect` | when a provider that could not be reached is tried again |
//! | `relay` | the answer on its way to the client |
//! | `send_by` | until when a signed call may be sent |
//! | `stream_watch` | rejections in the events of an answer |
//! | `trailer_watch` | rejections in the trailers of an answer |
//! | `usage` | the tokens that an answer has cost |
//! | `usage_request` | the usage of a stream that its client has not asked for |
//! | `wait` | how long a call has waited, and why |

mod attempt;
mod classify;
mod links;
mod reconnect;
mod relay;
mod send_by;
mod stream_watch;
mod trailer_watch;
mod usage;
mod usage_request;
mod wait;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use http::{Request, Response, StatusCode, Uri, header, request};
use hyper::body::Incoming;
use jiff::Timestamp;
use quotakeeper_dialects::profile::Profile;
use quotakeeper_engine::event::{CallClass, Fingerprint, RefusalReason};
use quotakeeper_engine::patience::longest_wait;
use quotakeeper_engine::tokens::CallSize;
use quotakeeper_wire::message::{CallDetails, NoticeKind};
use tokio::time::timeout;

use crate::account::Account;
use crate::admission::{AdmissionClient, Permit, Reason, Refused};
use crate::describe::{self, Describer, Description, Unreadable};
use crate::head::{self, SignedFields};
use crate::learned_patience::ClientKind;
use crate::listen::Closing;
use crate::local_response::{LocalResponse, ResponseBody};
use crate::quota_endpoint::QuotaEndpoint;
use crate::record::{Outcome, Record, Telemetry, WaitBound, Why};
use crate::replay::{ReplayBody, ReplayBuffer, STREAM_PAUSE};
use crate::route::Route;
use crate::upstream::{Origin, Protocols, Upstreams};
use links::BaseUrlView;
use reconnect::Reconnects;
use relay::{Answer, Reading, relay};
use send_by::SendBy;
use usage::{Asked, UsageTee};
use usage_request::Unwanted;
pub(crate) use wait::RareLog;
use wait::{Noted, stopping, wait};

/// Before a call is tried again that this machine or a busy record held up.
const RECONNECT: Duration = Duration::from_millis(250);
/// How long a call waits for its quota to come into force if its client's timeout is unknown …
const LONGEST_ABSENCE: Duration = Duration::from_secs(600);
/// … and its Retry-After then.
const ABSENT: Duration = Duration::from_secs(5);

/// A body of unknown length that decides the model may pause this long before it is sent as a stream.
const PATIENT_PAUSE: Duration = Duration::from_secs(5);

/// What all calls share.
pub(crate) struct ProxyContext {
    pub(crate) endpoints: Vec<Arc<QuotaEndpoint>>,
    pub(crate) admission: AdmissionClient,
    pub(crate) upstreams: Upstreams,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) bodies: ReplayBuffer,
    pub(crate) describer: Describer,
    pub(crate) shortage: RareLog,
    pub(crate) unread: RareLog,
    pub(crate) unreachable: RareLog,
    pub(crate) closing: Closing,
}

/// A call under way.
struct Call<'a> {
    context: &'a ProxyContext,
    account: Arc<Account>,
    origin: Origin,
    /// How its client sees the provider, if by base URL.
    base_url: Option<BaseUrlView>,
    protocols: Protocols,
    head: request::Parts,
    body: ReplayBody,
    engine_class: CallClass,
    /// The request wants an event stream.
    stream: bool,
    /// What its tokens are estimated from; none where no limit counts them.
    size: Option<CallSize>,
    /// What it costs in the provider's own units, or what is held until its answer tells.
    credits: u64,
    /// What its stream holds because the request asks for it on our behalf.
    unwanted: Option<Unwanted>,
    arrived: Instant,
    /// Of the credential that the request carries.
    credential: Fingerprint,
    /// When the client gives up.
    deadline: Option<Instant>,
    /// When its signature or token is too old.
    send_by: Option<SendBy>,
    failures: u32,
    reconnects: Reconnects,
    /// Since when it can't be sent for want of a file descriptor.
    short_since: Option<Instant>,
    /// The provider's reason in its last rejection.
    rejection: Option<String>,
    record: Record,
}

/// Why the call gets no answer of the provider.
enum Stop {
    Refused(Refused),
    Failed(LocalResponse),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What follows an attempt.
enum Next {
    Answer(Box<Answer>),
    /// With the grant that the permit holds.
    Again(Permit),
}

/// The fields that the client has signed and the provider gets.
fn signed_fields(head: &request::Parts, path: &str, by_base_url: bool) -> SignedFields {
    let signed = SignedFields::of(&head.headers, path);
    // By base URL it names the proxy.
    if by_base_url { signed.without(&header::HOST) } else { signed }
}

/// Serves one call.
pub(crate) async fn forward(
    context: &ProxyContext,
    route: Route,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let Route { endpoint, origin, path } = route;
    let (arrived, now) = (Instant::now(), Timestamp::now());
    let mut record = Record::new(Arc::clone(&context.telemetry), &endpoint, request.method(), &path);
    let account = match in_force(context, &endpoint, request.headers(), &mut record).await {
        Ok(account) => account,
        Err(own) => return refuse(record, own),
    };
    record.shows(account.profile.shown_path(request.method(), &path));
    let base_url = origin.is_none().then(|| BaseUrlView::new(&endpoint.provider, named_host(&request)));
    let Some(origin) = origin.or_else(|| account.upstream.clone()) else {
        let what = format!("{} has no base URL; call its hosts", endpoint.provider);
        return refuse(record, bad_request(&what));
    };
    let protocols = Protocols::of(request.version());
    let (mut head, body) = request.into_parts();
    let patience = believed_patience(context, &account, &head.headers, &mut record);
    let send_by = SendBy::of(&account.profile, &path, &head.headers, arrived, now);
    let signed = signed_fields(&head, &path, base_url.is_some());
    let is_signed = !signed.is_empty();
    head::for_upstream(&mut head.headers, &origin.authority(), signed);
    head::mark_credentials(&mut head.headers, &account.profile);
    match format!("{}://{}{path}", origin.scheme(), origin.authority()).parse::<Uri>() {
        // `OPTIONS *` asks a server of no resource; behind a host, the asterisk would be a part of its name.
        Ok(_) if !path.starts_with('/') => return refuse(record, bad_request("it names no path")),
        Ok(uri) => head.uri = uri,
        Err(error) => return refuse(record, bad_request(&format!("the path is no path ({error})"))),
    }
    let mut body = match buffered(context, &account, &head, &path, body).await {
        Ok(body) => body,
        Err(own) => return refuse(record, own),
    };
    let description = described(context, &account, &head, &path, describe::Body::of(&body)).await;
    let unsigned = description.usage_request.filter(|_| !is_signed);
    let unwanted = unsigned.and_then(|asked| Unwanted::ask(&account.profile, &mut head, &mut body, asked));
    account.earn();
    let engine_class = account.engine_class(&description.shape);
    record.call.class = engine_class.clone();
    record.call.max_output = description.max_output_tokens;
    let call = Call {
        context,
        engine_class,
        credential: context.admission.fingerprint(account.profile.credential(&head.headers)),
        account,
        origin,
        base_url,
        protocols,
        head,
        body,
        stream: description.stream,
        size: description.size,
        credits: description.credits,
        unwanted,
        arrived,
        deadline: patience.and_then(|patience| arrived.checked_add(patience)),
        send_by,
        failures: 0,
        reconnects: Reconnects::default(),
        short_since: None,
        rejection: None,
        record,
    };
    call.serve().await
}

/// The host and port that a request names.
fn named_host(request: &Request<Incoming>) -> Option<&str> {
    let host = || request.headers().get(header::HOST)?.to_str().ok();
    request.uri().authority().map(Authority::as_str).or_else(host)
}

/// How long the client waits for its answer: what it announces, unless its like has hung up sooner.
fn believed_patience(
    context: &ProxyContext,
    account: &Account,
    headers: &http::HeaderMap,
    record: &mut Record,
) -> Option<Duration> {
    let announced = account.profile.patience(headers);
    let client = ClientKind::of(headers, announced);
    let believed = client.as_ref().map(|client| context.telemetry.patience(client, announced));
    record.of_client(client);
    believed.unwrap_or(announced)
}

/// The request's body, as far as it is buffered.
async fn buffered(
    context: &ProxyContext,
    account: &Account,
    head: &request::Parts,
    path: &str,
    body: Incoming,
) -> Result<ReplayBody, LocalResponse> {
    let stream_pause = match account.profile.body_reader(&head.method, path, &head.headers, account.measure) {
        // It is read to its end: the provider can't answer before that either.
        Some(_) => PATIENT_PAUSE,
        None => STREAM_PAUSE,
    };
    let buffered = context.bodies.buffer(body, stream_pause).await;
    buffered.map_err(|error| bad_request(&format!("the body broke off ({error})")))
}

/// What the request calls.
async fn described(
    context: &ProxyContext,
    account: &Account,
    head: &request::Parts,
    path: &str,
    body: describe::Body,
) -> Description {
    let description = context.describer.describe(&account.profile, head, path, body, account.measure).await;
    if let Some(reason) = description.unreadable {
        unreadable(context, account, &head.method, path, reason);
    }
    if let Some(tokens) = description.max_output_tokens {
        context.telemetry.metrics.max_output_tokens(&account.quota, tokens);
    }
    unknown_costs(account, path, &description);
    description
}

/// Logs the first calls of a kind whose cost is not known before their answers, where a person can change that.
fn unknown_costs(account: &Account, path: &str, description: &Description) {
    let class = account.engine_class(&description.shape);
    let quota = &account.quota;
    let path = path.split('?').next().unwrap_or_default();
    for why in account.unknown_costs(&class, description.size) {
        if !account.logged_costs.is_news(&class, why) {
            continue;
        }
        let model = class.model.as_deref().unwrap_or_default();
        tracing::warn!(%quota, path, model, "{}", why.in_words());
    }
}

/// Counts a request whose model is not known, logs it, and tells the limiter.
fn unreadable(
    context: &ProxyContext,
    account: &Account,
    method: &http::Method,
    path: &str,
    reason: Unreadable,
) {
    let quota = &account.quota;
    let path = path.split('?').next().unwrap_or_default();
    context.telemetry.metrics.unreadable(quota, reason.as_str());
    let detail = format!("{method} {path}: its body {}", reason.in_words());
    context.admission.notice(account.index, NoticeKind::UnreadableRequest, detail);
    if context.unread.is_news() {
        tracing::warn!(%quota, path, reason = reason.as_str(), "a request's model is not known; it waits for all models and is charged to each");
    }
}

/// The account in force, for as long as the client waits for it.
async fn in_force(
    context: &ProxyContext,
    endpoint: &QuotaEndpoint,
    headers: &http::HeaderMap,
    record: &mut Record,
) -> Result<Arc<Account>, LocalResponse> {
    if let Some(account) = endpoint.account() {
        return Ok(account);
    }
    record.call.why = Why::NotInForce;
    let waits = Noted::begin(context, &endpoint.quota, record);
    // The provider's profile, which knows more of its clients, isn't known either.
    let patience = Profile::default().patience(headers);
    let longest = patience.map_or(LONGEST_ABSENCE, longest_wait);
    let found = tokio::select! {
        found = timeout(longest, endpoint.in_force()) => found.map_err(|_| {
            Refused { reason: Reason::NotInForce, retry_after: Some(ABSENT), words: None }
        }),
        () = context.closing.begun() => Err(stopping()),
    };
    drop(waits);
    found.map_err(|refused| {
        record.call.outcome = Outcome::Refused(refused.reason);
        LocalResponse::refused(refused, &endpoint.quota, None, Timestamp::now()).because(&endpoint.absence())
    })
}

fn bad_request(what: &str) -> LocalResponse {
    let message = format!("Quotakeeper's proxy can't pass this request on: {what}");
    LocalResponse::new(StatusCode::BAD_REQUEST, "BadRequest", message)
}

fn refuse(mut record: Record, own: LocalResponse) -> Response<ResponseBody> {
    record.answers(own.status.as_u16());
    own.into_response()
}

impl Call<'_> {
    async fn serve(mut self) -> Response<ResponseBody> {
        let (own, outcome) = match self.attempts().await {
            Ok(mut answer) => {
                if let Some(view) = &self.base_url {
                    view.rewrite(&mut answer.head.headers, &self.origin);
                }
                let reading = Reading { tee: self.usage_tee(&answer), unwanted: self.unwanted.take() };
                return relay(answer, self.record, reading);
            }
            Err(Stop::Refused(refused)) => {
                let reason = refused.reason;
                let rejection = self.rejection.as_deref();
                let own = LocalResponse::refused(refused, &self.account.quota, rejection, Timestamp::now());
                let why = self.send_by.and_then(|send_by| send_by.explains(reason, self.last_try()));
                let own = match (why, self.bound(reason)) {
                    (Some(why), _) => own.because(why),
                    (None, Some(bound)) => {
                        self.record.call.bound = Some(bound);
                        own.bounded(bound)
                    }
                    (None, None) => own,
                };
                (own, Outcome::Refused(reason))
            }
            Err(Stop::Failed(own)) => (own, Outcome::Unreachable),
        };
        self.record.call.outcome = outcome;
        refuse(self.record, own)
    }

    fn usage_tee(&self, answer: &Answer) -> Option<UsageTee> {
        let path = self.head.uri.path();
        let asked = Asked { class: &self.engine_class, size: self.size, path, stream: self.stream };
        UsageTee::new(&self.account, &asked, answer.head.status, &answer.head.headers)
    }

    async fn attempts(&mut self) -> Result<Answer, Stop> {
        let mut permit = self.admit().await?;
        self.context.telemetry.metrics.decided(&self.account.quota, "granted");
        loop {
            match self.attempt(permit).await? {
                Next::Answer(answer) => return Ok(*answer),
                Next::Again(again) => permit = again,
            }
        }
    }

    /// Until when it makes sense to send the call: its client leaves the provider some time to answer.
    fn last_try(&self) -> Option<Instant> {
        let patience = self.deadline?.saturating_duration_since(self.arrived);
        self.arrived.checked_add(longest_wait(patience))
    }

    /// What kept the call from waiting longer, if it is refused for `reason`.
    fn bound(&self, reason: Reason) -> Option<WaitBound> {
        use RefusalReason::{WaitExceeded, WaitTooLong};
        if !matches!(reason, Reason::Limiter(WaitTooLong | WaitExceeded)) {
            return None;
        }
        let queue = self.account.queue.max_wait;
        let client = self.deadline.map(|at| at.saturating_duration_since(self.arrived));
        let by_client = client.filter(|patience| longest_wait(*patience) <= queue);
        Some(by_client.map_or(WaitBound::Queue(queue), WaitBound::Client))
    }

    /// Asks for a first grant, or for one after an attempt that may have reached the provider.
    async fn admit(&mut self) -> Result<Permit, Refused> {
        let now = Instant::now();
        let left = self.deadline.map(|at| at.saturating_duration_since(now));
        let left = left.into_iter().chain(self.send_by.map(|send_by| send_by.patience(now))).min();
        let account = Arc::clone(&self.account);
        let credential = self.credential;
        let details = CallDetails {
            credential,
            size: self.size,
            credits: self.credits,
            ..self.engine_class.clone().into()
        };
        let asked = self.context.admission.admit(account.index, details, left, account.queue);
        wait(self.context, &self.account, &mut self.record, asked).await
    }
}
