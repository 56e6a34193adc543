//! A pause holds what the provider counts together with the call that it rejected, and nothing else.

use proptest::prelude::*;
use proptest::sample::select;
use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::event::{CallClass, Scope};

use crate::world::*;

/// What rejects a call.
#[derive(Clone, Copy, Debug)]
enum Rejects {
    /// A limit of the account, by its place.
    Enforced(usize),
    /// A limit that the engine does not know, which counts models apart.
    UnknownOfModel,
    Model,
    Endpoint,
    Account,
}

fn name() -> impl Strategy<Value = Option<String>> {
    select(vec![None, Some("one"), Some("two"), Some("three")]).prop_map(|name| name.map(str::to_owned))
}

fn class() -> impl Strategy<Value = CallClass> {
    (name(), name()).prop_map(|(endpoint, model)| CallClass { endpoint, model, allocation: None })
}

fn limits() -> impl Strategy<Value = Vec<LimitConfig>> {
    let models = select(vec![vec![], vec!["one".to_owned()], vec!["one".to_owned(), "two".to_owned()]]);
    let limit = (name(), models, any::<bool>()).prop_map(|(endpoint, models, per_model)| LimitConfig {
        endpoint,
        models,
        per_model,
        ..sliding("", 1000, 10)
    });
    prop::collection::vec(limit, 1..4).prop_map(|mut limits| {
        for (place, limit) in limits.iter_mut().enumerate() {
            limit.name = format!("limit-{place}");
        }
        limits
    })
}

fn rejects() -> impl Strategy<Value = Rejects> {
    prop_oneof![
        4 => (0..3_usize).prop_map(Rejects::Enforced),
        1 => Just(Rejects::UnknownOfModel),
        1 => Just(Rejects::Model),
        1 => Just(Rejects::Endpoint),
        1 => Just(Rejects::Account),
    ]
}

/// The count that a call belongs to at the provider; `None`: it is not counted there.
fn counted(limits: &[LimitConfig], rejects: Rejects, class: &CallClass) -> Option<Vec<Option<String>>> {
    Some(match rejects {
        Rejects::Enforced(place) => {
            let limit = &limits[place];
            let covered = |names: &[String], name: &Option<String>| {
                names.is_empty() || name.as_ref().is_none_or(|name| names.contains(name))
            };
            if limit.endpoint.is_some() && limit.endpoint != class.endpoint
                || !covered(&limit.models, &class.model)
            {
                return None;
            }
            if limit.per_model { vec![class.model.clone()] } else { Vec::new() }
        }
        Rejects::UnknownOfModel | Rejects::Model => vec![class.model.clone()],
        Rejects::Endpoint => vec![class.endpoint.clone()],
        Rejects::Account => Vec::new(),
    })
}

fn scope(rejects: Rejects, class: &CallClass) -> Scope {
    match rejects {
        Rejects::Enforced(place) => Scope::limit(format!("limit-{place}")),
        Rejects::UnknownOfModel => Scope::limit("unknown").of_model_of(class),
        Rejects::Model => Scope::account().of_model_of(class),
        Rejects::Endpoint => Scope::account().of_endpoint_of(class),
        Rejects::Account => Scope::account(),
    }
}

proptest! {
    // Nearly half of the draws are no case.
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn a_call_that_the_provider_counts_elsewhere_is_not_held(
        limits in limits(),
        rejects in rejects(),
        rejected in class(),
        other in class(),
    ) {
        if let Rejects::Enforced(place) = rejects {
            prop_assume!(place < limits.len());
        }
        let own = counted(&limits, rejects, &rejected);
        prop_assume!(own.is_some(), "a limit that does not cover a call does not reject it");
        let together = own == counted(&limits, rejects, &other);
        let mut w = World::new(limits);
        w.ask_as(1, "job", rejected.clone(), None);
        let attempt = w.grants()[0];
        w.sent_back(attempt, scope(rejects, &rejected), Some(SECOND * 30));
        w.grants();
        w.ask_as(2, "other", other, None);
        prop_assert_eq!(w.grants().is_empty(), together);
    }
}
