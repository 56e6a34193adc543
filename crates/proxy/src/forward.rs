//! The life of one call: described, admitted, sent once per grant, and its answer read before the client sees it.
//!
//! | the provider says | the client sees |
//! |---|---|
//! | quota or concurrency rejection | nothing: the call waits for another grant; past its deadline our 429, which quotes the provider |
//! | capacity rejection, busy record, lost connection | the answer of a second attempt, where that is safe and the budget of repetitions (one call in five) allows; else the provider's own answer, or our 502 |
//! | terminal or oversize rejection, anything else | the provider's answer, unchanged |
//!
//! Our 429 and not the provider's: by then the limiter knows when a try makes sense, while the provider's
//! Retry-After has passed. Where the body was too large to keep, there is one attempt and the provider's answer
//! goes through.

mod relay;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, Version, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use quotakeeper_dialects::patience::PATIENCE_HEADER;
use quotakeeper_dialects::profile::{Class, Profile};
use quotakeeper_dialects::request::CallShape;
use quotakeeper_dialects::{Reading, Verdict};
use quotakeeper_engine::event::Shape;
use tokio::time::timeout;

use crate::account::{Account, engine_observations, engine_rejection};
use crate::answer::{AnswerBody, Own};
use crate::gate::{Gate, Permit, Reason, Refused};
use crate::head;
use crate::kept::{Keep, Kept};
use crate::place::Place;
use crate::record::{Books, Outcome, Record, Why};
use crate::route::Route;
use crate::upstream::turn::Turn;
use crate::upstream::{ConnectError, Origin, Protocols, SendError, Upstreams};
use crate::{clock, coding};
use relay::{Answer, relay};

/// Who is granted sooner has not waited.
const NO_WAIT: Duration = Duration::from_millis(5);
/// Between a failed connection and the next try.
const RECONNECT: Duration = Duration::from_millis(250);
/// How often a shortage of file descriptors is told.
const TOLD_AGAIN: Duration = Duration::from_secs(30);
/// How often one call is sent, or its connection tried, after failures; rejections of a quota do not count.
const ATTEMPTS: u32 = 2;
/// Connections that turn out closed before a byte was written are replaced this often.
const REPLACEMENTS: u32 = 8;
/// How long a call whose client's patience is unknown waits for its quota to come into force …
const LONGEST_ABSENCE: Duration = Duration::from_secs(600);
/// … and when another try makes sense after that.
const ABSENT: Duration = Duration::from_secs(5);
/// The longest wait for a busy record.
const LONGEST_LOCK: Duration = Duration::from_secs(2);

/// What all calls share.
pub(crate) struct Core {
    pub(crate) places: Vec<Arc<Place>>,
    pub(crate) gate: Gate,
    pub(crate) upstreams: Upstreams,
    pub(crate) books: Arc<Books>,
    pub(crate) keep: Keep,
    pub(crate) shortage: Shortage,
}

/// A call under way.
struct Call<'a> {
    core: &'a Core,
    account: Arc<Account>,
    origin: Origin,
    protocols: Protocols,
    head: request::Parts,
    body: Kept,
    shape: CallShape,
    engine_shape: Shape,
    /// When the client gives up.
    deadline: Option<Instant>,
    failures: u32,
    replacements: u32,
    /// Since when it can't be sent for want of a file descriptor.
    short_since: Option<Instant>,
    /// The provider's word in its last rejection.
    said: Option<String>,
    record: Record,
}

/// The call gets no answer of the provider.
enum Stop {
    Refused(Refused),
    Failed(Own),
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

/// Serves one call.
pub(crate) async fn forward(core: &Core, route: Route, request: Request<Incoming>) -> Response<AnswerBody> {
    let Route { place, origin, path } = route;
    let arrived = Instant::now();
    let mut record = Record::new(Arc::clone(&core.books), &place, request.method(), &path);
    let account = match in_force(&place, request.headers(), &mut record).await {
        Ok(account) => account,
        Err(own) => return refuse(record, own),
    };
    let Some(origin) = origin.or_else(|| account.upstream.clone()) else {
        let what = format!("{} has no base URL; call its hosts", place.provider);
        return refuse(record, bad_request(&what));
    };
    let protocols = match request.version() {
        Version::HTTP_2 => Protocols::Http2First,
        _ => Protocols::Http1,
    };
    let (mut head, body) = request.into_parts();
    let patience = account.profile.patience(&head.headers);
    head.headers.remove(PATIENCE_HEADER);
    head::for_upstream(&mut head.headers, &origin.authority());
    match format!("{}://{}{path}", origin.scheme(), origin.authority()).parse::<Uri>() {
        Ok(uri) => head.uri = uri,
        Err(error) => return refuse(record, bad_request(&format!("the path is no path ({error})"))),
    }
    let body = match core.keep.take(body).await {
        Ok(body) => body,
        Err(error) => return refuse(record, bad_request(&format!("the body broke off ({error})"))),
    };
    let shape = account.profile.describe(&head.method, &path, Some(body.start()));
    let engine_shape = account.engine_shape(&shape);
    account.earn();
    let call = Call {
        core,
        account,
        origin,
        protocols,
        head,
        body,
        shape,
        engine_shape,
        deadline: patience.and_then(|patience| arrived.checked_add(patience)),
        failures: 0,
        replacements: 0,
        short_since: None,
        said: None,
        record,
    };
    call.serve().await
}

/// The account in force, for as long as the client waits for it.
async fn in_force(
    place: &Place,
    headers: &http::HeaderMap,
    record: &mut Record,
) -> Result<Arc<Account>, Own> {
    if let Some(account) = place.account() {
        return Ok(account);
    }
    record.call.why = Why::NotInForce;
    let since = Instant::now();
    // The provider's profile, which knows more of its clients, isn't known either.
    let patience = Profile::default().patience(headers);
    let longest = patience.map_or(LONGEST_ABSENCE, |patience| patience * 4 / 5);
    let found = timeout(longest, place.in_force()).await;
    record.call.waited += since.elapsed();
    found.map_err(|_| {
        let reason = Reason::NotInForce;
        record.call.outcome = Outcome::Refused(reason);
        let refused = Refused { reason, retry_after: Some(ABSENT) };
        Own::refused(refused, &place.quota, None).because(&place.why_not())
    })
}

fn bad_request(what: &str) -> Own {
    let message = format!("Quotakeeper's proxy can't pass this request on: {what}");
    Own::new(StatusCode::BAD_REQUEST, "BadRequest", message)
}

fn refuse(mut record: Record, own: Own) -> Response<AnswerBody> {
    record.call.status = Some(own.status.as_u16());
    own.into_response()
}

impl Call<'_> {
    async fn serve(mut self) -> Response<AnswerBody> {
        let (own, outcome) = match self.attempts().await {
            Ok(answer) => return relay(answer, self.record),
            Err(Stop::Refused(refused)) => {
                let own = Own::refused(refused, &self.account.quota, self.said.as_deref());
                (own, Outcome::Refused(refused.reason))
            }
            Err(Stop::Failed(own)) => (own, Outcome::Unreachable),
        };
        self.record.call.outcome = outcome;
        refuse(self.record, own)
    }

    async fn attempts(&mut self) -> Result<Answer, Stop> {
        let mut permit = self.admit().await?;
        self.core.books.metrics.decided(&self.account.quota, "granted");
        loop {
            match self.attempt(permit).await? {
                Next::Answer(answer) => return Ok(*answer),
                Next::Again(again) => permit = again,
            }
        }
    }

    /// Asks for a first grant, or for one after an attempt that may have reached the provider.
    async fn admit(&mut self) -> Result<Permit, Refused> {
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let account = Arc::clone(&self.account);
        let shape = self.engine_shape.clone();
        let asked = self.core.gate.admit(account.index, shape, left, account.max_wait);
        wait(self.core, &self.account, &mut self.record, asked).await
    }

    async fn attempt(&mut self, mut permit: Permit) -> Result<Next, Stop> {
        let core = self.core;
        let ready = core.upstreams.ready(&self.origin, self.protocols);
        let ready = match timeout(permit.remaining(), ready).await {
            Ok(Ok(ready)) => ready,
            // The connection goes on being made; the next grant finds it.
            Err(_) => return self.unused(permit).await,
            Ok(Err(error)) if error.is_shortage() => {
                drop(permit);
                return self.later(&error).await;
            }
            Ok(Err(error)) => {
                self.failures += 1;
                tracing::warn!(quota = %self.account.quota, %error, "a provider can't be reached");
                if self.failures >= ATTEMPTS {
                    return Err(Stop::Failed(unreachable(&error.to_string())));
                }
                drop(permit);
                tokio::time::sleep(RECONNECT).await;
                return Ok(Next::Again(self.admit().await?));
            }
        };
        let Some(body) = self.body.attempt(&self.record.sent) else {
            return Err(Stop::Failed(unreachable("its body was too large to be kept for another try")));
        };
        let request = Request::from_parts(self.head.clone(), body);
        let began = Instant::now();
        let turn = Arc::new(Counted { turn: permit.turn(), once: Once::new(), sent: self.record.attempts() });
        match ready.send(request, Arc::clone(&turn) as Arc<dyn Turn>).await {
            Ok(response) => {
                let at = clock::now();
                turn.count();
                let quota = &self.account.quota;
                core.books.metrics.answered(quota, response.status().as_u16(), began.elapsed());
                self.judge(permit, at, Answer::new(response)).await
            }
            Err(SendError::Expired) => {
                let granted = permit.granted();
                wait(core, &self.account, &mut self.record, granted).await?;
                Ok(Next::Again(permit))
            }
            Err(SendError::Unwritten(error)) => {
                self.replacements += 1;
                if self.replacements > REPLACEMENTS {
                    return Err(Stop::Failed(unreachable(&error.to_string())));
                }
                self.unused(permit).await
            }
            Err(error @ SendError::TooLarge) => {
                turn.count();
                Err(Stop::Failed(unreachable(&error.to_string())))
            }
            Err(SendError::Written { source, unprocessed }) => {
                turn.count();
                drop(permit);
                let (method, headers) = (&self.head.method, &self.head.headers);
                let safe = unprocessed || self.account.profile.may_resend(method, headers, None);
                if self.may_repeat(safe) {
                    return Ok(Next::Again(self.admit().await?));
                }
                Err(Stop::Failed(unreachable(&source.to_string())))
            }
        }
    }

    /// Asks again a little later, as long as the queue lets a call wait: what this machine is short of says nothing
    /// about the provider, and calls that end leave some of it.
    async fn later(&mut self, error: &ConnectError) -> Result<Next, Stop> {
        let core = self.core;
        if core.shortage.is_news() {
            tracing::warn!(quota = %self.account.quota, %error, "calls wait for a file descriptor");
        }
        if self.short_since.get_or_insert_with(Instant::now).elapsed() >= self.account.max_wait {
            let message = format!("Quotakeeper's proxy could not send this call: {error}");
            let own = Own::new(StatusCode::SERVICE_UNAVAILABLE, "NoFileDescriptor", message);
            return Err(Stop::Failed(own));
        }
        self.record.call.why = Why::NoFileDescriptor;
        let account = Arc::clone(&self.account);
        let pause = async {
            tokio::time::sleep(RECONNECT).await;
            Ok(())
        };
        wait(core, &account, &mut self.record, pause).await?;
        Ok(Next::Again(self.admit().await?))
    }

    async fn unused(&mut self, mut permit: Permit) -> Result<Next, Stop> {
        let granted = permit.unused();
        wait(self.core, &self.account, &mut self.record, granted).await?;
        Ok(Next::Again(permit))
    }

    /// Whether a failed attempt may be followed by another; takes it out of the budget.
    fn may_repeat(&mut self, safe: bool) -> bool {
        self.failures += 1;
        safe && self.failures < ATTEMPTS && self.body.is_whole() && self.account.spend()
    }

    /// Reads what the answer, begun at `at`, means, and tells the limiter.
    async fn judge(
        &mut self,
        mut permit: Permit,
        at: quotakeeper_engine::time::Stamp,
        mut answer: Answer,
    ) -> Result<Next, Stop> {
        let reading = read(&self.account, &self.shape, &mut answer).await;
        let observations = engine_observations(reading.observations);
        let Verdict::Rejected { class, scope, wait: pause, reason } = reading.verdict else {
            permit.first_byte(at, observations);
            return Ok(Next::Answer(Box::new(answer.under(permit))));
        };
        let status = answer.status();
        let advised_against = reading.retry_advice == Some(false);
        let (method, headers) = (&self.head.method, &self.head.headers);
        let safe = !advised_against && self.account.profile.may_resend(method, headers, Some(status));
        let rejection = engine_rejection(class, &scope, pause, &reason, &self.engine_shape);
        let again = match class {
            // Through an open gate it would come back at once, again and again.
            Class::Quota | Class::Concurrency => {
                !advised_against && self.body.is_whole() && !self.account.open && !permit.passed()
            }
            Class::Capacity | Class::Lock => self.may_repeat(safe),
            Class::Terminal | Class::Oversize => false,
        };
        let Some(rejection) = rejection else {
            permit.first_byte(at, observations);
            if !again {
                return Ok(Next::Answer(Box::new(answer.under(permit))));
            }
            answer.drain();
            drop(permit);
            tokio::time::sleep(pause.unwrap_or(RECONNECT).min(LONGEST_LOCK)).await;
            return Ok(Next::Again(self.admit().await?));
        };
        if !again {
            permit.rejected_finally(at, observations, rejection);
            return Ok(Next::Answer(Box::new(answer.under(permit))));
        }
        answer.drain();
        if matches!(class, Class::Quota | Class::Concurrency) {
            self.core.books.counts.forced();
        }
        self.record.call.why = Why::Rejected(reason.clone());
        self.said = Some(reason);
        let granted = permit.rejected(at, observations, rejection);
        wait(self.core, &self.account, &mut self.record, granted).await?;
        Ok(Next::Again(permit))
    }
}

async fn read(account: &Account, shape: &CallShape, answer: &mut Answer) -> Reading {
    let profile = &account.profile;
    if profile.needs_body(answer.head.status, &answer.head.headers) {
        answer.read_beginning().await;
    }
    let head = &answer.head;
    let body = coding::decoded(&head.headers, &answer.beginning);
    let body = body.as_deref().filter(|body| !body.is_empty());
    profile.read(head.status, &head.headers, body, shape, Timestamp::now())
}

/// Counts an attempt when it is written, even if its client is gone before anything else is known.
struct Counted {
    turn: Arc<dyn Turn>,
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

impl Turn for Counted {
    fn may_write(&self) -> bool {
        self.turn.may_write()
    }

    fn wrote(&self) {
        self.turn.wrote();
        self.count();
    }
}

/// Waits for a grant and notes how long and why.
async fn wait<T>(
    core: &Core,
    account: &Account,
    record: &mut Record,
    granted: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let gauge = core.books.metrics.waiting(&account.quota);
    gauge.inc();
    let since = Instant::now();
    // Also when the client hangs up meanwhile.
    let mut noted = Noted { record, gauge, since };
    let mut granted = std::pin::pin!(granted);
    if let Ok(at_once) = timeout(NO_WAIT, &mut granted).await {
        return at_once;
    }
    noted.why(core, account);
    granted.await
}

struct Noted<'a> {
    record: &'a mut Record,
    gauge: prometheus_client::metrics::gauge::Gauge<i64, std::sync::atomic::AtomicI64>,
    since: Instant,
}

impl Noted<'_> {
    fn why(&mut self, core: &Core, account: &Account) {
        let why = &mut self.record.call.why;
        if matches!(why, Why::NoWait | Why::Queue) {
            *why = match core.gate.pause_of(account.index) {
                _ if !core.gate.is_connected() => Why::LimiterUnreachable,
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

/// When a shortage was last told: every call meets it, again and again.
#[derive(Default)]
pub(crate) struct Shortage(Mutex<Option<Instant>>);

impl Shortage {
    fn is_news(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN);
        if news {
            *told = Some(Instant::now());
        }
        news
    }
}

fn unreachable(why: &str) -> Own {
    let message = format!("Quotakeeper's proxy got no answer from the provider: {why}");
    Own::new(StatusCode::BAD_GATEWAY, "ProviderUnreachable", message)
}

/// Reads an answer's body to its end within bounds, so that the connection can be used again.
async fn drain(mut body: crate::upstream::UpstreamBody) {
    let mut read = 0;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > coding::READ {
                return;
            }
        }
    };
    let _drained = timeout(Duration::from_secs(1), all).await;
}
