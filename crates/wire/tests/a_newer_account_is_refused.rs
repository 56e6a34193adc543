//! An account that this version does not understand entirely is not enforced by halves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_dialects::profile::Profile;
use quotakeeper_engine::config::{AccountConfig, Mode, OnExceeded, PauseConfig, QueueConfig};
use quotakeeper_wire::account::{Admitted, CompiledAccount, FORMAT, LoadError};
use serde_json::{Value, json};

fn account() -> CompiledAccount {
    CompiledAccount {
        format: FORMAT,
        generation: 3,
        key: "demo/main".into(),
        quota: "sales/demo".into(),
        tier: "free".to_owned(),
        engine: AccountConfig {
            mode: Mode::Enforce,
            on_exceeded: OnExceeded::Queue,
            validity: Duration::from_secs(2),
            limits: Vec::new(),
            assumed: false,
            extent: Default::default(),
            queue: QueueConfig {
                max_wait: Duration::from_secs(30),
                max_absence: None,
                max_budget_wait: None,
                max_calls: 1000,
            },
            pause: PauseConfig {
                fallback: Duration::from_secs(5),
                cap: Duration::from_secs(300),
                probe_patience: Duration::from_secs(10),
                max_call: Duration::from_secs(600),
            },
            weights: BTreeMap::new(),
            sharing: Default::default(),
            models: Default::default(),
            any_model: Default::default(),
        },
        undeclared: None,
        not_enforced: vec!["tokensPerMinute (Tokens)".to_owned()],
        admitted: Admitted::Namespaces(["gtm".to_owned()].into()),
        warnings: Vec::new(),
        organization: None,
        allocations: Vec::new(),
        in_force_since: None,
        paused_until: None,
        resumed_at: None,
        checkpoint: None,
        used: Vec::new(),
        profile: Profile::default(),
    }
}

fn document() -> Value {
    serde_json::to_value(account()).unwrap()
}

#[test]
fn a_written_account_loads_unchanged() {
    let read = CompiledAccount::load(&document().to_string()).unwrap();
    assert_eq!(read, account());
}

#[test]
fn a_newer_format_is_named_even_if_its_shape_is_another() {
    let newer = json!({ "format": FORMAT + 1, "partitions": {} }).to_string();
    let error = CompiledAccount::load(&newer).unwrap_err();
    assert!(matches!(error, LoadError::Newer { found } if found == FORMAT + 1));
    assert!(error.to_string().contains("upgrade this program"), "{error}");
}

#[test]
fn an_account_without_a_format_is_unreadable() {
    let mut document = document();
    document.as_object_mut().unwrap().remove("format");
    let error = CompiledAccount::load(&document.to_string()).unwrap_err();
    assert!(error.to_string().contains("format"), "{error}");
}

#[test]
fn an_account_that_can_not_be_enforced_is_refused_with_its_problems() {
    let mut document = document();
    document["engine"]["validity"] = json!({ "secs": 0, "nanos": 0 });
    let error = CompiledAccount::load(&document.to_string()).unwrap_err();
    assert!(error.to_string().contains("validity"), "{error}");
}
