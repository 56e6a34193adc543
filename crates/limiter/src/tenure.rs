//! From standby to active and back: who may grant, and until when.

use std::net::SocketAddr;
use std::time::Duration;

use quotakeeper_api::names::LIMITER;
use quotakeeper_engine::time::Time;
use quotakeeper_limiter_core::LostGrants;
use quotakeeper_limiter_core::lease::{Terms, Watch};
use quotakeeper_limiter_core::offline::{Offline, Right};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::checkpoints::{ApiClock, SKEW};
use crate::clock::{machine_time, now, shown_at};
use crate::handover::{HandedOver, Offers};
use crate::lease::{Acquired, Found, LeaseError, Leases, Renewal};
use crate::process::RETRY_AFTER;
use crate::task::{Limiter, Succession};

/// How often the Lease is looked at when it is about to be given up.
const HANDED_OVER: Duration = Duration::from_millis(50);

/// How many times as often the Lease is looked at as it is renewed: its length counts from when a renewal was seen.
const LOOKS_AS_OFTEN: u32 = 4;

/// The right to be active, as it was acquired.
pub(crate) struct Tenure {
    pub(crate) acquired: Acquired,
    /// What the limiter before has handed over.
    pub(crate) handed_over: Option<HandedOver>,
    terms: Option<Terms>,
    /// When it was asked for, on the machine's clock.
    asked: Time,
    answered: Time,
}

impl Tenure {
    /// How the limiter begins, once its clock is set.
    pub(crate) fn succession(&self) -> Succession {
        let Acquired { known, epoch, at, .. } = self.acquired;
        let lost = || LostGrants { until: now(), until_wall: at + SKEW };
        let lost = known.has_predecessor().then(lost);
        Succession { epoch, ledger_is_newest: known.ledger_is_newest(), lost }
    }

    /// The API server's clock, once that of the limiter is set.
    pub(crate) fn api_clock(&self) -> ApiClock {
        ApiClock { at: now(), showed: self.acquired.at }
    }

    /// The right to grant, once its clock is set; none: it may for as long as it runs.
    pub(crate) fn right(&self) -> Option<Right> {
        Some(self.standing().right(self.terms?, self.asked, self.answered))
    }

    /// What it may do without its Lease, once its clock is set.
    pub(crate) fn standing(&self) -> Standing {
        let Acquired { offline, left_out, .. } = self.acquired;
        let other = |it: Offline| (it.percent, shown_at(it.left_out_until(self.answered)));
        Standing { offline, left_out: left_out.map(other) }
    }
}

/// What this limiter, or another, may grant without the Lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    offline: Option<Offline>,
    /// Of another: this percentage, until then by the limiter's clock.
    left_out: Option<(u32, Time)>,
}

impl Standing {
    /// The right of a limiter that has renewed its Lease: asked for and answered at these times of the machine's clock.
    fn right(self, terms: Terms, asked: Time, answered: Time) -> Right {
        let offline = self.offline.map(|it| (it.percent, shown_at(it.granted_until(asked))));
        Right { until: shown_at(terms.grants_until(asked, answered)), offline, left_out: self.left_out }
    }

    /// How long after its last renewal the limiter is active no more.
    fn ends_after(self, terms: Terms) -> Duration {
        self.offline.map_or(terms.length, |offline| offline.length.max(terms.length))
    }
}

/// Why a limiter is active no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// It is on standby from now on.
    #[error("another limiter holds the Lease")]
    Deposed,
    /// Another may be active: the Lease was not renewed for its whole length.
    #[error("the Lease could not be renewed for as long as it lasts")]
    Expired,
}

/// Waits until this limiter may be active, and acquires an epoch after all limiters before. `ledger`: that of the one that
/// last used the ledger. `offers`: what the active one hands over. `stands_by` is told where it is.
pub(crate) async fn acquire(
    leases: &Leases,
    ledger: Option<u64>,
    offers: &Offers,
    stands_by: impl Fn(Option<SocketAddr>),
) -> Tenure {
    let (mut watch, mut logged) = (Watch::default(), String::new());
    loop {
        let looked = machine_time();
        let attempt = async {
            match leases.look(&mut watch).await? {
                Found::Free(found) => {
                    let asked = machine_time();
                    Ok(Ok((asked, leases.take(found, ledger, offers.epoch()).await?)))
                }
                Found::Theirs(active) => Ok::<_, LeaseError>(Err(active)),
            }
        };
        match attempt.await {
            Ok(Ok((asked, acquired))) => {
                let (terms, answered) = (leases.terms, machine_time());
                let handed_over = offers.take(acquired.known.lease);
                return Tenure { acquired, handed_over, terms, asked, answered };
            }
            Ok(Err(active)) => {
                logged.clear();
                stands_by(active);
            }
            Err(error) if error.is_conflict() => continue,
            Err(error) => {
                let sentence = error.to_string();
                if sentence != logged {
                    warn!(
                        error = sentence,
                        lease = LIMITER,
                        "the Lease can't be read or written; trying again"
                    );
                }
                logged = sentence;
            }
        }
        let every = match offers.is_fresh() {
            true => HANDED_OVER,
            false => leases.terms.map_or(RETRY_AFTER, |terms| terms.every() / LOOKS_AS_OFTEN),
        };
        tokio::select! {
            () = sleep(every.saturating_sub(machine_time().since(looked))) => {}
            () = offers.news() => {}
        }
    }
}

/// Acquires the epoch of a state that follows one of this process.
pub(crate) async fn acquire_again(leases: &Leases, ledger: u64) -> Succession {
    loop {
        match leases.take_again(ledger).await {
            Ok(Some(acquired)) => {
                let (terms, answered) = (leases.terms, machine_time());
                let tenure = Tenure { acquired, handed_over: None, terms, asked: answered, answered };
                return tenure.succession();
            }
            // Whoever waits for this state ends it.
            Ok(None) => info!(lease = LIMITER, "another limiter holds the Lease; this one can't go on"),
            Err(error) => warn!(%error, lease = LIMITER, "the Lease can't be written; trying again"),
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Renews the Lease and lets the limiter grant accordingly, until it is lost.
pub(crate) async fn hold(leases: &Leases, limiter: &Limiter, mut standing: Standing) -> Ended {
    let Some(terms) = leases.terms else { return std::future::pending().await };
    let (mut last, mut failing, mut claims) = (machine_time(), false, false);
    loop {
        let asked = machine_time();
        match leases.renew(claims).await {
            Ok(Renewal::Held) => {
                if std::mem::take(&mut claims) {
                    standing = Standing { offline: leases.offline, left_out: None };
                }
                // Fails if it has stopped, which is noticed elsewhere.
                let leaves_out = limiter.renew_lease(standing.right(terms, asked, machine_time())).await;
                claims = standing.left_out.is_some() && leaves_out.is_ok_and(|leaves_out| !leaves_out);
                if std::mem::take(&mut failing) {
                    info!(lease = LIMITER, "the Lease is renewed again");
                }
                last = asked;
            }
            Ok(Renewal::Lost) => return Ended::Deposed,
            // What has changed is read again.
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                let grants = terms.grants_until(last, last).since(machine_time());
                let part = |offline: Offline| format!("up to {} % of each limit", offline.percent);
                let then = standing.offline.map_or_else(|| "they wait".to_owned(), part);
                match std::mem::replace(&mut failing, true) {
                    false => {
                        warn!(%error, ?grants, lease = LIMITER, "the Lease can't be renewed; calls are granted for so long, then {then}")
                    }
                    true => debug!(%error, ?grants, lease = LIMITER, "the Lease still can't be renewed"),
                }
            }
        }
        if machine_time() > last + standing.ends_after(terms) {
            return Ended::Expired;
        }
        sleep(terms.every().saturating_sub(machine_time().since(asked))).await;
    }
}
