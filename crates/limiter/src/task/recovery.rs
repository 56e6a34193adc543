//! What happens when the state panics: it is dropped, and a new one begins from the ledger, under a new epoch and in the
//! same process. An account that panics twice is closed, so that the others go on.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use quotakeeper_limiter_core::offline::Right;
use quotakeeper_limiter_core::{
    Configuration, LedgerStart, LimiterState, LostGrants, Outbox, Recovered, Start, blame,
};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{Epoch, FingerprintKey};
use quotakeeper_wire::name::AccountKey;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::clock::now;
use crate::ledger::store::RecordStore;
use crate::ledger::{Ledger, LedgerError};

/// Panics of an account that are further apart don't close it.
const TOGETHER: Duration = Duration::from_secs(600);
/// The panics of an account that close it.
const CLOSES: u32 = 2;
/// The pause before the second recovery of [`TOGETHER`]; doubled with each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How many deleted pods are remembered: at least those that no record names as deleted yet.
const DELETED_PODS: usize = 1000;

/// The ledger, whatever its store is.
pub(super) type AnyLedger = Ledger<Box<dyn RecordStore>>;

/// How a limiter begins after those before it.
#[derive(Clone, Debug)]
pub struct Succession {
    /// Its epoch, greater than that of every limiter before.
    pub epoch: Epoch,
    /// No other limiter has granted since the ledger was last used.
    pub ledger_is_newest: bool,
    /// What limiters before it may have granted, for a ledger that lacks it.
    pub lost: Option<LostGrants>,
}

/// How the limiter begins that follows one of this process; it is given the epoch of that one.
pub type NextEpoch = Box<dyn FnMut(Epoch) -> Pin<Box<dyn Future<Output = Succession> + Send>> + Send>;

/// The state has panicked.
#[derive(Debug)]
pub(super) struct Panicked;

/// Runs one step of the state.
pub(super) fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Panicked> {
    // Whatever the step has left half done is dropped.
    catch_unwind(AssertUnwindSafe(step)).map_err(|_| Panicked)
}

/// What a state begins from that does not change while the process runs.
pub(super) struct Restart {
    pub(super) next_epoch: NextEpoch,
    pub(super) fingerprint_key: Option<FingerprintKey>,
    pub(super) longest_horizon: Duration,
    /// Long windows grant what checkpoints cover.
    pub(super) checkpoints: bool,
    /// The right to grant; none: it is not limited.
    pub(super) right: Option<Right>,
    pub(super) lost_accounts: BTreeMap<AccountKey, LostGrants>,
    /// What is to be in force, closed accounts included.
    pub(super) configuration: Configuration,
    pub(super) panics: Panics,
    /// Pods that were deleted lately, as the records in the ledger may not say.
    deleted_pods: VecDeque<String>,
}

impl Restart {
    pub(super) fn new(
        next_epoch: NextEpoch,
        fingerprint_key: Option<FingerprintKey>,
        longest_horizon: Duration,
        lost_accounts: BTreeMap<AccountKey, LostGrants>,
        configuration: Configuration,
    ) -> Restart {
        Restart {
            next_epoch,
            fingerprint_key,
            longest_horizon,
            checkpoints: false,
            right: None,
            lost_accounts,
            configuration,
            panics: Panics::default(),
            deleted_pods: VecDeque::new(),
        }
    }

    /// Remembers that a pod was deleted.
    pub(super) fn pod_deleted(&mut self, uid: &str) {
        if self.deleted_pods.len() == DELETED_PODS {
            self.deleted_pods.pop_front();
        }
        self.deleted_pods.push_back(uid.to_owned());
    }

    /// A state that begins now, with its first records in the ledger. One that panics meanwhile is begun again, in the
    /// end without the account that it panics over.
    ///
    /// # Errors
    /// The ledger can't be written.
    pub(super) fn begin(
        &mut self,
        epoch: Epoch,
        ledger: &mut AnyLedger,
        recovered: &Recovered,
    ) -> Result<LimiterState, LedgerError> {
        loop {
            let (begun, wall) = (now(), Timestamp::now());
            let start = Start {
                configuration: self.panics.open(self.configuration.clone()),
                epoch,
                ledger: Some(LedgerStart {
                    recovered: recovered.clone(),
                    longest_horizon: self.longest_horizon,
                }),
                lost_accounts: self.lost_accounts.clone(),
                wall,
                fingerprint_key: self.fingerprint_key,
            };
            let begin = guarded(|| {
                let mut state = LimiterState::new(start, begun);
                if self.checkpoints {
                    state.require_checkpoints(begun);
                }
                if let Some(right) = self.right {
                    // Nobody is connected yet.
                    state.renew_lease(begun, right, &mut Outbox::default());
                }
                for uid in &self.deleted_pods {
                    state.pod_deleted(begun, uid, &mut Outbox::default());
                }
                let records = state.opening_records(begun);
                (state, records)
            });
            let Ok((mut state, records)) = begin else {
                self.panics.count(&self.configuration);
                // Without an account to leave out it would panic for ever.
                std::thread::sleep(self.panics.pause());
                continue;
            };
            ledger.write(&records)?;
            state.committed(now(), &mut Outbox::default());
            return Ok(state);
        }
    }

    /// The state that follows one that has panicked.
    ///
    /// # Errors
    /// The ledger can't be read or written.
    pub(super) async fn recover(
        &mut self,
        last: Epoch,
        ledger: &mut AnyLedger,
    ) -> Result<(Epoch, LimiterState), LedgerError> {
        self.panics.count(&self.configuration);
        tokio::time::sleep(self.panics.pause()).await;
        let Succession { epoch, ledger_is_newest, lost } = (self.next_epoch)(last).await;
        let recovered = ledger.resume(epoch, ledger_is_newest, lost)?;
        let state = self.begin(epoch, ledger, &recovered)?;
        warn!(epoch = epoch.0, "the limiter has recovered from its ledger");
        Ok((epoch, state))
    }
}

/// The panics of this process, and which accounts are closed because of them.
#[derive(Debug, Default)]
pub(super) struct Panics {
    pub(super) total: u64,
    recent: VecDeque<Instant>,
    accounts: BTreeMap<AccountKey, AccountPanics>,
}

#[derive(Debug)]
struct AccountPanics {
    /// The quota's generation: a changed quota is tried again.
    generation: u64,
    count: u32,
    last: Instant,
}

impl Panics {
    /// Counts the panic that was just caught.
    fn count(&mut self, configuration: &Configuration) {
        let now = Instant::now();
        self.total += 1;
        self.recent.push_back(now);
        self.recent.retain(|at| now.duration_since(*at) < TOGETHER);
        let Some(key) = blame::take() else {
            error!("the limiter has panicked; it drops its state and recovers from its ledger");
            return;
        };
        let generation = configuration.accounts.iter().find(|account| account.key == key);
        let generation = generation.map_or(0, |account| account.generation);
        let first = AccountPanics { generation, count: 0, last: now };
        let known = self.accounts.entry(key.clone()).or_insert(first);
        if known.generation != generation || now.duration_since(known.last) >= TOGETHER {
            known.count = 0;
        }
        (known.generation, known.last, known.count) = (generation, now, known.count + 1);
        match known.count >= CLOSES {
            true => {
                error!(account = %key, "the limiter has panicked again over this account, which is closed now")
            }
            false => {
                error!(account = %key, "the limiter has panicked over this account; it drops its state and recovers from its ledger")
            }
        }
    }

    /// How long to wait before the next recovery.
    fn pause(&self) -> Duration {
        let before = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        match before {
            0 | 1 => Duration::ZERO,
            more => PAUSE.saturating_mul(1 << (more - 2).min(16)).min(LONGEST_PAUSE),
        }
    }

    /// The configuration without the accounts that are closed.
    pub(super) fn open(&self, mut configuration: Configuration) -> Configuration {
        let Configuration { accounts, problems, .. } = &mut configuration;
        accounts.retain(|account| {
            let closed = self.is_closed(account);
            if closed {
                let sentence = format!(
                    "the limiter has panicked {CLOSES} times over it, so its calls wait; please report this with the limiter's log. A change of the quota tries again"
                );
                problems.insert(account.quota.clone(), sentence);
            }
            !closed
        });
        configuration
    }

    fn is_closed(&self, account: &CompiledAccount) -> bool {
        let panics = self.accounts.get(&account.key);
        panics.is_some_and(|panics| panics.generation == account.generation && panics.count >= CLOSES)
    }
}
