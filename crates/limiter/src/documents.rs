//! The accounts' documents as they are stored in the cluster, made into one configuration. Pure.
//!
//! A document that can't be read leaves in force what it held before, and is reported as a problem of
//! its quota.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quotakeeper_limiter_core::Configuration;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::{AccountKey, QuotaName};

/// A ConfigMap that holds an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccount {
    /// The ConfigMap's name.
    pub name: String,
    /// The quota that its annotation names.
    pub quota: Option<QuotaName>,
    /// The document; none: the ConfigMap has no such key.
    pub text: Option<String>,
}

/// A document, and what is in force of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    quota: QuotaName,
    in_force: Option<CompiledAccount>,
    problem: Option<String>,
}

impl Document {
    /// Reads a stored account. One that can't be read leaves in force what was in force of it `before`.
    pub fn read(stored: StoredAccount, before: Option<&Document>) -> Document {
        let loaded = match &stored.text {
            Some(text) => CompiledAccount::load(text).map_err(|error| error.to_string()),
            None => Err("its ConfigMap holds no account.json; let the operator write it again".to_owned()),
        };
        match loaded {
            Ok(account) => Document { quota: account.quota.clone(), in_force: Some(account), problem: None },
            Err(problem) => match before.filter(|before| before.in_force.is_some()) {
                Some(before) => Document { problem: Some(problem), ..before.clone() },
                None => {
                    let quota = stored.quota.unwrap_or_else(|| stored.name.into());
                    Document { quota, in_force: None, problem: Some(problem) }
                }
            },
        }
    }
}

/// The configuration that these documents make together.
pub fn configuration<'d>(
    documents: impl IntoIterator<Item = &'d Document>,
    gate_open_until: Option<Timestamp>,
) -> Configuration {
    let mut problems = BTreeMap::new();
    let mut by_quota: BTreeMap<&QuotaName, &CompiledAccount> = BTreeMap::new();
    for document in documents {
        if let Some(problem) = &document.problem {
            problems.insert(document.quota.clone(), problem.clone());
        }
        // While a quota moves to another account, there are two documents of it for a moment.
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

/// The problems of `new` that `old` did not have, by quota.
pub fn new_problems<'c>(
    old: Option<&'c Configuration>,
    new: &'c Configuration,
) -> impl Iterator<Item = (&'c QuotaName, &'c String)> {
    let known = move |quota: &QuotaName| old.and_then(|old| old.problems.get(quota));
    new.problems.iter().filter(move |(quota, problem)| known(quota) != Some(problem))
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

    fn stored(name: &str, text: String) -> StoredAccount {
        StoredAccount { name: name.to_owned(), quota: Some("gtm/openai".into()), text: Some(text) }
    }

    #[test]
    fn an_unreadable_document_leaves_in_force_what_was_and_is_reported_once() {
        let good = Document::read(stored("a", document(json!({}))), None);
        let in_force = configuration([&good], None);
        assert!(in_force.problems.is_empty());

        let broken = Document::read(stored("a", document(json!({"format": 99}))), Some(&good));
        let with_problem = configuration([&broken], None);
        assert_eq!(with_problem.accounts, in_force.accounts);
        let [(quota, problem)] = new_problems(Some(&in_force), &with_problem).collect::<Vec<_>>()[..] else {
            panic!("{with_problem:?}")
        };
        assert_eq!(*quota, "gtm/openai");
        assert!(problem.contains("format 99"), "{problem}");

        let again = Document::read(stored("a", document(json!({"format": 99}))), Some(&broken));
        let unchanged = configuration([&again], None);
        assert_eq!(unchanged, with_problem);
        assert_eq!(new_problems(Some(&with_problem), &unchanged).count(), 0);
        assert_eq!(new_problems(None, &unchanged).count(), 1, "after a restart it is reported again");

        let corrected = Document::read(stored("a", document(json!({"generation": 2}))), Some(&again));
        let corrected = configuration([&corrected], Some(Timestamp::UNIX_EPOCH));
        assert_eq!((corrected.accounts[0].generation, corrected.problems.len()), (2, 0));
        assert_eq!(corrected.gate_open_until, Some(Timestamp::UNIX_EPOCH));
        assert!(configuration([], None).accounts.is_empty());
    }

    #[test]
    fn a_document_that_never_was_readable_is_a_problem_of_the_quota_that_it_is_for() {
        let without_text = StoredAccount { text: None, ..stored("a", String::new()) };
        let without_quota = StoredAccount { quota: None, ..stored("b", "rubbish".to_owned()) };
        let documents = [without_text, without_quota].map(|stored| Document::read(stored, None));
        let configuration = configuration(&documents, None);
        assert!(configuration.accounts.is_empty());
        assert_eq!(configuration.problems.keys().collect::<Vec<_>>(), ["b", "gtm/openai"]);
    }

    #[test]
    fn a_quota_has_one_account_and_an_account_one_quota() {
        let documents = [
            ("old", json!({})),
            ("new", json!({"generation": 2, "key": "openai/org-1"})),
            ("other", json!({"quota": "sales/openai", "key": "openai/org-1"})),
        ]
        .map(|(name, changes)| Document::read(stored(name, document(changes)), None));
        let configuration = configuration(&documents, None);
        let [account] = configuration.accounts.as_slice() else { panic!("{configuration:?}") };
        assert_eq!((account.quota.as_str(), account.key.as_str()), ("gtm/openai", "openai/org-1"));
        assert!(configuration.problems["sales/openai"].contains("gtm/openai's already"));
    }
}
