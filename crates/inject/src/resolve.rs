//! Which quotas the names on a pod mean.
//!
//! A name without namespace means the quota of the pod's own namespace, else the only one that admits the pod in the
//! namespaces that the platform has named for it; `auto` means all of these. Whoever writes a quota elsewhere decides
//! nothing for pods that do not name it in full. An ambiguous name is refused: a call must be charged to exactly one
//! account.

use std::sync::Arc;

use kube::ResourceExt;
use quotakeeper_api::compile;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::did_you_mean;
use quotakeeper_wire::name::QuotaName;
use thiserror::Error;

use crate::requested_quotas::Requested;
use crate::view::{Namespace, admits, consents_to};
use quotakeeper_api::names::{QUOTAS, QUOTAS_FROM};

/// The most names that an error lists.
const LISTED: usize = 20;

/// Why the requested quotas can't be found.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ResolveError {
    #[error(
        "the quota {quota} does not admit pods of namespace {namespace}; its owner can, by spec.consumers.namespaces"
    )]
    NotAdmitted { quota: QuotaName, namespace: String },
    #[error(
        "the quota `{name}` is ambiguous in namespace {namespace}: {candidates} admit its pods; write one of them in \
         the annotation {QUOTAS}",
        candidates = listed(.candidates)
    )]
    Ambiguous { name: String, namespace: String, candidates: Vec<String> },
    #[error(
        "the quotas {first} and {second} are both of provider `{provider}`, and a pod draws on one of a provider; \
         name one of them in the annotation {QUOTAS}"
    )]
    SameProvider { first: QuotaName, second: QuotaName, provider: String },
    #[error(
        "the quota `{name}` is unknown in namespace {namespace}{hint}; it can use: {which}",
        hint = did_you_mean(.name, .usable.iter().map(String::as_str)), which = listed(.usable)
    )]
    Unknown { name: String, namespace: String, usable: Vec<String> },
    #[error(
        "the quota `{name}` is unknown, and none admits pods of namespace {namespace}; create an ApiQuota there, or \
         let one admit it by spec.consumers.namespaces"
    )]
    UnknownAndNoneAdmits { name: String, namespace: String },
    #[error(
        "no quota admits pods of namespace {namespace} without being named; create an ApiQuota there, name one as \
         NAMESPACE/NAME in the annotation {QUOTAS}, or have the platform label the namespace {QUOTAS_FROM}"
    )]
    NoneAdmits { namespace: String },
}

impl ResolveError {
    /// Whether a quota that was created a moment ago, and not seen yet, may be the one that is missing.
    pub(crate) fn may_be_created_soon(&self) -> bool {
        use ResolveError::{NoneAdmits, Unknown, UnknownAndNoneAdmits};
        matches!(self, Unknown { .. } | UnknownAndNoneAdmits { .. } | NoneAdmits { .. })
    }
}

/// The requested quotas, in their order, no two of one provider.
pub(crate) fn find(
    requested: &Requested,
    namespace: &Namespace,
    quotas: &[Arc<ApiQuota>],
) -> Result<Vec<Arc<ApiQuota>>, ResolveError> {
    let found = match requested {
        Requested::Nothing => Vec::new(),
        Requested::Names(names) => {
            let mut found: Vec<Arc<ApiQuota>> = Vec::new();
            for name in names {
                let quota = one(name, namespace, quotas)?;
                if !found.iter().any(|known| compile::name(known) == compile::name(&quota)) {
                    found.push(quota);
                }
            }
            found
        }
        Requested::Auto { .. } => all(namespace, quotas)?,
    };
    match same_provider(&found) {
        None => Ok(found),
        Some(error) => Err(error),
    }
}

fn one(name: &str, namespace: &Namespace, quotas: &[Arc<ApiQuota>]) -> Result<Arc<ApiQuota>, ResolveError> {
    let (place, plain) = match name.split_once('/') {
        Some((place, plain)) => (Some(place), plain),
        None => (None, name),
    };
    let mut same: Vec<&Arc<ApiQuota>> = quotas.iter().filter(|quota| quota.name_any() == plain).collect();
    same.sort_by_key(|quota| compile::name(quota));
    let at = |place: &str| same.iter().copied().find(|quota| in_namespace(quota, place));
    let exact = match place {
        Some(place) => at(place),
        None => at(&namespace.name),
    };
    if let Some(quota) = exact {
        return match admits(quota, namespace) {
            true => Ok(Arc::clone(quota)),
            false => Err(not_admitted(quota, namespace)),
        };
    }
    if place.is_none() {
        let admitting: Vec<&Arc<ApiQuota>> = same
            .iter()
            .copied()
            .filter(|quota| means(quota, namespace) && admits(quota, namespace))
            .collect();
        let known = same.iter().copied().find(|quota| means(quota, namespace));
        match (&admitting[..], known) {
            ([quota], _) => return Ok(Arc::clone(quota)),
            ([], Some(quota)) => return Err(not_admitted(quota, namespace)),
            ([], None) => {}
            _ => {
                let candidates = admitting.iter().map(|quota| compile::name(quota).to_string()).collect();
                let (name, namespace) = (plain.to_owned(), namespace.name.clone());
                return Err(ResolveError::Ambiguous { name, namespace, candidates });
            }
        }
    }
    Err(unknown(name, namespace, quotas))
}

/// Whether a pod of `namespace` may mean the quota without writing out where it is.
fn means(quota: &ApiQuota, namespace: &Namespace) -> bool {
    quota.metadata.namespace.as_deref().is_some_and(|place| consents_to(place, namespace))
}

/// All that the pod means and that admit it; of one provider, the quotas of its own namespace come before all others.
fn all(namespace: &Namespace, quotas: &[Arc<ApiQuota>]) -> Result<Vec<Arc<ApiQuota>>, ResolveError> {
    let meant = |quota: &&Arc<ApiQuota>| means(quota, namespace) && admits(quota, namespace);
    let admitting: Vec<&Arc<ApiQuota>> = quotas.iter().filter(meant).collect();
    let own = |quota: &ApiQuota| in_namespace(quota, &namespace.name);
    let shadowed = |quota: &ApiQuota| {
        let provider = &quota.spec.provider.name;
        !own(quota) && admitting.iter().any(|other| own(other) && other.spec.provider.name == *provider)
    };
    let mut found: Vec<Arc<ApiQuota>> =
        admitting.iter().filter(|quota| !shadowed(quota)).map(|quota| Arc::clone(quota)).collect();
    found.sort_by_key(|quota| compile::name(quota));
    if found.is_empty() {
        return Err(ResolveError::NoneAdmits { namespace: namespace.name.clone() });
    }
    Ok(found)
}

/// An error where two quotas are of one provider.
fn same_provider(found: &[Arc<ApiQuota>]) -> Option<ResolveError> {
    found.iter().enumerate().find_map(|(index, quota)| {
        let provider = &quota.spec.provider.name;
        let first = found[..index].iter().find(|other| other.spec.provider.name == *provider)?;
        let (first, second) = (compile::name(first), compile::name(quota));
        Some(ResolveError::SameProvider { first, second, provider: provider.clone() })
    })
}

fn in_namespace(quota: &ApiQuota, namespace: &str) -> bool {
    quota.metadata.namespace.as_deref() == Some(namespace)
}

fn not_admitted(quota: &ApiQuota, namespace: &Namespace) -> ResolveError {
    ResolveError::NotAdmitted { quota: compile::name(quota), namespace: namespace.name.clone() }
}

fn unknown(name: &str, namespace: &Namespace, quotas: &[Arc<ApiQuota>]) -> ResolveError {
    let mut usable: Vec<String> = quotas
        .iter()
        .filter(|quota| admits(quota, namespace))
        .map(|quota| match in_namespace(quota, &namespace.name) {
            true => quota.name_any(),
            false => compile::name(quota).to_string(),
        })
        .collect();
    usable.sort();
    let (name, namespace) = (name.to_owned(), namespace.name.clone());
    match usable.is_empty() {
        true => ResolveError::UnknownAndNoneAdmits { name, namespace },
        false => ResolveError::Unknown { name, namespace, usable },
    }
}

/// Names as a list in a sentence.
fn listed(names: &[String]) -> String {
    let list = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    /// A quota that admits everybody.
    fn open(place: &str, name: &str, provider: &str) -> Arc<ApiQuota> {
        let quota = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1", "kind": "ApiQuota",
            "metadata": {"name": name, "namespace": place},
            "spec": {"provider": {"name": provider}, "consumers": {"namespaces": {"from": "All"}}},
        });
        Arc::new(serde_json::from_value(quota).unwrap())
    }

    fn found(requested: &Requested, named: &str, quotas: &[Arc<ApiQuota>]) -> String {
        let labels = [(QUOTAS_FROM.to_owned(), named.to_owned())].into();
        let namespace = Namespace { name: "gtm".to_owned(), labels };
        let names = |found: Vec<Arc<ApiQuota>>| {
            found.iter().map(|it| compile::name(it).to_string()).collect::<Vec<_>>()
        };
        find(requested, &namespace, quotas)
            .map_or_else(|error| error.to_string(), |found| names(found).join(" "))
    }

    /// Whoever may write a quota in some namespace could refuse pods of all others, or have them draw on it.
    #[test]
    fn quotas_that_nobody_here_consented_to_decide_nothing() {
        let auto = Requested::Auto { explicitly: false };
        let bare = Requested::Names(vec!["openai".to_owned()]);
        let whole = Requested::Names(vec!["platform/openai".to_owned()]);
        let good = [open("gtm", "hubspot", "hubspot"), open("platform", "openai", "openai")];
        let evil = ["nope", "openai", "hubspot"].map(|provider| open("evil", "openai", provider));
        for evil in evil {
            let quotas = [good.to_vec(), vec![evil]].concat();
            assert_eq!(found(&auto, "", &quotas), "gtm/hubspot");
            assert_eq!(found(&auto, "platform", &quotas), "gtm/hubspot platform/openai");
            assert_eq!(found(&bare, "research.platform", &quotas), "platform/openai");
            assert_eq!(
                found(&whole, "", &quotas),
                "platform/openai",
                "written out, it is the author's own word"
            );
            let unknown = found(&bare, "", &quotas);
            assert!(
                unknown.contains("unknown in namespace gtm") && unknown.contains("platform/openai"),
                "{unknown}"
            );
        }
        let both = found(&bare, "platform.evil", &[good[1].clone(), open("evil", "openai", "openai")]);
        assert!(both.contains("is ambiguous"), "{both}");
    }
}
