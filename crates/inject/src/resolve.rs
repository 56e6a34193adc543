//! Which quotas the names on a pod mean.
//!
//! A name without namespace means the quota of the pod's own namespace, else the only one elsewhere that admits the
//! pod. What can't be told apart is refused: a call must be charged to exactly one account.

use std::sync::Arc;

use kube::ResourceExt;
use quotakeeper_api::compile;
use quotakeeper_api::quota::ApiQuota;
use quotakeeper_dialects::did_you_mean;

use crate::requested_quotas::Asked;
use crate::view::{Namespace, admits};
use quotakeeper_api::names::QUOTAS;

/// The most names that a refusal lists.
const LISTED: usize = 20;

/// Why no quotas are found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// A sentence that refuses the pod.
    Refused(String),
    /// A name is unknown: refused too, but the quota may only just have been created.
    Unknown(String),
    /// A label asks for all quotas, and none admits the pod.
    NoneAdmits(String),
}

/// The quotas that are asked for, in their order, no two of one provider.
pub(crate) fn find(
    asked: &Asked,
    namespace: &Namespace,
    quotas: &[Arc<ApiQuota>],
) -> Result<Vec<Arc<ApiQuota>>, NotFound> {
    let found = match asked {
        Asked::Nothing => Vec::new(),
        Asked::Names(names) => {
            let mut found: Vec<Arc<ApiQuota>> = Vec::new();
            for name in names {
                let quota = one(name, namespace, quotas)?;
                if !found.iter().any(|known| compile::name(known) == compile::name(&quota)) {
                    found.push(quota);
                }
            }
            found
        }
        Asked::Auto { explicitly } => all(*explicitly, namespace, quotas)?,
    };
    match twice(&found) {
        None => Ok(found),
        Some(sentence) => Err(NotFound::Refused(sentence)),
    }
}

fn one(name: &str, namespace: &Namespace, quotas: &[Arc<ApiQuota>]) -> Result<Arc<ApiQuota>, NotFound> {
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
            false => Err(NotFound::Refused(not_admitted(quota, namespace))),
        };
    }
    if place.is_none() {
        let admitting: Vec<&Arc<ApiQuota>> =
            same.iter().copied().filter(|quota| admits(quota, namespace)).collect();
        match (&admitting[..], &same[..]) {
            ([quota], _) => return Ok(Arc::clone(quota)),
            ([], [quota, ..]) => return Err(NotFound::Refused(not_admitted(quota, namespace))),
            ([], []) => {}
            _ => {
                let which = listed(admitting.iter().map(|quota| compile::name(quota).to_string()).collect());
                return Err(NotFound::Refused(format!(
                    "the quota `{plain}` is ambiguous in namespace {}: {which} admit its pods; write one of them in \
                     the annotation {QUOTAS}",
                    namespace.name
                )));
            }
        }
    }
    Err(NotFound::Unknown(unknown(name, namespace, quotas)))
}

/// All that admit the pod; of one provider, the quotas of its own namespace come before all others.
fn all(
    explicitly: bool,
    namespace: &Namespace,
    quotas: &[Arc<ApiQuota>],
) -> Result<Vec<Arc<ApiQuota>>, NotFound> {
    let admitting: Vec<&Arc<ApiQuota>> = quotas.iter().filter(|quota| admits(quota, namespace)).collect();
    let own = |quota: &ApiQuota| in_namespace(quota, &namespace.name);
    let shadowed = |quota: &ApiQuota| {
        let provider = &quota.spec.provider.name;
        !own(quota) && admitting.iter().any(|other| own(other) && other.spec.provider.name == *provider)
    };
    let mut found: Vec<Arc<ApiQuota>> =
        admitting.iter().filter(|quota| !shadowed(quota)).map(|quota| Arc::clone(quota)).collect();
    found.sort_by_key(|quota| compile::name(quota));
    if found.is_empty() {
        let sentence = format!(
            "no quota admits pods of namespace {}; create an ApiQuota there, or let one admit it by \
             spec.consumers.namespaces",
            namespace.name
        );
        return Err(if explicitly { NotFound::Unknown(sentence) } else { NotFound::NoneAdmits(sentence) });
    }
    Ok(found)
}

/// A refusal where two quotas are of one provider.
fn twice(found: &[Arc<ApiQuota>]) -> Option<String> {
    found.iter().enumerate().find_map(|(index, quota)| {
        let provider = &quota.spec.provider.name;
        let other = found[..index].iter().find(|other| other.spec.provider.name == *provider)?;
        Some(format!(
            "the quotas {} and {} are both of provider `{provider}`, and a pod draws on one of a provider; name one \
             of them in the annotation {QUOTAS}",
            compile::name(other),
            compile::name(quota)
        ))
    })
}

fn in_namespace(quota: &ApiQuota, namespace: &str) -> bool {
    quota.metadata.namespace.as_deref() == Some(namespace)
}

fn not_admitted(quota: &ApiQuota, namespace: &Namespace) -> String {
    format!(
        "the quota {} does not admit pods of namespace {}; its owner can, by spec.consumers.namespaces",
        compile::name(quota),
        namespace.name
    )
}

fn unknown(name: &str, namespace: &Namespace, quotas: &[Arc<ApiQuota>]) -> String {
    let mut known: Vec<String> = quotas
        .iter()
        .filter(|quota| admits(quota, namespace))
        .map(|quota| match in_namespace(quota, &namespace.name) {
            true => quota.name_any(),
            false => compile::name(quota).to_string(),
        })
        .collect();
    known.sort();
    if known.is_empty() {
        return format!(
            "the quota `{name}` is unknown, and none admits pods of namespace {}; create an ApiQuota there, or let \
             one admit it by spec.consumers.namespaces",
            namespace.name
        );
    }
    let hint = did_you_mean(name, known.iter().map(String::as_str));
    let which = listed(known);
    format!("the quota `{name}` is unknown in namespace {}{hint}; it can use: {which}", namespace.name)
}

/// Names as a list in a sentence.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let list = names.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}
