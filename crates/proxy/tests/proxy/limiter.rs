//! Limiters for the stories: the real engine behind a link, or a hand that grants when a story says so.

use std::time::Duration;

use quotakeeper_engine::Engine;
use quotakeeper_engine::config::AccountConfig;
use quotakeeper_engine::event::{CallId, Event};
use quotakeeper_engine::time::{Stamp, Time};
use quotakeeper_proxy::{LinkPeer, clock};
use quotakeeper_wire::limiter::{Greeting, Session};
use quotakeeper_wire::message::{
    AccountIndex, Epoch, LimiterMessage, ProxyMessage, Report, ToLimiter, ToProxy,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// D of all stories that the engine is in.
pub use test_support::accounts::VALIDITY;
/// D where a hand grants: no stall of the machine makes a grant run out.
const LONG: Duration = Duration::from_secs(120);

/// Runs one engine for each account until the proxy is gone.
pub fn engine(peer: LinkPeer, accounts: Vec<AccountConfig>) -> JoinHandle<u64> {
    run(peer, accounts, Engine::new)
}

/// The same of a limiter that does not know what was used before it: a first run's.
pub fn first_engine(peer: LinkPeer, accounts: Vec<AccountConfig>) -> JoinHandle<u64> {
    run(peer, accounts, Engine::after_unknown_past)
}

fn run(
    peer: LinkPeer,
    accounts: Vec<AccountConfig>,
    begin: fn(AccountConfig, Time) -> Engine,
) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let now = || Time(clock::now().0);
        let mut engines: Vec<_> = accounts.into_iter().map(|account| begin(account, now())).collect();
        let Ok(mut says) = peer.connect().await else { return 0 };
        let heartbeat = VALIDITY / 4;
        let mut session =
            Session::new(Greeting { epoch: Epoch(1), validity: VALIDITY, heartbeat, fingerprint_key: None });
        loop {
            let wake = engines.iter().filter_map(Engine::next_wake).min();
            let pause = wake.map_or(Duration::from_secs(3600), |wake| wake.since(now()));
            let mut events = Vec::new();
            tokio::select! {
                message = says.recv() => {
                    let Some(message) = message else { break };
                    if let Some(reply) = session.receive(now(), message, &mut events).unwrap() {
                        let _told = peer.say(reply).await;
                    }
                }
                () = tokio::time::sleep(pause) => {
                    let wakes = (0..engines.len()).map(|index| (AccountIndex(index as u32), Event::Wake));
                    events.extend(wakes);
                }
            }
            for (account, event) in events {
                let mut actions = Vec::new();
                let at = now();
                engines[account.0 as usize].handle(at, event, &mut actions);
                for message in actions.iter().filter_map(|action| session.send(at, account, action)) {
                    let _told = peer.say(message).await;
                }
            }
        }
        engines.iter().map(|engine| engine.totals().breaches).sum()
    })
}

/// A limiter that does what a story says.
pub struct Hand {
    peer: LinkPeer,
    says: mpsc::Receiver<ToLimiter>,
    newest: Stamp,
    epoch: Epoch,
}

/// A question of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub account: AccountIndex,
    pub call: CallId,
}

impl Hand {
    /// Connects and says welcome. Its grants are valid for as long as a story lasts.
    pub async fn connect(peer: &LinkPeer, epoch: u64) -> Self {
        Self::connect_with(peer, epoch, LONG).await
    }

    /// Connects and says welcome. Its grants run out as soon as those of a cluster.
    pub async fn connect_in_a_hurry(peer: &LinkPeer, epoch: u64) -> Self {
        Self::connect_with(peer, epoch, VALIDITY).await
    }

    async fn connect_with(peer: &LinkPeer, epoch: u64, validity: Duration) -> Self {
        let says = peer.connect().await.unwrap();
        let mut this = Self { peer: peer.clone(), says, newest: Stamp(0), epoch: Epoch(epoch) };
        let hello = this.hear().await;
        assert!(matches!(hello, ProxyMessage::Hello(_)), "{hello:?}");
        this.say(LimiterMessage::Welcome { validity, heartbeat: VALIDITY / 4, fingerprint_key: None }).await;
        this
    }

    /// The next message that is no heartbeat.
    pub async fn hear(&mut self) -> ProxyMessage {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(30), self.says.recv());
            let message = heard.await.expect("the proxy says nothing").expect("the proxy is gone");
            self.newest = message.stamp;
            if message.body != ProxyMessage::ALIVE {
                return message.body;
            }
        }
    }

    /// Takes the signs of life that have come meanwhile.
    fn take_pulse(&mut self) {
        while let Ok(message) = self.says.try_recv() {
            assert_eq!(message.body, ProxyMessage::ALIVE);
            self.newest = message.stamp;
        }
    }

    /// The next question.
    pub async fn asked(&mut self) -> Asked {
        match self.hear().await {
            ProxyMessage::Ask { account, call, .. } => Asked { account, call },
            other => panic!("no question but {other:?}"),
        }
    }

    /// The next report.
    pub async fn report(&mut self) -> (CallId, u32, Report) {
        match self.hear().await {
            ProxyMessage::Report { call, attempt, report, .. } => (call, attempt, report),
            other => panic!("no report but {other:?}"),
        }
    }

    pub async fn grant(&self, asked: Asked, attempt: u32) {
        self.grant_as_of(asked, attempt, self.newest).await;
    }

    /// Grants again whatever is returned unused, until a grant is used.
    pub async fn grant_until_used(&mut self, asked: Asked, first: u32) {
        for attempt in first.. {
            self.take_pulse();
            self.grant(asked, attempt).await;
            let (call, number, report) = self.report().await;
            assert_eq!((call, number), (asked.call, attempt));
            if report != (Report::Unused { again: true }) {
                return;
            }
        }
    }

    /// A grant that rests on an older sign of life.
    pub async fn grant_as_of(&self, asked: Asked, attempt: u32, echo: Stamp) {
        let Asked { account, call } = asked;
        self.say(LimiterMessage::Grant { account, call, attempt, echo, granted: Time(clock::now().0) }).await;
    }

    pub async fn say(&self, body: LimiterMessage) {
        self.peer.say(ToProxy { epoch: self.epoch, body }).await.unwrap();
    }

    /// The stamp of the newest message.
    pub fn newest(&self) -> Stamp {
        self.newest
    }
}
