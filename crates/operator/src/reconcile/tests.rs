//! Quotas come, change and go; what is in force is looked at.

#![allow(clippy::unwrap_used)]

use quotakeeper_dialects::catalogue;
use serde_json::{Value, json};

use super::*;
use crate::view;

/// A small cluster.
#[derive(Default)]
struct Cluster {
    inputs: ObservedState,
    created: i64,
}

impl Cluster {
    fn new() -> Cluster {
        let mut cluster = Cluster::default();
        for (name, team) in [("gtm", "gtm"), ("platform", "platform"), ("sales", "gtm")] {
            let labels = [("team".to_owned(), team.to_owned())].into();
            cluster.inputs.namespaces.insert(name.to_owned(), labels);
        }
        cluster
    }

    /// Applies a quota and settles.
    fn apply(&mut self, name: &str, spec: Value) -> DesiredState {
        let (namespace, short) = name.split_once('/').unwrap();
        let old = self.inputs.quotas.get(name);
        let generation = old.map_or(1, |old| old.generation + 1);
        let created = old.map_or_else(
            || {
                self.created += 1;
                Timestamp::from_second(1_790_000_000 + self.created).unwrap()
            },
            |old| old.created,
        );
        let object = json!({
            "apiVersion": "quotakeeper.dev/v1alpha1",
            "kind": "ApiQuota",
            "metadata": {
                "name": short, "namespace": namespace, "generation": generation,
                "uid": format!("uid of {name}"), "creationTimestamp": created.to_string(),
            },
            "spec": spec,
        });
        let view = view::quota(serde_json::from_value(object).unwrap(), None).unwrap();
        self.inputs.quotas.insert(name.to_owned(), view);
        self.plan()
    }

    fn delete(&mut self, name: &str) -> DesiredState {
        self.inputs.quotas.remove(name);
        self.plan()
    }

    /// Settles, and stores the documents as the operator does.
    fn plan(&mut self) -> DesiredState {
        let desired = plan(&self.inputs);
        let stored = |document: &Document| StoredDocument {
            quota: document.quota.clone(),
            uid: document.uid.clone(),
            json: document.json.clone(),
            checkpoint: None,
            proper: true,
        };
        self.inputs.stored =
            desired.documents.iter().map(|(name, document)| (name.clone(), stored(document))).collect();
        desired
    }

    fn provider(&mut self, name: &str, spec: Value) {
        let profile = serde_json::from_value(spec).map_err(|error| error.to_string());
        self.inputs.providers.insert(name.to_owned(), Arc::new(profile));
    }
}

fn accepted<'s>(desired: &'s DesiredState, name: &str) -> &'s CompiledAccount {
    match &desired.quotas[name] {
        Verdict::Accepted(account) => account,
        refused => panic!("{name}: {refused:?}"),
    }
}

fn refused<'s>(desired: &'s DesiredState, name: &str) -> (Reason, &'s str, Option<u64>) {
    match &desired.quotas[name] {
        Verdict::Refused { reason, message, in_force } => {
            (*reason, message, in_force.as_ref().map(|account| account.generation))
        }
        Verdict::Accepted(_) => panic!("{name} is accepted"),
    }
}

fn hubspot(tier: &str) -> Value {
    json!({"provider": {"name": "hubspot", "tier": tier}})
}

#[test]
fn every_quota_has_a_document_that_loads() {
    let mut cluster = Cluster::new();
    cluster.apply("gtm/hubspot", hubspot("pro"));
    let desired = cluster.apply("platform/openai", json!({"provider": {"name": "openai"}}));
    assert_eq!(desired.documents.len(), 2);
    for (name, document) in &desired.documents {
        let account = CompiledAccount::load(&document.json).unwrap();
        assert_eq!(*name, document_name(&account.key));
        assert_eq!(account, *accepted(&desired, &document.quota));
    }
    assert_eq!(accepted(&desired, "gtm/hubspot").admitted, Admitted::Namespaces(["gtm".to_owned()].into()));
    assert_eq!(document_name("hubspot/gtm/hubspot"), "quotakeeper-account-12b2925426ab432e636c9e9cc703478c");
}

#[test]
fn a_quota_of_another_tier_and_back_is_as_if_it_had_never_changed() {
    let mut fresh = Cluster::new();
    let mut changed = Cluster::new();
    let fresh = fresh.apply("gtm/hubspot", hubspot("pro"));
    changed.apply("gtm/hubspot", hubspot("pro"));
    changed.apply("gtm/hubspot", hubspot("free"));
    let back = changed.apply("gtm/hubspot", hubspot("pro"));
    let without_generation = |desired: &DesiredState| {
        let account = accepted(desired, "gtm/hubspot");
        CompiledAccount { generation: 0, ..account.clone() }
    };
    assert_eq!(without_generation(&fresh), without_generation(&back));
    assert_eq!(fresh.documents.keys().collect::<Vec<_>>(), back.documents.keys().collect::<Vec<_>>());
}

#[test]
fn a_bad_change_leaves_the_last_good_generation_in_force() {
    let mut cluster = Cluster::new();
    let good = cluster.apply("gtm/hubspot", hubspot("pro"));
    let bad = cluster.apply("gtm/hubspot", hubspot("gold"));
    let (reason, message, in_force) = refused(&bad, "gtm/hubspot");
    assert_eq!((reason, in_force), (Reason::TierNotFound, Some(1)));
    assert!(message.starts_with("spec.provider.tier: "), "{message}");
    assert!(message.ends_with(". Generation 1 stays in force until then."), "{message}");
    assert_eq!(bad.documents, good.documents);
    let again = cluster.apply(
        "gtm/hubspot",
        json!({"provider": {"name": "hubspot"}, "limits": [
        {"name": "x", "unit": "Requests", "amount": "2m", "windowSeconds": 1}]}),
    );
    assert_eq!(refused(&again, "gtm/hubspot").2, Some(1), "two bad changes are as one");
    let mended = cluster.apply("gtm/hubspot", hubspot("free"));
    assert_eq!(accepted(&mended, "gtm/hubspot").generation, 4);
}

#[test]
fn a_new_object_inherits_nothing_from_a_deleted_one_of_its_name() {
    let mut cluster = Cluster::new();
    cluster.apply("gtm/hubspot", hubspot("pro"));
    let view = cluster.inputs.quotas.get_mut("gtm/hubspot").unwrap();
    view.uid = "another".to_owned();
    let desired = cluster.apply("gtm/hubspot", hubspot("gold"));
    assert_eq!(refused(&desired, "gtm/hubspot").2, Some(1), "this story's apply keeps the UID of the name");
    cluster.inputs.quotas.get_mut("gtm/hubspot").unwrap().uid = "another".to_owned();
    let desired = cluster.plan();
    assert_eq!(refused(&desired, "gtm/hubspot").2, None);
    assert!(desired.documents.is_empty());
}

#[test]
fn one_bad_quota_leaves_the_others_alone() {
    let mut cluster = Cluster::new();
    cluster.apply("gtm/bad", json!({"provider": {"name": "hubspott"}}));
    let desired = cluster.apply("gtm/hubspot", hubspot("pro"));
    let (reason, message, _) = refused(&desired, "gtm/bad");
    assert_eq!(reason, Reason::ProviderNotFound);
    let known = catalogue::names().join(", ");
    assert_eq!(
        message,
        format!(
            "spec.provider.name: there is no ApiProvider `hubspott` (did you mean `hubspot`?); use one of: \
             {known}, or create it."
        )
    );
    assert_eq!(accepted(&desired, "gtm/hubspot").tier, "pro");
    assert_eq!(desired.documents.len(), 1);
}

#[test]
fn where_no_answer_tells_limits_the_lowest_tier_is_assumed_and_a_person_asked() {
    let mut cluster = Cluster::new();
    let tier = |name: &str, amount: u64| {
        json!({"name": name, "limits": [
        {"name": "requests", "unit": "Requests", "amount": amount, "windowSeconds": 60}]})
    };
    cluster.provider(
        "silent",
        json!({"hosts": ["api.example.com"], "tiers": [tier("small", 5), tier("big", 50)]}),
    );
    let desired = cluster.apply("gtm/silent", json!({"provider": {"name": "silent"}}));
    let account = accepted(&desired, "gtm/silent");
    assert_eq!((account.tier.as_str(), account.engine.limits[0].amount), ("small", 5));
    let question = account.undeclared.as_ref().unwrap().question();
    assert!(question.contains("small (5 requests per 60 s), big (50 requests per 60 s)"), "{question}");
    let declared = cluster.apply("gtm/silent", json!({"provider": {"name": "silent", "tier": "big"}}));
    assert_eq!(accepted(&declared, "gtm/silent").undeclared, None);
}

#[test]
fn of_two_quotas_of_one_account_the_older_has_it() {
    let mut cluster = Cluster::new();
    let spec = json!({"provider": {"name": "openai"}, "account": {"id": "org-1"}});
    cluster.apply("sales/z-older", spec.clone());
    let desired = cluster.apply("gtm/a-newer", spec.clone());
    accepted(&desired, "sales/z-older");
    let (reason, message, in_force) = refused(&desired, "gtm/a-newer");
    assert_eq!((reason, in_force), (Reason::AccountConflict, None));
    assert!(message.contains("ApiQuota sales/z-older, which is older"), "{message}");
    let advice = "let that one admit namespace gtm (spec.consumers.namespaces) and draw on it (annotation quotakeeper.dev/quotas: sales/z-older)";
    assert!(message.contains(advice), "{message}");
    assert_eq!(desired.documents.len(), 1);
    let mut open = spec.clone();
    open["consumers"] = json!({"namespaces": {"from": "All"}});
    let desired = cluster.apply("sales/z-older", open);
    let message = refused(&desired, "gtm/a-newer").1;
    assert!(
        message.contains("; draw on that one (annotation quotakeeper.dev/quotas: sales/z-older)"),
        "{message}"
    );
    // The older one does not lose its account by a mistake in it.
    let mut bad = spec.clone();
    bad["provider"]["tier"] = "gold".into();
    let desired = cluster.apply("sales/z-older", bad);
    assert_eq!(refused(&desired, "sales/z-older").2, Some(2));
    assert_eq!(refused(&desired, "gtm/a-newer").0, Reason::AccountConflict);
    let desired = cluster.delete("sales/z-older");
    accepted(&desired, "gtm/a-newer");
    assert_eq!(desired.documents.len(), 1);
}

/// Whoever is first when a quota is created again, as after a restore, must not get its account.
#[test]
fn a_reserved_account_is_for_the_namespaces_that_the_platform_names() {
    let mut cluster = Cluster::new();
    let spec = json!({"provider": {"name": "openai"}, "account": {"id": "org-1"}});
    cluster
        .inputs
        .namespaces
        .get_mut("gtm")
        .unwrap()
        .insert("accounts.quotakeeper.dev/org-1".into(), "openai".into());
    let desired = cluster.apply("sales/squatter", spec.clone());
    let (reason, message, in_force) = refused(&desired, "sales/squatter");
    assert_eq!((reason, in_force), (Reason::AccountConflict, None));
    assert!(
        message.contains("reserved for quotas of namespace gtm (label accounts.quotakeeper.dev/org-1)"),
        "{message}"
    );
    assert_eq!(desired.documents.len(), 0);
    let desired = cluster.apply("gtm/openai", spec);
    accepted(&desired, "gtm/openai");
    assert_eq!(refused(&desired, "sales/squatter").0, Reason::AccountConflict);
    let other =
        cluster.apply("sales/other", json!({"provider": {"name": "openai"}, "account": {"id": "org-2"}}));
    accepted(&other, "sales/other");
}

#[test]
fn a_deleted_quota_leaves_no_document() {
    let mut cluster = Cluster::new();
    cluster.apply("gtm/hubspot", hubspot("pro"));
    assert_eq!(cluster.delete("gtm/hubspot"), DesiredState::default());
}

#[test]
fn namespaces_are_admitted_by_their_labels_as_they_are_now() {
    let mut cluster = Cluster::new();
    let selector = json!({"matchLabels": {"team": "gtm"}});
    let mut spec = hubspot("pro");
    spec["consumers"] = json!({"namespaces": {"from": "Selector", "selector": selector}});
    let desired = cluster.apply("platform/hubspot", spec);
    let names = |desired: &DesiredState| match &accepted(desired, "platform/hubspot").admitted {
        Admitted::Namespaces(names) => names.iter().cloned().collect::<Vec<_>>().join(","),
        Admitted::Everyone => "*".to_owned(),
    };
    assert_eq!(names(&desired), "gtm,sales");
    cluster.inputs.namespaces.get_mut("sales").unwrap().clear();
    assert_eq!(names(&cluster.plan()), "gtm");
    let mut spec = hubspot("pro");
    spec["consumers"] = json!({"namespaces": {"from": "All"}});
    assert_eq!(names(&cluster.apply("platform/hubspot", spec)), "*");
}

#[test]
fn pods_are_allocated_by_the_first_allocation_that_selects_them() {
    let mut cluster = Cluster::new();
    let mut spec = hubspot("pro");
    spec["consumers"] = json!({"namespaces": {"from": "All"}});
    spec["allocations"] = json!([
        {"name": "chat", "namespaces": {"matchLabels": {"team": "gtm"}},
         "pods": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["chat"]}]}},
        {"name": "team", "namespaces": {"matchLabels": {"team": "gtm"}}},
    ]);
    let desired = cluster.apply("platform/hubspot", spec);
    let account = accepted(&desired, "platform/hubspot");
    let of = |namespace: &str, app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        account.allocation_of(namespace, &labels).map(|name| name.as_str())
    };
    assert_eq!([of("gtm", "chat"), of("gtm", "mail")], [Some("chat"), Some("team")]);
    assert_eq!(of("platform", "chat"), None);
}

#[test]
fn a_changed_provider_changes_what_extends_it() {
    let mut cluster = Cluster::new();
    cluster.provider("crm", json!({"extends": "base"}));
    let desired = cluster.apply("gtm/crm", json!({"provider": {"name": "crm"}}));
    let (reason, message, _) = refused(&desired, "gtm/crm");
    assert_eq!(reason, Reason::ProviderInvalid);
    assert_eq!(
        message,
        "ApiProvider crm: spec.extends: provider `base` does not exist; create it, or name one that exists."
    );
    let base = |amount: u64| {
        json!({"hosts": ["crm.example.com"], "tiers": [{"name": "default", "limits": [
        {"name": "requests", "unit": "Requests", "amount": amount, "windowSeconds": 60}]}]})
    };
    cluster.provider("base", base(10));
    assert_eq!(accepted(&cluster.plan(), "gtm/crm").engine.limits[0].amount, 10);
    cluster.provider("base", base(20));
    assert_eq!(accepted(&cluster.plan(), "gtm/crm").engine.limits[0].amount, 20);
}
