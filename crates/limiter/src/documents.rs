//! The accounts' documents as they lie in the cluster, made into one configuration. Pure.
//!
//! What can't be taken leaves in force what was there before, and is told as a problem of its
//! quota.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::{AccountKey, QuotaName};

use quotakeeper_limiter_core::Configuration;

/// All documents that have been seen, by the names of their ConfigMaps.
#[derive(Debug, Default)]
pub struct Documents {
    documents: BTreeMap<String, Document>,
}

/// One document, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDocument {
    /// The ConfigMap's name.
    pub name: String,
    /// The quota that its annotation names.
    pub quota: Option<QuotaName>,
    /// The document; none: the ConfigMap has no such key.
    pub text: Option<String>,
}

/// A document that can't be taken, for a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The quota.
    pub quota: QuotaName,
    /// Why, as a sentence.
    pub problem: String,
}

#[derive(Debug, Default)]
struct Document {
    quota: QuotaName,
    in_force: Option<CompiledAccount>,
    problem: Option<String>,
}

impl Documents {
    /// A document is new or has changed. Returns a problem that it did not have before.
    pub fn put(&mut self, written: AccountDocument) -> Option<Refused> {
        let document = self.documents.entry(written.name.clone()).or_default();
        let loaded = match &written.text {
            Some(text) => CompiledAccount::load(text).map_err(|error| error.to_string()),
            None => Err("its ConfigMap holds no account.json; let the operator write it again".to_owned()),
        };
        match loaded {
            Ok(account) => {
                document.quota.clone_from(&account.quota);
                document.in_force = Some(account);
                document.problem = None;
                None
            }
            Err(problem) => {
                if document.in_force.is_none() {
                    document.quota = written.quota.unwrap_or_else(|| written.name.into());
                }
                let new = document.problem.replace(problem.clone()).as_ref() != Some(&problem);
                new.then(|| Refused { quota: document.quota.clone(), problem })
            }
        }
    }

    /// A document is gone.
    pub fn remove(&mut self, name: &str) {
        self.documents.remove(name);
    }

    /// These are all that there are. What they replace stays in force where they can't be taken.
    pub fn replace(&mut self, all: Vec<AccountDocument>) -> Vec<Refused> {
        let names: BTreeSet<&String> = all.iter().map(|written| &written.name).collect();
        self.documents.retain(|name, _| names.contains(name));
        all.into_iter().filter_map(|written| self.put(written)).collect()
    }

    /// What is to be in force.
    pub fn configuration(&self, gate_open_until: Option<Timestamp>) -> Configuration {
        let mut problems = BTreeMap::new();
        let mut by_quota: BTreeMap<&QuotaName, &CompiledAccount> = BTreeMap::new();
        for document in self.documents.values() {
            if let Some(problem) = &document.problem {
                problems.insert(document.quota.clone(), problem.clone());
            }
            // While a quota becomes another account there are two of it for a moment.
            let Some(account) = &document.in_force else { continue };
            let newest = by_quota.entry(&account.quota).or_insert(account);
            if account.generation > newest.generation {
                *newest = account;
            }
        }
        let mut by_key: BTreeMap<&AccountKey, &CompiledAccount> = BTreeMap::new();
        for (quota, account) in by_quota {
            if let Some(other) = by_key.get(&account.key) {
                let problem = format!(
                    "the account {} is quota {}'s already; one quota is one account: set another spec.account.id",
                    account.key, other.quota
                );
                problems.insert(quota.clone(), problem);
            } else {
                by_key.insert(&account.key, account);
            }
        }
        Configuration { accounts: by_key.into_values().cloned().collect(), problems, gate_open_until }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn document(changes: Value) -> String {
        let mut document = json!({
            "format": 1, "generation": 1, "key": "openai/gtm/openai", "quota": "gtm/openai", "tier": "tier-1",
            "engine": {
                "mode": "Enforce", "onExceeded": "Queue", "validity": {"secs": 2, "nanos": 0}, "limits": [],
                "queue": {"maxWait": {"secs": 60, "nanos": 0}, "maxCalls": 100},
                "pause": {
                    "fallback": {"secs": 1, "nanos": 0}, "cap": {"secs": 60, "nanos": 0},
                    "probePatience": {"secs": 5, "nanos": 0}, "maxCall": {"secs": 600, "nanos": 0},
                },
            },
            "profile": {},
        });
        json_patch::merge(&mut document, &changes);
        document.to_string()
    }

    fn written(name: &str, text: String) -> AccountDocument {
        AccountDocument { name: name.to_owned(), quota: Some("gtm/openai".into()), text: Some(text) }
    }

    #[test]
    fn what_cannot_be_read_leaves_in_force_what_was_and_is_told_once() {
        let mut documents = Documents::default();
        assert_eq!(documents.put(written("a", document(json!({})))), None);
        let broken = || written("a", document(json!({"format": 99})));
        let refused = documents.put(broken()).unwrap();
        assert_eq!(refused.quota, "gtm/openai");
        assert!(refused.problem.contains("format 99"), "{}", refused.problem);
        assert_eq!(documents.put(broken()), None);
        let configuration = documents.configuration(None);
        assert_eq!(configuration.accounts.len(), 1);
        assert_eq!(configuration.problems.get("gtm/openai"), Some(&refused.problem));

        // Listed anew, it is the same; corrected, it is over.
        assert_eq!(documents.replace(vec![broken()]), []);
        assert_eq!(documents.configuration(None), configuration);
        documents.put(written("a", document(json!({"generation": 2}))));
        let configuration = documents.configuration(Some(Timestamp::UNIX_EPOCH));
        assert_eq!((configuration.accounts[0].generation, configuration.problems.len()), (2, 0));
        assert_eq!(configuration.gate_open_until, Some(Timestamp::UNIX_EPOCH));
        documents.replace(Vec::new());
        assert!(documents.configuration(None).accounts.is_empty());
    }

    #[test]
    fn a_broken_document_from_the_start_is_a_problem_of_the_quota_that_it_is_for() {
        let mut documents = Documents::default();
        documents.put(AccountDocument { text: None, ..written("a", String::new()) });
        documents.put(AccountDocument { quota: None, ..written("b", "rubbish".to_owned()) });
        let configuration = documents.configuration(None);
        assert!(configuration.accounts.is_empty());
        assert_eq!(configuration.problems.keys().collect::<Vec<_>>(), ["b", "gtm/openai"]);
    }

    #[test]
    fn each_quota_is_one_account_and_each_account_one_quotas() {
        let mut documents = Documents::default();
        documents.put(written("old", document(json!({}))));
        documents.put(written("new", document(json!({"generation": 2, "key": "openai/org-1"}))));
        documents.put(written("other", document(json!({"quota": "sales/openai", "key": "openai/org-1"}))));
        let configuration = documents.configuration(None);
        let [account] = configuration.accounts.as_slice() else { panic!("{configuration:?}") };
        assert_eq!((account.quota.as_str(), account.key.as_str()), ("gtm/openai", "openai/org-1"));
        assert!(configuration.problems["sales/openai"].contains("gtm/openai's already"));
    }
}
