//! What a person reads who gave `quotakeeper run -f` a file that it can't use.

#![allow(clippy::unwrap_used)]

use quotakeeper_api::load::{self, Refused, Source};
use quotakeeper_dialects::catalogue;
use quotakeeper_wire::account::CompiledAccount;

const HEAD: &str = "apiVersion: quotakeeper.dev/v1alpha1\nkind: ApiQuota\nmetadata: {name: main}\n";

fn load(files: &[(&str, &str)]) -> Result<Vec<CompiledAccount>, Refused> {
    let source = |(name, text): &(&str, &str)| Source { name: (*name).into(), text: (*text).into() };
    let sources: Vec<Source> = files.iter().map(source).collect();
    load::documents(&sources)?.accounts()
}

fn refused(files: &[(&str, &str)]) -> String {
    load(files).unwrap_err().to_string()
}

/// What is said of one file with this text.
fn said(text: &str) -> String {
    refused(&[("quota.yaml", text)])
}

fn quota(spec: &str) -> String {
    format!("{HEAD}spec: {spec}\n")
}

fn named(name: &str, spec: &str) -> String {
    quota(spec).replace("{name: main}", &format!("{{name: {name}}}"))
}

fn provider(name: &str, spec: &str) -> String {
    named(name, spec).replace("ApiQuota", "ApiProvider")
}

#[test]
fn the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml");
    let said = load::accounts(std::slice::from_ref(&missing)).unwrap_err().to_string();
    let start = format!("{}: can't be read: No such file", missing.display());
    assert!(said.starts_with(&start) && said.ends_with("check the path and its permissions"), "{said}");

    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    let said = load::accounts(&[binary, missing]).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 2, "both files are told:\n{said}");
}

#[test]
fn a_file_larger_than_any_quota() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.yaml");
    let quota = quota("{provider: {name: openai}}");
    let filled = |size: usize| format!("{quota}#{}", "x".repeat(size - quota.len() - 1));
    std::fs::write(&file, filled(256 * 1024)).unwrap();
    assert_eq!(load::accounts(std::slice::from_ref(&file)).unwrap().len(), 1);
    std::fs::write(&file, filled(256 * 1024 + 1)).unwrap();
    assert_eq!(
        load::accounts(std::slice::from_ref(&file)).unwrap_err().to_string(),
        format!("{}: is larger than 262144 bytes; split it, or is it another file?", file.display())
    );
    // It has no end: what is read of it has.
    let endless = load::source("standard input", std::io::repeat(b'#')).unwrap_err().to_string();
    assert!(endless.starts_with("standard input: is larger than 262144 bytes"), "{endless}");
}

#[test]
fn a_file_as_windows_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("windows.yaml");
    let text = quota("{provider: {name: openai}}").replace('\n', "\r\n");
    std::fs::write(&file, format!("\u{feff}{text}")).unwrap();
    assert_eq!(load::accounts(&[file]).unwrap()[0].quota, "main");
}

#[test]
fn text_that_would_cost_too_much() {
    let deep = format!("{HEAD}spec: {}", "{a: ".repeat(100));
    assert_eq!(
        said(&deep),
        "quota.yaml (line 4): is nested deeper than 64; a quota nests six deep, is it another file?"
    );
}

#[test]
fn text_that_is_not_yaml() {
    let said = said(&format!("{HEAD}spec:\n  provider: {{name: openai\n"));
    assert!(said.starts_with("quota.yaml (line "), "{said}");
    assert!(said.contains("is not YAML: ") && said.ends_with("check indentation, quotes and brackets there"));
    let twice = self::said(&format!("{HEAD}spec: {{}}\nspec: {{}}\n"));
    assert!(twice.contains("duplicate entry"), "{twice}");
}

#[test]
fn nothing_in_it() {
    for empty in ["", "# only a comment\n", "---\n---\n"] {
        assert!(said(empty).starts_with("quota.yaml: holds no ApiQuota; add one"), "{empty:?}");
    }
    let only = provider("acme", "{extends: openai}");
    assert!(said(&only).starts_with("quota.yaml: holds no ApiQuota"), "a provider alone does nothing");
}

#[test]
fn another_kind_or_version() {
    assert_eq!(
        said("apiVersion: apps/v1\nkind: Deployment\n"),
        "quota.yaml: kind: Deployment of apps/v1 is unknown; a quota file holds ApiQuota, ApiProvider, ApiCampaign of \
         quotakeeper.dev/v1alpha1"
    );
    let slip = quota("{provider: {name: openai}}").replace("ApiQuota", "ApiQouta");
    assert!(said(&slip).contains("(did you mean `ApiQuota`?)"));
    assert_eq!(
        said("- a list\n"),
        "quota.yaml: kind: is required; write one of: ApiQuota, ApiProvider, ApiCampaign"
    );
    assert_eq!(
        said("kind: ApiQuota\n"),
        "quota.yaml: apiVersion: is required; write quotakeeper.dev/v1alpha1"
    );
    for newer in ["v1alpha2", "v1beta1", "v1", "v2alpha1"] {
        let text = quota("{anything: {new: true}}").replace("v1alpha1", newer);
        assert_eq!(
            said(&text),
            format!(
                "quota.yaml: apiVersion: {newer} is newer than this quotakeeper; it reads v1alpha1: upgrade it, \
                 or write quotakeeper.dev/v1alpha1"
            )
        );
    }
    let strange = quota("{}").replace("v1alpha1", "latest");
    assert_eq!(said(&strange), "quota.yaml: apiVersion: latest is unknown; write quotakeeper.dev/v1alpha1");
}

#[test]
fn a_field_of_one_document_among_several() {
    let good = quota("{provider: {name: openai}}");
    let bad = named("other", "{provider: {name: hubspot}, pacin: {burst: 5}}");
    assert_eq!(
        said(&format!("{good}---\n{bad}")),
        "quota.yaml (document 2, from line 5): spec.pacin: is unknown (did you mean `pacing`?); remove it, or use \
         one of: account, allocations, consumers, enforcement, limits, maxConcurrentPerWorkload, pacing, provider, used"
    );
}

#[test]
fn an_impossible_number() {
    let spec =
        "{provider: {name: openai}, limits: [{name: r, unit: Requests, amount: 2m, windowSeconds: 60}]}";
    assert_eq!(said(&quota(spec)), "quota.yaml: spec.limits[0].amount: m means a thousandth; write 2M");
}

#[test]
fn a_name_that_no_cluster_would_take() {
    let spec = "{provider: {name: openai}}";
    assert!(said(&named("Main", spec)).starts_with("quota.yaml: metadata.name: must be lower-case"));
    let nameless = quota(spec).replace("metadata: {name: main}\n", "");
    assert_eq!(said(&nameless), "quota.yaml: metadata: is required; add it, for example {name: openai}");
    let empty = quota(spec).replace("{name: main}", "{namespace: gtm}");
    assert_eq!(said(&empty), "quota.yaml: metadata.name: is required; add it, for example openai");
    let number = named("5", spec);
    assert_eq!(said(&number), "quota.yaml: metadata.name: must be a text, not a number; write \"5\"");
}

#[test]
fn an_unknown_provider_or_tier() {
    let known = catalogue::names().join(", ");
    assert_eq!(
        said(&quota("{provider: {name: opnai}}")),
        format!(
            "quota.yaml: spec.provider.name: provider `opnai` is unknown (did you mean `openai`?); use one of: \
             {known}, or add an ApiProvider of that name"
        )
    );
    assert_eq!(
        said(&quota("{provider: {name: openai, tier: tier4}}")),
        "quota.yaml: spec.provider.tier: tier `tier4` is unknown (did you mean `tier-4`?); use one of: free, \
         tier-1, tier-2, tier-3, tier-4, tier-5"
    );
}

#[test]
fn two_quotas_that_a_call_could_belong_to() {
    let files = [
        ("a.yaml", quota("{provider: {name: openai}}")),
        ("b.yaml", named("other", "{provider: {name: openai}}")),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    assert_eq!(
        refused(&files),
        "b.yaml: spec.provider.name: quota `other` is of provider `openai`, and so is `main` in a.yaml; a run has \
         one quota of a provider, remove one of them"
    );

    let own = provider("acme", "{extends: openai}");
    let both = format!(
        "{own}---\n{}---\n{}",
        quota("{provider: {name: openai}}"),
        named("other", "{provider: {name: acme}}")
    );
    assert_eq!(
        said(&both),
        "quota.yaml (document 3, from line 10): spec.provider.name: calls to api.openai.com would belong to quota \
         `other` and to `main` in quota.yaml (document 2, from line 5); remove one of them"
    );
}

#[test]
fn an_own_provider() {
    let use_it = quota("{provider: {name: acme}}");
    let circle = format!("{}---\n{use_it}", provider("acme", "{extends: acme}"));
    assert!(
        said(&circle).starts_with("quota.yaml (document 1, from line 1): spec.extends: "),
        "{}",
        said(&circle)
    );
    let nobody = format!("{}---\n{use_it}", provider("acme", "{extends: opnai}"));
    assert!(said(&nobody).contains("spec.extends: provider `opnai` does not exist"), "{}", said(&nobody));
    let taken = format!("{}---\n{use_it}", provider("openai", "{extends: anthropic}"));
    assert!(
        said(&taken).contains("metadata.name: `openai` is built in; give this provider another name"),
        "{}",
        said(&taken)
    );
    let twice = provider("acme", "{extends: openai}");
    let twice = format!("{twice}---\n{twice}---\n{use_it}");
    assert!(
        said(&twice).contains("`acme` is already the provider in quota.yaml (document 1"),
        "{}",
        said(&twice)
    );
    let namesakes =
        format!("{}---\n{}", quota("{provider: {name: openai}}"), quota("{provider: {name: anthropic}}"));
    assert!(
        said(&namesakes).contains("is already the quota in quota.yaml (document 1"),
        "{}",
        said(&namesakes)
    );
    let unknown = format!("{}---\n{use_it}", provider("acme", "{extends: openai, host: [a.example]}"));
    assert!(said(&unknown).contains("spec.host: is unknown (did you mean `hosts`?)"), "{}", said(&unknown));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let spec = "{provider: {name: openai}, account: {sharePercent: 0}, enforcement: {mode: audit}}";
    let said = said(&quota(spec));
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn a_quota_without_namespace_is_fine_and_null_means_absent() {
    let spec = "{provider: {name: openai, tier: null}, limits: null}";
    let accounts = load(&[("quota.yaml", &quota(spec))]).unwrap();
    assert_eq!((accounts[0].quota.as_str(), accounts[0].key.as_str()), ("main", "openai/main"));
}
