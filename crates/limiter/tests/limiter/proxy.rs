//! A minimal proxy: the session's state machine on the transport's client, and a provider that responds at
//! once and reports what is left.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quotakeeper_engine::event::{CallClass, CallId, Observation, Rejection, SessionId};
use quotakeeper_engine::time::Stamp;
use quotakeeper_engine::tokens::CallEnd;
use quotakeeper_limiter::clock;
use quotakeeper_transport::{Dial, Link, ProxyGone, SystemDial, keep_connected};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::bootstrap::Endpoint;
use quotakeeper_wire::message::{
    AccountIndex, AccountState, AccountUpdate, Notice, NoticeKind, ToLimiter, ToProxy,
};
use quotakeeper_wire::proxy::{Identity, Session, SessionEvent};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The name in the limiter's certificate.
pub const NAME: &str = "quotakeeper-limiter.quotakeeper.svc";

/// Where a limiter is, and who signed its certificate.
pub trait Door {
    fn address(&self) -> SocketAddr;
    fn ca_pem(&self) -> String;
}

/// How many calls a provider has counted. Clones are the same.
#[derive(Clone, Default)]
pub struct Provider {
    counted: Arc<Mutex<u64>>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    keeps: Arc<AtomicBool>,
    amount: u64,
    silent: bool,
}

impl Provider {
    pub fn of(amount: u64) -> Provider {
        Provider { amount, ..Provider::default() }
    }

    /// One that tells nothing in headers.
    pub fn silent() -> Provider {
        Provider { silent: true, ..Provider::default() }
    }

    pub fn counted(&self) -> u64 {
        *self.counted.lock().unwrap()
    }

    /// The most that it has counted in any stretch of this length.
    #[allow(dead_code, reason = "one story has short windows")]
    pub fn most_within(&self, window: Duration) -> usize {
        let arrivals = self.arrivals.lock().unwrap();
        let within = |(first, at): (usize, &Instant)| {
            arrivals[first..].iter().take_while(|later| **later < *at + window).count()
        };
        arrivals.iter().enumerate().map(within).max().unwrap_or(0)
    }

    /// Whether it leaves calls without a response until the test gives one.
    pub fn keeps_calls(&self, keeps: bool) {
        self.keeps.store(keeps, Ordering::Relaxed);
    }

    fn answer(&self) -> Vec<Observation> {
        let mut counted = self.counted.lock().unwrap();
        *counted += 1;
        self.arrivals.lock().unwrap().push(Instant::now());
        if self.silent {
            return Vec::new();
        }
        vec![Observation {
            limit: "requests".to_owned(),
            hard: Some(self.amount),
            remaining: Some(self.amount.saturating_sub(*counted)),
            ends_in: None,
        }]
    }
}

/// A proxy. When it is dropped, its connection is lost without a last message.
pub struct Proxy {
    state: Arc<Mutex<State>>,
    dial: Counted,
    _token: TempDir,
    _client: AbortOnDropHandle<()>,
}

struct State {
    session: Session,
    provider: Provider,
    accounts: BTreeMap<u32, AccountState>,
    asked: BTreeMap<CallId, u32>,
    granted: BTreeMap<u32, u64>,
    kept: Vec<CallId>,
    paused: u32,
    resumed: u32,
    connected: u32,
    received: u32,
}

impl State {
    fn answer(&mut self, call: CallId) {
        let observations = self.provider.answer();
        self.session.first_byte(now(), call, observations);
        self.session.done(now(), call, CallEnd::Seen, None);
        let account = self.asked.remove(&call).unwrap();
        *self.granted.entry(account).or_default() += 1;
    }
}

fn now() -> Stamp {
    Stamp(clock::now().0)
}

impl Proxy {
    /// A proxy of this session, that shows `token` and names these quotas.
    pub fn start(door: &impl Door, (session, token): (u64, &str), consumer: &str, quotas: &[&str]) -> Proxy {
        Proxy::drawing(door, (session, token), consumer, quotas, Provider::of(1_000_000))
    }

    pub fn drawing(
        door: &impl Door,
        (session, token): (u64, &str),
        consumer: &str,
        quotas: &[&str],
        provider: Provider,
    ) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, token).unwrap();
        let identity = Identity {
            session: SessionId(session),
            consumer: consumer.into(),
            quotas: quotas.iter().map(|quota| (*quota).into()).collect(),
            max_calls: 10_000,
        };
        let state = Arc::new(Mutex::new(State {
            session: Session::new(identity),
            provider,
            accounts: BTreeMap::new(),
            asked: BTreeMap::new(),
            granted: BTreeMap::new(),
            kept: Vec::new(),
            paused: 0,
            resumed: 0,
            connected: 0,
            received: 0,
        }));
        let endpoint = Endpoint {
            address: door.address().to_string(),
            server_name: NAME.to_owned(),
            ca_pem: door.ca_pem(),
        };
        let link = ProxyLink(Arc::clone(&state));
        let dial = Counted::default();
        let dials = dial.clone();
        let client =
            tokio::spawn(async move { keep_connected(endpoint, token_file, dials, link).await.unwrap() });
        Proxy { state, dial, _token: folder, _client: AbortOnDropHandle::new(client) }
    }

    /// Calls that want to be sent.
    pub fn ask(&self, account: u32, calls: usize) {
        let mut state = self.state.lock().unwrap();
        for _ in 0..calls {
            let call = state.session.ask(now(), AccountIndex(account), CallClass::default(), None).unwrap();
            state.asked.insert(call, account);
        }
    }

    /// Something that the author of its workload should know.
    pub fn notice(&self, account: u32, kind: NoticeKind) {
        let notice = Notice { kind, detail: "seen".to_owned() };
        self.state.lock().unwrap().session.notice(AccountIndex(account), notice);
    }

    /// Its pod ends.
    pub fn leave(self) {
        self.state.lock().unwrap().session.disconnected();
    }

    /// Calls that were granted, written and answered.
    pub fn granted(&self, account: u32) -> u64 {
        self.state.lock().unwrap().granted.get(&account).copied().unwrap_or(0)
    }

    /// Calls that the provider keeps.
    pub fn kept(&self) -> usize {
        self.state.lock().unwrap().kept.len()
    }

    /// The provider answers what it keeps.
    pub fn answer_kept(&self) {
        let mut state = self.state.lock().unwrap();
        for call in std::mem::take(&mut state.kept) {
            state.answer(call);
        }
    }

    /// The provider rejects what it keeps; the calls wait for another grant.
    pub fn reject_kept(&self, rejection: &Rejection) {
        let mut state = self.state.lock().unwrap();
        for call in std::mem::take(&mut state.kept) {
            let observations = state.provider.answer();
            state.session.rejected(now(), call, observations, rejection.clone(), true);
        }
    }

    /// How many pauses it has received, …
    pub fn paused(&self) -> u32 {
        self.state.lock().unwrap().paused
    }

    /// … and of the end of one.
    pub fn resumed(&self) -> u32 {
        self.state.lock().unwrap().resumed
    }

    /// The state of an account, as the limiter has sent it.
    pub fn account(&self, account: u32) -> Option<AccountState> {
        self.state.lock().unwrap().accounts.get(&account).cloned()
    }

    pub fn in_force(&self, account: u32) -> Option<CompiledAccount> {
        match self.account(account)? {
            AccountState::InForce { document } => Some(CompiledAccount::load(&document).unwrap()),
            AccountState::Absent { .. } => None,
        }
    }

    pub fn absence(&self, account: u32) -> Option<String> {
        match self.account(account)? {
            AccountState::Absent { reason } => Some(reason),
            AccountState::InForce { .. } => None,
        }
    }

    /// How many hellos it has sent.
    pub fn sessions(&self) -> u32 {
        self.state.lock().unwrap().connected
    }

    /// How often it has tried to connect. With the second, the first has failed.
    #[allow(dead_code, reason = "the stories without a cluster need it not")]
    pub fn attempts(&self) -> u32 {
        self.dial.0.load(Ordering::Relaxed)
    }

    /// Messages that it has received.
    pub fn received(&self) -> u32 {
        self.state.lock().unwrap().received
    }

    pub fn newest_epoch(&self) -> u64 {
        self.state.lock().unwrap().session.newest().0
    }
}

#[derive(Clone, Default)]
struct Counted(Arc<AtomicU32>);

impl Dial for Counted {
    async fn dial(&self, endpoint: &str) -> io::Result<TcpStream> {
        self.0.fetch_add(1, Ordering::Relaxed);
        SystemDial.dial(endpoint).await
    }
}

struct ProxyLink(Arc<Mutex<State>>);

impl Link for ProxyLink {
    async fn connect(&self) -> Result<mpsc::Receiver<ToLimiter>, ProxyGone> {
        let (sender, messages) = mpsc::channel(1024);
        let state = Arc::clone(&self.0);
        let number = {
            let mut state = state.lock().unwrap();
            state.connected += 1;
            state.session.connected();
            state.connected
        };
        tokio::spawn(async move {
            loop {
                loop {
                    let message = {
                        let mut state = state.lock().unwrap();
                        if state.connected != number || !state.session.is_connected() {
                            return;
                        }
                        let at = now();
                        state.session.wake(at);
                        state.session.next_message(at)
                    };
                    let Some(message) = message else { break };
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Ok(messages)
    }

    async fn disconnect(&self) -> Result<(), ProxyGone> {
        self.0.lock().unwrap().session.disconnected();
        Ok(())
    }

    async fn deliver(&self, message: ToProxy) -> Result<(), ProxyGone> {
        let mut state = self.0.lock().unwrap();
        state.received += 1;
        match state.session.receive(now(), message) {
            Some(SessionEvent::Account { account, update }) => match update {
                AccountUpdate::State(stands) => {
                    state.accounts.insert(account.0, stands);
                }
                AccountUpdate::Paused { .. } => state.paused += 1,
                AccountUpdate::Resumed { .. } => state.resumed += 1,
            },
            Some(SessionEvent::Granted { call }) if state.session.may_write(now(), call) => {
                state.session.wrote(now(), call);
                if state.provider.keeps.load(Ordering::Relaxed) {
                    state.kept.push(call);
                } else {
                    state.answer(call);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
