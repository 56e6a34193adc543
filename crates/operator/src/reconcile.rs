//! What is in force: every quota with its provider, compiled or refused, and the documents that
//! the limiter is to find.
//!
//! Pure: the same objects give the same documents. One bad quota leaves the others alone; a bad
//! change leaves the quota's last good document in force.

mod allocations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use quotakeeper_api::names::{ACCOUNT_PREFIX, ACCOUNTS, QUOTAS, of_account};
use quotakeeper_api::problem::Problem;
use quotakeeper_api::quota::{ApiQuota, ApiQuotaStatus, NamespacesFrom};
use quotakeeper_api::{compile, validate};
use quotakeeper_dialects::{Profile, catalogue, did_you_mean};
use quotakeeper_wire::account::{Admitted, CompiledAccount};
use quotakeeper_wire::name::AccountKey;

use crate::records::{AccountRecord, record_name};

/// A quota as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaView {
    /// Its UID: another object of the same name has another.
    pub uid: String,
    /// How often its spec was changed.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// The quota without its status, or all that is wrong with it.
    pub quota: Result<Arc<ApiQuota>, Arc<Vec<Problem>>>,
    /// The quota as far as it can be decoded, else its last state that could: what admission goes by.
    pub decoded: Option<Arc<ApiQuota>>,
    /// The account's key, as far as it can be read.
    pub key: Option<AccountKey>,
    /// What is reported of it at present.
    pub status: Arc<ApiQuotaStatus>,
}

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// The quota that it was compiled from: `namespace/name`.
    pub quota: String,
    /// Its UID.
    pub uid: String,
    /// The account as JSON.
    pub json: Arc<str>,
    /// The number of the newest checkpoint that the account tells of.
    pub checkpoint: Option<u64>,
    /// Labels and owner are as they should be.
    pub proper: bool,
}

/// All that decides what is in force.
#[derive(Clone, Debug, Default)]
pub struct ObservedState {
    /// The quotas by `namespace/name`.
    pub quotas: BTreeMap<String, QuotaView>,
    /// The providers by name; those that can't be read say why.
    pub providers: BTreeMap<String, Arc<Result<Profile, String>>>,
    /// The labels of the namespaces by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The documents that are stored, by the name of their ConfigMap.
    pub stored: BTreeMap<String, StoredDocument>,
    /// The records of accounts, by the name of their ConfigMap.
    pub records: BTreeMap<String, AccountRecord>,
}

/// Why a quota is not accepted, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no such provider.
    ProviderNotFound,
    /// The provider is wrong in itself.
    ProviderInvalid,
    /// The provider has no such tier.
    TierNotFound,
    /// Another quota has the account.
    AccountConflict,
    /// Anything else in its spec.
    Invalid,
}

impl Reason {
    /// As a condition's reason.
    pub fn word(self) -> &'static str {
        match self {
            Reason::ProviderNotFound => "ProviderNotFound",
            Reason::ProviderInvalid => "ProviderInvalid",
            Reason::TierNotFound => "TierNotFound",
            Reason::AccountConflict => "AccountConflict",
            Reason::Invalid => "Invalid",
        }
    }
}

/// What became of a quota.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is compiled.
    Accepted(Arc<CompiledAccount>),
    /// It is not.
    Refused {
        /// Why, in one word.
        reason: Reason,
        /// Why, as a sentence.
        message: String,
        /// What an earlier generation of it left in force.
        in_force: Option<Arc<CompiledAccount>>,
    },
}

impl Verdict {
    /// The account that is in force, if any.
    pub fn account(&self) -> Option<&Arc<CompiledAccount>> {
        match self {
            Verdict::Accepted(account) => Some(account),
            Verdict::Refused { in_force, .. } => in_force.as_ref(),
        }
    }
}

/// A document that the limiter is to find.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The quota that it was compiled from: `namespace/name`.
    pub quota: String,
    /// Its UID.
    pub uid: String,
    /// The account as JSON.
    pub json: Arc<str>,
}

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredState {
    /// Every quota, by `namespace/name`.
    pub quotas: BTreeMap<String, Verdict>,
    /// Every document, by the name of its ConfigMap.
    pub documents: BTreeMap<String, Document>,
}

/// Why one quota is refused.
struct Refusal {
    reason: Reason,
    message: String,
}

/// Plans what is to be in force.
pub fn plan(observed: &ObservedState) -> DesiredState {
    let owners = owners(observed);
    let mut desired = DesiredState::default();
    let mut refused = Vec::new();
    for (name, view) in &observed.quotas {
        let verdict = conflict(name, view, &owners, observed).map_or_else(|| compiled(view, observed), Err);
        match verdict {
            Ok(account) => {
                let document = document(name, view, &account);
                desired.documents.insert(document_name(&account.key), document);
                desired.quotas.insert(name.clone(), Verdict::Accepted(Arc::new(account)));
            }
            Err(refusal) => refused.push((name, view, refusal)),
        }
    }
    for (name, view, Refusal { reason, mut message }) in refused {
        let kept = last_good(name, view, observed, &desired.documents);
        let in_force = kept.map(|(at, document, account)| {
            message.push_str(&format!(" Generation {} stays in force until then.", account.generation));
            desired.documents.insert(at, document);
            Arc::new(account)
        });
        desired.quotas.insert(name.clone(), Verdict::Refused { reason, message, in_force });
    }
    desired
}

/// The name of the ConfigMap that holds an account's document.
pub fn document_name(key: &str) -> String {
    of_account(ACCOUNT_PREFIX, key)
}

fn document(name: &str, view: &QuotaView, account: &CompiledAccount) -> Document {
    // Values of our own types: writing them can't fail.
    let json = serde_json::to_string_pretty(account).unwrap_or_default() + "\n";
    Document { quota: name.to_owned(), uid: view.uid.clone(), json: json.into() }
}

/// The namespaces that the platform has reserved an account for; none: whoever comes first has it.
fn reserved_for<'o>(key: &str, observed: &'o ObservedState) -> Vec<&'o str> {
    let Some((provider, id)) = key.split_once('/') else { return Vec::new() };
    let label = format!("{ACCOUNTS}/{id}");
    let named = |labels: &BTreeMap<String, String>| labels.get(&label).is_some_and(|value| value == provider);
    observed.namespaces.iter().filter(|(_, labels)| named(labels)).map(|(name, _)| name.as_str()).collect()
}

fn may_have(quota: &str, reserved: &[&str]) -> bool {
    reserved.is_empty() || quota.split_once('/').is_some_and(|(namespace, _)| reserved.contains(&namespace))
}

/// Of the quotas of each account the oldest, of those that may have it.
fn owners(observed: &ObservedState) -> BTreeMap<&str, &str> {
    let mut owners: BTreeMap<&str, (Timestamp, &str)> = BTreeMap::new();
    for (name, view) in &observed.quotas {
        let Some(key) = view.key.as_deref() else { continue };
        if !may_have(name, &reserved_for(key, observed)) {
            continue;
        }
        let claim = (view.created, name.as_str());
        owners.entry(key).and_modify(|owner| *owner = claim.min(*owner)).or_insert(claim);
    }
    owners.into_iter().map(|(key, (_, name))| (key, name)).collect()
}

fn conflict(
    name: &str,
    view: &QuotaView,
    owners: &BTreeMap<&str, &str>,
    observed: &ObservedState,
) -> Option<Refusal> {
    let key = view.key.as_deref()?;
    let reserved = reserved_for(key, observed);
    if !may_have(name, &reserved) {
        let (provider, id) = key.split_once('/')?;
        let message = format!(
            "The account {id} of {provider} is reserved for quotas of namespace {} (label {ACCOUNTS}/{id}); draw on one of these, or correct spec.account.id.",
            reserved.join(", ")
        );
        return Some(Refusal { reason: Reason::AccountConflict, message });
    }
    let owner = owners.get(key).filter(|owner| **owner != name)?;
    let (provider, id) = key.split_once('/')?;
    let winner = observed.quotas.get(*owner)?;
    let (created, namespace) = (winner.created, name.split_once('/')?.0);
    let admitted = winner.quota.as_ref().is_ok_and(|quota| {
        admitted(quota, &observed.namespaces).is_ok_and(|admitted| admitted.admits(namespace))
    });
    let draw = match admitted {
        true => format!("draw on that one (annotation {QUOTAS}: {owner})"),
        false => format!(
            "let that one admit namespace {namespace} (spec.consumers.namespaces) and draw on it (annotation {QUOTAS}: {owner})"
        ),
    };
    let message = format!(
        "The account {id} of {provider} belongs to ApiQuota {owner}, which is older (created {created}); {draw}, or correct spec.account.id."
    );
    Some(Refusal { reason: Reason::AccountConflict, message })
}

fn compiled(view: &QuotaView, observed: &ObservedState) -> Result<CompiledAccount, Refusal> {
    let quota = view.quota.as_ref().map_err(|problems| invalid(problems))?;
    let profile = profile(quota, observed)?;
    let mut account = compile::account(quota, profile).map_err(|problems| {
        let tier = problems.iter().any(|problem| problem.field == "spec.provider.tier");
        let reason = if tier { Reason::TierNotFound } else { Reason::Invalid };
        Refusal { reason, ..invalid(&problems) }
    })?;
    account.admitted = admitted(quota, &observed.namespaces)?;
    account.allocations = allocations::pods(quota, &observed.namespaces)?;
    let record = observed.records.get(&record_name(&document_name(&account.key)));
    account.in_force_since = record.and_then(|record| record.since);
    account.checkpoint = newest_checkpoint(view, observed, &account.key);
    Ok(account)
}

/// The number of the newest checkpoint that anybody has told of an account. Its quota's status is the one witness that
/// no backup of the limiter's namespace rolls back with the checkpoint; of a quota that was applied anew only the
/// account's document tells, and of one that was deleted its record.
fn newest_checkpoint(view: &QuotaView, observed: &ObservedState, key: &AccountKey) -> Option<u64> {
    let name = document_name(key);
    let reported = view.status.checkpoint.as_ref().filter(|reported| reported.account == **key);
    let reported = reported.and_then(|reported| u64::try_from(reported.number).ok());
    let stored = observed.stored.get(&name).and_then(|stored| stored.checkpoint);
    let recorded = observed.records.get(&record_name(&name)).and_then(|record| record.checkpoint);
    reported.max(stored).max(recorded)
}

fn invalid(problems: &[Problem]) -> Refusal {
    let sentences: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Refusal { reason: Reason::Invalid, message: format!("{}.", sentences.join("; ")) }
}

/// The profile of a quota's provider, with all that it inherits.
fn profile(quota: &ApiQuota, observed: &ObservedState) -> Result<Profile, Refusal> {
    let asked = quota.spec.provider.name.as_str();
    let wrong = |message: String| Refusal { reason: Reason::ProviderInvalid, message };
    let Some(found) = find(asked, observed) else {
        let mut known: BTreeSet<&str> = catalogue::names().into_iter().collect();
        known.extend(observed.providers.keys().map(String::as_str));
        let hint = did_you_mean(asked, known.iter().copied());
        let known: Vec<&str> = known.into_iter().collect();
        let message = format!(
            "spec.provider.name: there is no ApiProvider `{asked}`{hint}; use one of: {}, or create it.",
            known.join(", ")
        );
        return Err(Refusal { reason: Reason::ProviderNotFound, message });
    };
    let profile = found.map_err(|error| wrong(format!("ApiProvider {asked} can't be read: {error}.")))?;
    let resolved = profile.resolve(|name| find(name, observed)?.ok());
    let resolved = resolved.map_err(|error| wrong(format!("ApiProvider {asked}: spec.{error}.")))?;
    let problems = validate::profile_problems(&resolved);
    if problems.is_empty() {
        return Ok(resolved);
    }
    let message = invalid(&problems).message;
    Err(wrong(format!("ApiProvider {asked}: {message}")))
}

/// A provider of the cluster, else of the catalogue: its objects may not be there yet.
fn find(name: &str, observed: &ObservedState) -> Option<Result<Profile, String>> {
    match observed.providers.get(name) {
        Some(provider) => Some(provider.as_ref().clone()),
        None => catalogue::find(name).ok().map(Ok),
    }
}

fn admitted(
    quota: &ApiQuota,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<Admitted, Refusal> {
    let consumers = quota.spec.consumers.as_ref().and_then(|consumers| consumers.namespaces.as_ref());
    let from = consumers.map_or(NamespacesFrom::Same, |consumers| consumers.from);
    Ok(match from {
        NamespacesFrom::All => Admitted::Everyone,
        NamespacesFrom::Same => Admitted::Namespaces(quota.metadata.namespace.clone().into_iter().collect()),
        NamespacesFrom::Selector => {
            let selector = consumers.and_then(|consumers| consumers.selector.clone()).unwrap_or_default();
            let selector = selector_of(selector, "spec.consumers.namespaces.selector")?;
            let matching = namespaces.iter().filter(|(_, labels)| selector.matches(labels));
            Admitted::Namespaces(matching.map(|(name, _)| name.clone()).collect())
        }
    })
}

fn selector_of(selector: LabelSelector, field: &str) -> Result<Selector, Refusal> {
    selector.try_into().map_err(|error| {
        let message = format!("{error}; correct the operator or its values");
        invalid(&[Problem::new(field, message)])
    })
}

/// A document that tells of another checkpoint, and is the same otherwise.
fn with_checkpoint(json: &str, checkpoint: Option<u64>) -> Option<Arc<str>> {
    let mut document: serde_json::Value = serde_json::from_str(json).ok()?;
    document["checkpoint"] = checkpoint.into();
    let json = serde_json::to_string_pretty(&document).ok()? + "\n";
    Some(json.into())
}

/// The document that an earlier generation of this very quota left, where no other has taken its place.
fn last_good(
    name: &str,
    view: &QuotaView,
    observed: &ObservedState,
    taken: &BTreeMap<String, Document>,
) -> Option<(String, Document, CompiledAccount)> {
    let ours = |stored: &StoredDocument| stored.quota == name && stored.uid == view.uid;
    let left = observed.stored.iter().filter(|(at, stored)| ours(stored) && !taken.contains_key(*at));
    let read = left.filter_map(|(at, stored)| {
        let account = CompiledAccount::load(&stored.json).ok()?;
        let checkpoint = newest_checkpoint(view, observed, &account.key);
        let json = match checkpoint == stored.checkpoint {
            true => stored.json.clone(),
            false => with_checkpoint(&stored.json, checkpoint)?,
        };
        let document = Document { quota: name.to_owned(), uid: view.uid.clone(), json };
        Some((at.clone(), document, account))
    });
    read.max_by_key(|(_, _, account)| account.generation)
}

#[cfg(test)]
mod tests;
