//! What a proxy may not send. A whole message is checked before any of it has an effect.

use std::collections::BTreeSet;

use quotakeeper_engine::event::CallId;
use quotakeeper_engine::time::Stamp;
use thiserror::Error;

use crate::message::{AccountIndex, Ending, Epoch, Hello, Progress, ProxyMessage, Report};
use crate::mutant::{self, Mutant};

/// The most quotas that a pod may draw on.
pub const MOST_QUOTAS: usize = 64;

/// The most calls that a hello may name; a proxy has at most 10,000 by default.
pub const MOST_CALLS: usize = 16_384;

/// The most ended attempts that a hello may name: as many as a proxy keeps.
pub const MOST_ENDED: usize = crate::proxy::MOST_ENDED;

/// What a proxy may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Something came before the hello.
    #[error("a connection begins with a hello; send it before anything else")]
    NoHello,
    /// A hello came twice.
    #[error("a connection has one hello; open another connection to send another")]
    SecondHello,
    /// The proxy has received from a newer limiter, and would ignore this one.
    #[error(
        "the proxy has received from limiter {received}, this is {ours}; stop granting and look at the lease"
    )]
    NewerLimiter {
        /// The newest that it has received from.
        received: u64,
        /// This one.
        ours: u64,
    },
    /// A hello names more than a limiter accepts.
    #[error("the hello names {named} {what}, more than {most}; use fewer of them in the pod")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        named: usize,
        most: usize,
    },
    /// A hello names a quota or a live call twice.
    #[error("the hello names {0} twice; name each quota and each call once")]
    Twice(&'static str),
    /// The account's index is not one of the hello's.
    #[error("account {named} is not one of the {known} that the hello named; use an index below that")]
    UnknownAccount {
        /// The index.
        named: u32,
        /// How many there are.
        known: usize,
    },
    /// Attempts count from 1.
    #[error("attempt 0 of call {0} does not exist; attempts count from 1, as in the grant")]
    NoSuchAttempt(u64),
    /// A time is later than the message that reports it.
    #[error("call {0} reports a time after the message's own stamp; stamp each message when it is sent")]
    FromTheFuture(u64),
}

/// Checks a connection's first message.
pub(super) fn check_hello(ours: Epoch, stamp: Stamp, hello: &Hello) -> Result<(), Violation> {
    if hello.newest > ours && !mutant::active(Mutant::EpochsIgnored) {
        return Err(Violation::NewerLimiter { received: hello.newest.0, ours: ours.0 });
    }
    check_count("quotas", hello.quotas.len(), MOST_QUOTAS)?;
    check_count("calls", hello.calls.len(), MOST_CALLS)?;
    check_count("ended attempts", hello.ended.len(), MOST_ENDED)?;
    let mut names = BTreeSet::new();
    if !hello.quotas.iter().all(|name| names.insert(name)) {
        return Err(Violation::Twice("a quota"));
    }
    let known = hello.quotas.len();
    let mut calls = BTreeSet::new();
    for live in &hello.calls {
        check_account(live.account, known)?;
        if !calls.insert(live.call) {
            return Err(Violation::Twice("a call"));
        }
        match live.progress {
            Progress::Waiting { .. } => {}
            Progress::Granted(grant) => check_attempt(live.call, grant.attempt)?,
            Progress::Sent { grant, written: at } | Progress::Answered { grant, at } => {
                check_attempt(live.call, grant.attempt)?;
                check_past(live.call, stamp, at)?;
            }
        }
    }
    for ended in &hello.ended {
        check_account(ended.account, known)?;
        check_attempt(ended.call, ended.grant.attempt)?;
        match &ended.ending {
            Ending::Unused => {}
            Ending::Sent { written: at } | Ending::Answered { at, .. } | Ending::Rejected { at, .. } => {
                check_past(ended.call, stamp, *at)?
            }
        }
    }
    Ok(())
}

/// Checks a message that follows the hello, which named `known` accounts.
pub(super) fn check(known: usize, stamp: Stamp, body: &ProxyMessage) -> Result<(), Violation> {
    match body {
        ProxyMessage::Hello(_) => Err(Violation::SecondHello),
        ProxyMessage::Heartbeat { produced } => produced.iter().try_for_each(|grown| {
            check_account(grown.account, known)?;
            check_attempt(grown.call, grown.attempt)
        }),
        ProxyMessage::Ask { account, .. }
        | ProxyMessage::Cancel { account, .. }
        | ProxyMessage::Notice { account, .. }
        | ProxyMessage::Look { account, .. } => check_account(*account, known),
        ProxyMessage::Report { account, call, attempt, report } => {
            check_account(*account, known)?;
            check_attempt(*call, *attempt)?;
            match report {
                Report::Sent { written: at } | Report::FirstByte { at, .. } | Report::Rejected { at, .. } => {
                    check_past(*call, stamp, *at)
                }
                Report::Unused { .. } | Report::Done { .. } => Ok(()),
            }
        }
    }
}

fn check_count(what: &'static str, named: usize, most: usize) -> Result<(), Violation> {
    if named > most {
        return Err(Violation::TooMany { what, named, most });
    }
    Ok(())
}

fn check_account(account: AccountIndex, known: usize) -> Result<(), Violation> {
    if account.0 as usize >= known {
        let named = account.0;
        return Err(Violation::UnknownAccount { named, known });
    }
    Ok(())
}

fn check_attempt(call: CallId, attempt: u32) -> Result<(), Violation> {
    if attempt == 0 {
        return Err(Violation::NoSuchAttempt(call.0));
    }
    Ok(())
}

fn check_past(call: CallId, stamp: Stamp, at: Stamp) -> Result<(), Violation> {
    if at > stamp {
        return Err(Violation::FromTheFuture(call.0));
    }
    Ok(())
}
