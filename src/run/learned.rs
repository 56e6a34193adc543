//! Quotas without a tier: what is assumed when the command starts, and what answers have told since.

use std::collections::BTreeMap;

use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::QuotaName;
use quotakeeper_wire::status::AccountReport;
use quotakeeper_wire::tier::{TierBasis, ToldLimit};

/// The quotas that declare no tier, and what is to be said of each as long as nothing is known.
pub fn undeclared(accounts: &[CompiledAccount]) -> BTreeMap<QuotaName, String> {
    let question = |account: &CompiledAccount| {
        let undeclared = account.undeclared.as_ref()?;
        Some((account.quota.clone(), format!("quota {}: {}", account.quota, undeclared.question())))
    };
    accounts.iter().filter_map(question).collect()
}

/// What is to be said of quotas of which nothing is known, not even by their ledgers.
pub fn questions(undeclared: &BTreeMap<QuotaName, String>, accounts: &[AccountReport]) -> Vec<String> {
    let assumed = |account: &&AccountReport| {
        account.learned.as_ref().is_some_and(|learned| learned.basis == TierBasis::Assumed)
    };
    accounts.iter().filter(assumed).filter_map(|account| undeclared.get(&account.quota)).cloned().collect()
}

/// A run is the only workload that it knows of.
fn sentence(account: &AccountReport) -> Option<String> {
    account.learned.as_ref()?.sentence_with(ToldLimit::figure)
}

/// What was last said of each quota.
#[derive(Debug, Default)]
pub struct Learned {
    said: BTreeMap<QuotaName, String>,
}

impl Learned {
    /// Sentences about what has been learned since the last time.
    pub fn news(&mut self, accounts: &[AccountReport]) -> Vec<String> {
        let mut news = Vec::new();
        for account in accounts {
            let Some(sentence) = sentence(account) else {
                continue;
            };
            if self.said.insert(account.quota.clone(), sentence.clone()).as_ref() != Some(&sentence) {
                news.push(format!("quota {}: {sentence}", account.quota));
            }
        }
        news
    }
}
