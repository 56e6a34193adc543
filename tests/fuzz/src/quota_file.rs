//! Quota files: mistakes are told, and what is valid can be in force.

use quotakeeper_api::load::{self, Source};
use quotakeeper_wire::account::CompiledAccount;

use crate::{account_document, files};

pub fn read(data: &[u8]) {
    accounts(data).into_iter().for_each(account_document::in_force);
}

/// The accounts that a file declares; none: it is refused.
pub fn accounts(data: &[u8]) -> Vec<CompiledAccount> {
    let Ok(source) = load::source("quota.yaml", data) else { return Vec::new() };
    let source: Source = source;
    match load::documents(&[source]).and_then(|documents| documents.accounts()) {
        Ok(accounts) => accounts,
        Err(refused) => {
            assert!(!refused.to_string().is_empty(), "a refusal without a word");
            Vec::new()
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let small = [
        "{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiQuota, metadata: {name: a}, spec: {provider: {name: hubspot, tier: pro}}}",
        "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: a}\nspec:\n  provider: {name: openai, tier: tier-1}\n  limits:\n  - {name: requests, amount: 5, windowSeconds: 10}\n",
        "a: &a [1, 2]\nb: *a\n--- \n? x\n: y\n",
    ];
    small.iter().map(|text| text.as_bytes().to_vec()).chain(files("examples", ".yaml")).collect()
}
