//! The endpoints of the quotas that a proxy serves. They are fixed at its start; their accounts come, change and go
//! as the limiter reports.

use std::sync::Arc;

use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::message::{AccountIndex, AccountState};
use tokio::sync::watch;

use crate::account::Account;
use crate::authority::HostPattern;
use crate::settings::Quota;
use crate::upstream::{Origin, OriginError};

/// A quota's endpoint.
pub(crate) struct QuotaEndpoint {
    pub(crate) index: AccountIndex,
    /// The provider's name: the first segment of the base URL.
    pub(crate) provider: String,
    /// The quota as people name it.
    pub(crate) quota: Arc<str>,
    /// The provider's hosts.
    pub(crate) hosts: Vec<HostPattern>,
    /// Where its base URL leads, whatever accounts say.
    pinned: Option<Origin>,
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    /// Nothing is in force; why, for people.
    Awaited(Arc<str>),
    InForce(Arc<Account>),
}

/// Why a configuration from the limiter can't be put into force; the one before stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Document(#[from] quotakeeper_wire::account::LoadError),
    #[error("the profile's baseUrl.upstream can't be used: {0}")]
    Upstream(#[from] OriginError),
    #[error("its account is {key}, of another provider than {provider}; restart the pod")]
    OtherProvider { key: String, provider: String },
}

impl QuotaEndpoint {
    /// The endpoint of a quota, with its account if that is known already.
    ///
    /// # Errors
    /// When a base URL leads nowhere.
    pub(crate) fn new(index: u32, quota: &Quota) -> Result<Self, OriginError> {
        let pinned = quota.upstream.as_deref().map(Origin::parse).transpose()?;
        let state = match &quota.account {
            Some(account) => {
                let account = Account::new(AccountIndex(index), account, pinned.as_ref())?;
                State::InForce(Arc::new(account))
            }
            None => State::Awaited("the limiter has not sent its configuration yet".into()),
        };
        Ok(Self {
            index: AccountIndex(index),
            provider: quota.provider.clone(),
            quota: quota.name.as_str().into(),
            hosts: quota.hosts.iter().map(|host| HostPattern::new(host)).collect(),
            pinned,
            state: watch::Sender::new(state),
        })
    }

    /// What is in force now.
    pub(crate) fn account(&self) -> Option<Arc<Account>> {
        match &*self.state.borrow() {
            State::InForce(account) => Some(Arc::clone(account)),
            State::Awaited(_) => None,
        }
    }

    /// Why nothing is in force; empty where something is.
    pub(crate) fn absence(&self) -> Arc<str> {
        match &*self.state.borrow() {
            State::InForce(_) => "".into(),
            State::Awaited(reason) => Arc::clone(reason),
        }
    }

    /// Waits until something is in force.
    pub(crate) async fn in_force(&self) -> Arc<Account> {
        let mut changes = self.state.subscribe();
        loop {
            if let Some(account) = self.account() {
                return account;
            }
            // The sender lives as long as the endpoint.
            let _changed = changes.changed().await;
        }
    }

    /// Puts a state from the limiter into force. Calls that are under way end as they have begun.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) fn apply(&self, state: &AccountState) -> Result<(), Unusable> {
        let state = match state {
            AccountState::Absent { reason } => State::Awaited(reason.as_str().into()),
            AccountState::InForce { document } => {
                let compiled = CompiledAccount::load(document)?;
                if compiled.provider() != self.provider {
                    let (key, provider) = (compiled.key.to_string(), self.provider.clone());
                    return Err(Unusable::OtherProvider { key, provider });
                }
                State::InForce(Arc::new(Account::new(self.index, &compiled, self.pinned.as_ref())?))
            }
        };
        self.state.send_replace(state);
        Ok(())
    }
}
