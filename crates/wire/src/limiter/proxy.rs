//! Translates the messages of one proxy into events of the engine, and its stamps into the limiter's times.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::clock::SessionClock;
use quotakeeper_engine::event::{Ask, Attempt, CallId, Event, GrantProgress, Pulse, ResumedGrant, SessionId};
use quotakeeper_engine::time::Time;
use quotakeeper_engine::tokens::CallEnd;

use crate::message::{
    AccountIndex, EndedAttempt, Ending, LiveCall, Notice, NoticeKind, Produced, Progress, ProxyMessage,
    Report,
};
use crate::name::{Consumer, QuotaName};

/// The proxy, from its hello.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) session: SessionId,
    pub(super) consumer: Consumer,
    pub(super) quotas: Vec<QuotaName>,
    /// What its author should know, each kind once per account: the first detail.
    pub(super) notices: BTreeMap<(AccountIndex, NoticeKind), String>,
}

impl Proxy {
    pub(super) fn indices(&self) -> impl Iterator<Item = AccountIndex> {
        (0u32..).map(AccountIndex).take(self.quotas.len())
    }

    /// A heartbeat for all accounts.
    pub(super) fn alive(&self, pulse: Pulse, events: &mut Vec<(AccountIndex, Event)>) {
        let session = self.session;
        for account in self.indices() {
            events.push((account, Event::Heartbeat { session, pulse }));
        }
    }

    /// The author should know this.
    pub(super) fn notice(&mut self, account: AccountIndex, notice: Notice) {
        if notice.kind != NoticeKind::Unknown {
            self.notices.entry((account, notice.kind)).or_insert(notice.detail);
        }
    }

    fn attempt(&self, call: CallId, number: u32) -> Attempt {
        Attempt { session: self.session, call, number }
    }

    pub(super) fn events(
        &self,
        now: Time,
        clock: &SessionClock,
        body: ProxyMessage,
        events: &mut Vec<(AccountIndex, Event)>,
    ) {
        match body {
            ProxyMessage::Hello(_) | ProxyMessage::Notice { .. } | ProxyMessage::Look { .. } => {}
            ProxyMessage::Heartbeat { produced } => {
                events.extend(produced.into_iter().map(|Produced { account, call, attempt, output }| {
                    (account, Event::Produced { attempt: self.attempt(call, attempt), output })
                }));
            }
            ProxyMessage::Ask { account, call, details, patience } => events.push((
                account,
                Event::Ask(Ask {
                    session: self.session,
                    call,
                    consumer: self.consumer.clone(),
                    credential: details.credential,
                    demand: details.demand(),
                    patience,
                    waited: Duration::ZERO,
                    attempts: 0,
                }),
            )),
            ProxyMessage::Cancel { account, call } => {
                let session = self.session;
                events.push((account, Event::Cancel { session, call }));
            }
            ProxyMessage::Report { account, call, attempt, report } => {
                let attempt = self.attempt(call, attempt);
                events.push((account, reported(now, clock, attempt, report)));
            }
        }
    }

    pub(super) fn live(
        &self,
        now: Time,
        clock: &SessionClock,
        (live, granted): (LiveCall, Option<Time>),
        events: &mut Vec<(AccountIndex, Event)>,
    ) {
        let (grant, progress) = match live.progress {
            Progress::Waiting { attempts, waited, patience } => {
                let ask = Ask {
                    session: self.session,
                    call: live.call,
                    consumer: self.consumer.clone(),
                    credential: live.details.credential,
                    demand: live.details.demand(),
                    patience,
                    waited,
                    attempts,
                };
                return events.push((live.account, Event::Ask(ask)));
            }
            Progress::Granted(grant) => (grant, GrantProgress::Granted),
            Progress::Sent { grant, written } => {
                let latest = clock.latest(now, written);
                (grant, GrantProgress::Sent { latest })
            }
            Progress::Answered { grant, at } => {
                let latest = clock.latest(now, at);
                (grant, GrantProgress::Answered { latest })
            }
        };
        events.push((
            live.account,
            Event::ResumeGrant(ResumedGrant {
                attempt: self.attempt(live.call, grant.attempt),
                consumer: self.consumer.clone(),
                credential: live.details.credential,
                demand: live.details.demand(),
                granted,
                progress,
                over: false,
            }),
        ));
    }

    /// An attempt that is over is held for a moment and then ends as in its last report.
    pub(super) fn ended(
        &self,
        now: Time,
        clock: &SessionClock,
        (ended, granted): (EndedAttempt, Option<Time>),
        events: &mut Vec<(AccountIndex, Event)>,
    ) {
        let attempt = self.attempt(ended.call, ended.grant.attempt);
        let (progress, end) = match ended.ending {
            Ending::Unused => (GrantProgress::Granted, Event::Unused { attempt, again: false }),
            Ending::Sent { written } => {
                let latest = clock.latest(now, written);
                (GrantProgress::Sent { latest }, Event::Done { attempt, end: CallEnd::Lost, usage: None })
            }
            Ending::Answered { at, end, usage } => {
                let latest = clock.latest(now, at);
                (GrantProgress::Answered { latest }, Event::Done { attempt, end, usage })
            }
            Ending::Rejected { at, observations, rejection } => {
                let latest = clock.latest(now, at);
                // A rejection has the time at which it was counted; `Answered` would accept a probe.
                (
                    GrantProgress::Granted,
                    Event::Rejected { attempt, latest, observations, rejection, again: false },
                )
            }
        };
        let held = Event::ResumeGrant(ResumedGrant {
            attempt,
            consumer: self.consumer.clone(),
            credential: ended.details.credential,
            demand: ended.details.demand(),
            granted,
            progress,
            over: true,
        });
        events.push((ended.account, held));
        events.push((ended.account, end));
    }
}

fn reported(now: Time, clock: &SessionClock, attempt: Attempt, report: Report) -> Event {
    match report {
        Report::Unused { again } => Event::Unused { attempt, again },
        Report::Sent { written } => Event::Sent { attempt, latest: clock.latest(now, written) },
        Report::FirstByte { at, observations } => {
            Event::FirstByte { attempt, latest: clock.latest(now, at), observations }
        }
        Report::Rejected { at, observations, rejection, again } => {
            Event::Rejected { attempt, latest: clock.latest(now, at), observations, rejection, again }
        }
        Report::Done { end, usage } => Event::Done { attempt, end, usage },
    }
}
