//! What a person copies from the documentation works: each block of YAML in README.md and docs is read, quotas and
//! providers as `quotakeeper run` and the operator read them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quotakeeper_api::load::{self, Source};
use quotakeeper_api::{names, yaml};
use quotakeeper_wire::account::CompiledAccount;
use serde_json::Value;

/// A block of YAML.
struct Block {
    /// The page and the line.
    place: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    pages.sort();
    pages.insert(0, root.join("README.md"));
    pages
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut within = false;
        for (line, number) in text.lines().zip(1..) {
            let fence = line.trim_start();
            if within && fence.starts_with("```") {
                within = false;
            } else if within {
                blocks.last_mut().unwrap().text += &format!("{line}\n");
            } else if fence.starts_with("```yaml") {
                within = true;
                let place = format!("{}:{number}", page.file_name().unwrap().display());
                blocks.push(Block { place, text: String::new() });
            }
        }
    }
    blocks
}

/// The accounts of a block; of a provider that is shown alone, that of a quota of it.
fn accounts(block: &Block, documents: &[Value]) -> Vec<CompiledAccount> {
    let mut text = block.text.clone();
    if documents.iter().all(|document| document["kind"] == "ApiProvider") {
        let provider = &documents[0]["metadata"]["name"];
        text += &format!(
            "---\napiVersion: {}\nkind: ApiQuota\nmetadata: {{name: its}}\nspec: {{provider: {{name: {provider}}}}}\n",
            names::API_VERSION
        );
    }
    let source = Source { name: block.place.clone(), text };
    let documents = load::documents(&[source]).unwrap_or_else(|refused| panic!("{refused}"));
    documents.accounts().unwrap_or_else(|refused| panic!("{refused}"))
}

#[test]
fn each_quota_and_provider_is_accepted_and_all_its_limits_are_in_force() {
    let mut pages = BTreeSet::new();
    for block in blocks() {
        let read = yaml::read(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let documents: Vec<Value> = read.into_iter().map(|document| document.value).collect();
        if documents[0]["apiVersion"] != names::API_VERSION {
            continue;
        }
        let accounts = accounts(&block, &documents);
        for account in accounts {
            assert_eq!(account.not_enforced, Vec::<String>::new(), "{}", block.place);
        }
        pages.insert(block.place.split(':').next().unwrap().to_owned());
    }
    for page in ["README.md", "quickstart.md", "sharing.md", "tokens.md"] {
        assert!(pages.contains(page), "{page} is read, and shows a quota: {pages:?}");
    }
}

#[test]
fn what_is_shown_of_pods_names_annotations_that_exist() {
    let known = [names::QUOTAS, names::CONTAINERS, names::RESOURCES, names::TRUST_FILES, names::WORKLOAD];
    let mut shown = 0;
    for block in blocks() {
        let document = yaml::read(&block.text).unwrap().remove(0).value;
        let annotations = [&document["annotations"], &document["metadata"]["annotations"]];
        let Some(annotations) = annotations.into_iter().find_map(Value::as_object) else {
            let others = document.get("apiVersion").or(document.get("scrape_configs"));
            assert!(others.is_some(), "{}: nobody checks this kind of block", block.place);
            continue;
        };
        for name in annotations.keys() {
            assert!(known.contains(&name.as_str()), "{}: no annotation is called {name}", block.place);
            shown += 1;
        }
    }
    assert!(shown >= 3, "{shown}");
}
