//! Starts a limiter.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use quotakeeper_limiter_core::commit::{PROXIES_END_TOO, PROXIES_OUTLIVE};
use quotakeeper_limiter_core::offline::Right;
use quotakeeper_limiter_core::{Configuration, LedgerStart, LimiterState, LostGrants, Recovered, Start};
use quotakeeper_wire::message::{Epoch, FingerprintKey};
use quotakeeper_wire::name::AccountKey;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use super::checkpointing::Checkpointing;
use super::handle::{COMMANDS, Limiter};
use super::recovery::{AnyLedger, NextEpoch, Restart, Succession};
use super::writer::Writer;
use super::{LimiterTask, OpenLedger};
use crate::checkpoints::CheckpointStore;
use crate::clock::now;
use crate::ledger::store::RecordStore;
use crate::ledger::{Ledger, LedgerError};

/// Builds a [`Limiter`].
///
/// Without a ledger, the limiter's state ends with its process, and so do the proxies that draw on it.
pub struct Builder {
    configuration: Configuration,
    epoch: Epoch,
    ledger: Option<ResumedLedger>,
    fingerprint_key: Option<FingerprintKey>,
    lost_accounts: BTreeMap<AccountKey, LostGrants>,
    next_epoch: NextEpoch,
    checkpoints: Option<CheckpointStore>,
    right: Option<Right>,
}

/// What earlier processes of this machine may have granted on an account.
#[derive(Clone, Debug)]
pub struct EarlierRuns {
    /// Until when.
    pub lost: LostGrants,
    /// The last of them wrote the ledger of this limiter: nothing is lost that is there.
    pub in_ledger: bool,
}

struct ResumedLedger {
    ledger: AnyLedger,
    start: LedgerStart,
}

impl Builder {
    pub(super) fn new(configuration: Configuration) -> Builder {
        Builder {
            configuration,
            epoch: Epoch(1),
            ledger: None,
            fingerprint_key: random_key(),
            lost_accounts: BTreeMap::new(),
            next_epoch: Box::new(counted_on),
            checkpoints: None,
            right: None,
        }
    }

    /// The limiter of this epoch continues from `ledger`, and its proxies outlive it: `recovered` is
    /// what [`Ledger::resume`] returned for the epoch.
    #[must_use]
    pub fn ledger<S: RecordStore>(self, epoch: Epoch, ledger: Ledger<S>, recovered: Recovered) -> Builder {
        let start = LedgerStart { recovered, longest_horizon: PROXIES_OUTLIVE };
        Builder { epoch, ledger: Some(ResumedLedger { ledger: ledger.boxed(), start }), ..self }
    }

    /// The limiter continues from `ledger`. It is the ledger's only user, and its proxies end with its process.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn private_ledger<S: RecordStore>(self, mut ledger: Ledger<S>) -> Result<Builder, LedgerError> {
        let epoch = Epoch(ledger.last_epoch()?.map_or(1, |last| last.saturating_add(1)));
        let recovered = ledger.resume(epoch, true, None)?;
        let start = LedgerStart { recovered, longest_horizon: PROXIES_END_TOO };
        Ok(Builder { epoch, ledger: Some(ResumedLedger { ledger: ledger.boxed(), start }), ..self })
    }

    /// Where the epoch of the state comes from that follows one that has panicked, if there are other limiters.
    #[must_use]
    pub fn next_epoch(self, next_epoch: NextEpoch) -> Builder {
        Builder { next_epoch, ..self }
    }

    /// The right to grant, unless it is renewed. Needs a ledger.
    #[must_use]
    pub fn lease(self, right: impl Into<Right>) -> Builder {
        Builder { right: Some(right.into()), ..self }
    }

    /// What counts in long windows is stored here too, so that it outlives the ledger. Needs a ledger.
    #[must_use]
    pub fn checkpoints(self, store: CheckpointStore) -> Builder {
        Builder { checkpoints: Some(store), ..self }
    }

    /// The key of the credentials' fingerprints, where another limiter may follow this one; otherwise it is random.
    #[must_use]
    pub fn fingerprint_key(self, key: FingerprintKey) -> Builder {
        Builder { fingerprint_key: Some(key), ..self }
    }

    /// Earlier processes have used these accounts. To be called after [`Builder::private_ledger`].
    #[must_use]
    pub fn earlier_runs(mut self, runs: BTreeMap<AccountKey, EarlierRuns>) -> Builder {
        for (key, EarlierRuns { lost, in_ledger }) in runs {
            let recovered = self.ledger.as_mut().map(|ledger| &mut ledger.start.recovered);
            let has_record = recovered.as_ref().is_some_and(|known| known.records.contains_key(&key));
            if in_ledger && has_record {
                continue;
            }
            if let Some(recovered) = recovered {
                recovered.records.remove(&key);
            }
            self.lost_accounts.insert(key, lost);
        }
        self
    }

    /// Starts the limiter. With a ledger, this waits for its first commit: nothing is granted before.
    ///
    /// # Errors
    /// [`LedgerError`], with a ledger only.
    pub fn start(self) -> Result<Limiter, LedgerError> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let Builder {
            configuration,
            epoch,
            ledger,
            lost_accounts,
            fingerprint_key,
            next_epoch,
            checkpoints,
            right,
        } = self;
        let recovering = Arc::<AtomicBool>::default();
        let (state, ledger) = match ledger {
            Some(ResumedLedger { mut ledger, start: LedgerStart { recovered, longest_horizon } }) => {
                let mut restart =
                    Restart::new(next_epoch, fingerprint_key, longest_horizon, lost_accounts, configuration);
                (restart.checkpoints, restart.right) = (checkpoints.is_some(), right);
                let state = restart.begin(epoch, &mut ledger, &recovered)?;
                let task = sender.downgrade();
                let writer = Writer::start(ledger, task.clone());
                let checkpointing = checkpoints.map(|store| Checkpointing::start(store, sender.downgrade()));
                (state, Some(OpenLedger { writer, restart, checkpointing, task }))
            }
            None => {
                let (ledger, wall) = (None, Timestamp::now());
                let start = Start { configuration, epoch, ledger, lost_accounts, wall, fingerprint_key };
                (LimiterState::new(start, now()), None)
            }
        };
        let recovers = Arc::clone(&recovering);
        let (proxies, last_connection) = (BTreeMap::new(), 0);
        let task =
            LimiterTask { state, epoch, proxies, last_connection, commands, ledger, recovering: recovers };
        tokio::spawn(task.run());
        Ok(Limiter { commands: sender, recovering })
    }
}

/// In a process whose proxies end with it, no other limiter counts epochs.
fn counted_on(last: Epoch) -> Pin<Box<dyn Future<Output = Succession> + Send>> {
    let epoch = Epoch(last.0.saturating_add(1));
    Box::pin(std::future::ready(Succession { epoch, ledger_is_newest: true, lost: None }))
}

/// A random key; none where the system has no random bytes: credentials are not distinguished then.
fn random_key() -> Option<FingerprintKey> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).ok()?;
    Some(FingerprintKey(key))
}
