//! `kubectl apiquota plan`: whether a campaign fits the cluster's quotas as they are used now.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use quotakeeper_api::load::{self, Source};
use quotakeeper_api::names::{API_VERSION, CATALOGUE};
use quotakeeper_api::provider::ApiProvider;
use quotakeeper_api::quota::{ApiQuota, Unit};
use quotakeeper_api::yaml;
use quotakeeper_engine::config::NANODOLLARS;
use quotakeeper_engine::event::Scope;
use quotakeeper_planner::campaign::Present;
use quotakeeper_wire::account::CompiledAccount;
use serde_json::{Value, json};

use super::cluster::{BadInput, Cluster, is_unknown};
use crate::plan::{PlanOptions, Quotas, of_quotas, use_unknown};
use crate::run::prepare;

/// Plans the campaigns of files with the quotas that they name: those of the files, else those of the cluster.
pub(super) async fn run(cluster: &Cluster, options: &PlanOptions) -> anyhow::Result<ExitCode> {
    let mut sources = prepare::sources(&options.files).map_err(bad)?;
    let quotas = quotas(cluster, &names(&sources)).await?;
    let providers = providers(cluster, &quotas).await?;
    if !quotas.is_empty() {
        sources.push(Source { name: "the cluster".to_owned(), text: text_of(&quotas, &providers)? });
    }
    let documents = load::documents(&sources).map_err(bad)?;
    let accounts = documents.accounts().map_err(bad)?;
    let now = Timestamp::now();
    let mut warnings = Vec::new();
    let present = accounts.iter().map(|account| present(account, &quotas, now, &mut warnings)).collect();
    of_quotas(options, &Quotas { documents, accounts, present, warnings }, now).map_err(bad)
}

fn bad(error: impl std::fmt::Display) -> anyhow::Error {
    BadInput(format!("{error:#}")).into()
}

/// The quotas that campaigns of the files name, without those that are in the files. What is no campaign is judged later.
fn names(sources: &[Source]) -> BTreeSet<String> {
    let documents: Vec<Value> = sources
        .iter()
        .flat_map(|source| yaml::read(&source.text).unwrap_or_default())
        .map(|it| it.value)
        .collect();
    let of_kind = |kind: &'static str| documents.iter().filter(move |document| document["kind"] == kind);
    let own = |name: &str| {
        of_kind("ApiQuota").any(|quota| {
            let (namespace, own) =
                (quota["metadata"]["namespace"].as_str(), quota["metadata"]["name"].as_str());
            own == Some(name)
                || namespace.zip(own).is_some_and(|(namespace, own)| name == format!("{namespace}/{own}"))
        })
    };
    let lists =
        |campaign: &Value| [&campaign["spec"]["steps"], &campaign["spec"]["others"]].map(Clone::clone);
    let steps = of_kind("ApiCampaign").flat_map(lists);
    let steps = steps.flat_map(|list| list.as_array().cloned().unwrap_or_default());
    steps.filter_map(|step| step["quota"].as_str().map(str::to_owned)).filter(|name| !own(name)).collect()
}

async fn quotas(cluster: &Cluster, names: &BTreeSet<String>) -> anyhow::Result<Vec<ApiQuota>> {
    let mut quotas = Vec::new();
    for full in names {
        let (namespace, name) = match full.split_once('/') {
            Some(parts) => parts,
            None => (cluster.one_namespace()?, full.as_str()),
        };
        let api: Api<ApiQuota> = Api::namespaced(cluster.client.clone(), namespace);
        match api.get(name).await {
            Ok(quota) => quotas.push(quota),
            Err(error) if is_unknown(&error) => {
                let hint = "give the namespace with -n, or as NAMESPACE/NAME in the campaign";
                return Err(BadInput(format!("namespace {namespace} has no ApiQuota {name}; {hint}")).into());
            }
            Err(error) => {
                return Err(error).context(format!("the ApiQuota {namespace}/{name} can't be read"));
            }
        }
    }
    Ok(quotas)
}

/// The providers of quotas that are not built in, with those that they extend.
async fn providers(cluster: &Cluster, quotas: &[ApiQuota]) -> anyhow::Result<Vec<ApiProvider>> {
    let api: Api<ApiProvider> = Api::all(cluster.client.clone());
    let mut wanted: Vec<String> = quotas.iter().map(|quota| quota.spec.provider.name.clone()).collect();
    let mut found: BTreeMap<String, ApiProvider> = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        match api.get(&name).await {
            Ok(provider) if provider.labels().contains_key(CATALOGUE) => {}
            Ok(provider) => {
                wanted.extend(provider.spec.profile.extends.clone());
                found.insert(name, provider);
            }
            // Whether it is built in is judged with the quota.
            Err(error) if is_unknown(&error) => {}
            Err(error) => return Err(error).context(format!("the ApiProvider {name} can't be read")),
        }
    }
    Ok(found.into_values().collect())
}

fn text_of(quotas: &[ApiQuota], providers: &[ApiProvider]) -> anyhow::Result<String> {
    let document = |kind: &str, metadata: Value, spec: Value| {
        yaml::write(&json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}))
    };
    let mut documents = Vec::new();
    for provider in providers {
        let metadata = json!({"name": provider.name_any()});
        documents.push(document("ApiProvider", metadata, serde_json::to_value(&provider.spec)?)?);
    }
    for quota in quotas {
        let metadata = json!({"name": quota.name_any(), "namespace": quota.namespace()});
        documents.push(document("ApiQuota", metadata, serde_json::to_value(&quota.spec)?)?);
    }
    Ok(documents.join("---\n"))
}

/// How an account is now, as its quota's status says.
fn present(
    account: &CompiledAccount,
    quotas: &[ApiQuota],
    now: Timestamp,
    warnings: &mut Vec<String>,
) -> Present {
    let name = |quota: &ApiQuota| format!("{}/{}", quota.namespace().unwrap_or_default(), quota.name_any());
    let status =
        quotas.iter().find(|quota| *account.quota == *name(quota)).and_then(|quota| quota.status.as_ref());
    let Some(status) = status else { return Present::default() };
    let mut used = BTreeMap::new();
    for limit in status.limits.iter().filter(|limit| limit.unit != Some(Unit::ConcurrentRequests)) {
        let assumed = limit.assumed.unwrap_or(0);
        if assumed > 0 {
            warnings.push(use_unknown(&account.quota, &limit.name));
        }
        let units = u64::try_from(limit.used.unwrap_or(0) - assumed).unwrap_or(0);
        let scale = if limit.unit == Some(Unit::Dollars) { NANODOLLARS } else { 1 };
        if units > 0 {
            used.insert(limit.name.clone(), units.saturating_mul(scale));
        }
    }
    let paused = status.paused_until.as_ref().map(|until| until.0.duration_since(now));
    let paused = paused.and_then(|left| left.try_into().ok()).map(|left| (Scope::account(), left));
    Present { at: Some(now), used, pauses: paused.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_of_campaigns_are_looked_for_unless_a_file_has_them() {
        let text = "kind: ApiQuota\nmetadata: {name: own, namespace: gtm}\n---\nkind: ApiCampaign\nspec:\n  steps: \
            [{quota: own}, {quota: gtm/own}, {quota: hubspot}]\n  others: [{quota: sales/openai}]\n";
        let sources = [Source { name: "campaign.yaml".to_owned(), text: text.to_owned() }];
        assert_eq!(names(&sources), BTreeSet::from(["hubspot".to_owned(), "sales/openai".to_owned()]));
    }
}
