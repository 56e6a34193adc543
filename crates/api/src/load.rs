//! Quota files for `quotakeeper run -f`: read, checked and compiled without a cluster.
//!
//! A file holds `ApiQuota`, `ApiProvider` and `ApiCampaign` documents, in any order. Whatever is wrong is reported in
//! one sentence a mistake, with the file, the document, the field and the remedy; then nothing is
//! loaded. [`accounts`] does it all; the rest is its pure steps.

mod refusal;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use kube::ResourceExt;
use quotakeeper_dialects::{Profile, catalogue, did_you_mean};
use quotakeeper_wire::account::CompiledAccount;
use serde_json::Value;

use crate::campaign::ApiCampaign;
use crate::problem::Problem;
use crate::provider::ApiProvider;
use crate::quota::ApiQuota;
use crate::{compile, validate, yaml};

pub use refusal::{Place, Refusal, Refused};

const GROUP: &str = "quotakeeper.dev";
const VERSION: &str = "v1alpha1";
/// The largest file that is parsed: a quota has a few hundred bytes, and YAML can cost much more than its size.
const LARGEST: u64 = 256 * 1024;
const KINDS: [&str; 3] = ["ApiQuota", "ApiProvider", "ApiCampaign"];

/// A text and the name that people know it by.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name, as it was given.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// The documents of some files.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// The quotas, in the order of the files.
    pub quotas: Vec<(Place, ApiQuota)>,
    /// The providers that come with them.
    pub providers: Vec<(Place, ApiProvider)>,
    /// The campaigns that are planned with them.
    pub campaigns: Vec<(Place, ApiCampaign)>,
}

/// The accounts that files declare, one for each quota, in their order.
///
/// # Errors
/// All mistakes, each as one sentence.
pub fn accounts(paths: &[PathBuf]) -> Result<Vec<CompiledAccount>, Refused> {
    documents(&read(paths)?)?.accounts()
}

/// The files' texts.
///
/// # Errors
/// The files that can't be read or are larger than any quota.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Refused> {
    let mut refused = Refused::default();
    let mut sources = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        match File::open(path).map_err(|error| unreadable(&name, &error)).and_then(|file| source(&name, file))
        {
            Ok(source) => sources.push(source),
            Err(more) => refused.refusals.extend(more.refusals),
        }
    }
    refused.or(sources)
}

/// A text from anywhere, standard input for one, under the name that people know it by.
///
/// # Errors
/// When it can't be read, or is larger than any quota: no more of it is read than that.
pub fn source(name: &str, from: impl Read) -> Result<Source, Refused> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > LARGEST {
        let message = format!("is larger than {LARGEST} bytes; split it, or is it another file?");
        return Err(refusal(name, message));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        refusal(name, "is not text in UTF-8; save it as that, or is it another file?".to_owned())
    })?;
    Ok(Source { name: name.to_owned(), text })
}

fn unreadable(name: &str, error: &io::Error) -> Refused {
    refusal(name, format!("can't be read: {error}; check the path and its permissions"))
}

fn refusal(name: &str, message: String) -> Refused {
    let mut refused = Refused::default();
    refused.push(&Place::file(name), Problem::new("", message));
    refused
}

/// The documents of texts, each checked by itself.
///
/// # Errors
/// All mistakes of all documents.
pub fn documents(sources: &[Source]) -> Result<Documents, Refused> {
    let mut refused = Refused::default();
    let mut documents = Documents::default();
    for source in sources {
        match yaml::read(&source.text) {
            Ok(read) => {
                let single = read.len() == 1;
                for (index, document) in read.into_iter().enumerate() {
                    let place = Place {
                        file: source.name.clone(),
                        document: (!single).then_some(index + 1),
                        line: (!single).then_some(document.line),
                    };
                    if let Err(problems) = documents.add(&place, &document.value) {
                        refused.extend(&place, problems);
                    }
                }
            }
            Err(error) => {
                let place = Place { line: error.line(), ..Place::file(&source.name) };
                refused.push(&place, Problem::new("", error.to_string()));
            }
        }
    }
    if refused.is_empty() && documents.quotas.is_empty() {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let message = "holds no ApiQuota; add one, for example {apiVersion: quotakeeper.dev/v1alpha1, \
            kind: ApiQuota, metadata: {name: openai}, spec: {provider: {name: openai}}}";
        refused.push(&Place::file(&names.join(", ")), Problem::new("", message));
    }
    refused.or(documents)
}

impl Documents {
    fn add(&mut self, place: &Place, document: &Value) -> Result<(), Vec<Problem>> {
        match kind(document).map_err(|problem| vec![problem])? {
            "ApiProvider" => self.providers.push((place.clone(), validate::provider(document)?)),
            "ApiCampaign" => self.campaigns.push((place.clone(), validate::campaign(document)?)),
            _ => self.quotas.push((place.clone(), validate::quota(document)?)),
        }
        Ok(())
    }

    /// The quotas compiled with their providers.
    ///
    /// # Errors
    /// Unknown providers and tiers, amounts that leave nothing, and quotas that can't be distinguished:
    /// a call must belong to exactly one account.
    pub fn accounts(&self) -> Result<Vec<CompiledAccount>, Refused> {
        let mut refused = Refused::default();
        self.check_providers(&mut refused);
        if !refused.is_empty() {
            return Err(refused);
        }
        let mut accounts = Vec::new();
        for (place, quota) in &self.quotas {
            let compiled = self.profile(quota).and_then(|profile| compile::account(quota, profile));
            match compiled {
                Ok(account) => accounts.push(account),
                Err(problems) => refused.extend(place, problems),
            }
        }
        if refused.is_empty() {
            self.check_apart(&accounts, &mut refused);
        }
        refused.or(accounts)
    }

    /// Own providers have names of their own, and are complete with what they inherit.
    fn check_providers(&self, refused: &mut Refused) {
        for (index, (place, provider)) in self.providers.iter().enumerate() {
            let name = provider.name_any();
            if catalogue::names().contains(&name.as_str()) {
                let message = format!(
                    "`{name}` is built in; give this provider another name and write `extends: {name}` in its spec"
                );
                refused.push(place, Problem::new("metadata.name", message));
            }
            if let Some((other, _)) = self.providers[..index].iter().find(|(_, it)| it.name_any() == name) {
                let message = format!("`{name}` is already the provider in {other}; rename one of them");
                refused.push(place, Problem::new("metadata.name", message));
            }
            match provider.spec.profile.resolve(|name| self.find(name)) {
                Ok(resolved) => refused.extend(place, validate::profile_problems(&resolved)),
                Err(error) => {
                    refused.push(place, Problem::new("spec.extends", unprefixed(&error.to_string())))
                }
            }
        }
    }

    /// The profile of a quota's provider, with all that it inherits.
    fn profile(&self, quota: &ApiQuota) -> Result<Profile, Vec<Problem>> {
        let field = "spec.provider.name";
        let asked = &quota.spec.provider.name;
        let Some(profile) = self.find(asked) else {
            let mut known: Vec<String> = catalogue::names().into_iter().map(str::to_owned).collect();
            known.extend(self.providers.iter().map(|(_, provider)| provider.name_any()));
            let hint = did_you_mean(asked, known.iter().map(String::as_str));
            let message = format!(
                "provider `{asked}` is unknown{hint}; use one of: {}, or add an ApiProvider of that name",
                known.join(", ")
            );
            return Err(vec![Problem::new(field, message)]);
        };
        profile
            .resolve(|name| self.find(name))
            .map_err(|error| vec![Problem::new(field, unprefixed(&error.to_string()))])
    }

    fn find(&self, name: &str) -> Option<Profile> {
        let own = self.providers.iter().find(|(_, provider)| provider.name_any() == name);
        own.map(|(_, provider)| provider.spec.profile.clone()).or_else(|| catalogue::find(name).ok())
    }

    /// No two quotas of one name or one provider, and none whose providers have a host in common.
    fn check_apart(&self, accounts: &[CompiledAccount], refused: &mut Refused) {
        let all: Vec<_> = self.quotas.iter().zip(accounts).collect();
        for (index, ((place, quota), account)) in all.iter().enumerate() {
            let provider = &quota.spec.provider.name;
            for ((other_place, other), other_account) in &all[..index] {
                if other_account.quota == account.quota {
                    let message = format!(
                        "`{}` is already the quota in {other_place}; rename one of them",
                        account.quota
                    );
                    refused.push(place, Problem::new("metadata.name", message));
                } else if other.spec.provider.name == *provider {
                    let message = format!(
                        "quota `{}` is of provider `{provider}`, and so is `{}` in {other_place}; a run has one \
                         quota of a provider, remove one of them",
                        account.quota, other_account.quota
                    );
                    refused.push(place, Problem::new("spec.provider.name", message));
                } else if let Some(host) = shared_host(&account.profile, &other_account.profile) {
                    let message = format!(
                        "calls to {host} would belong to quota `{}` and to `{}` in {other_place}; remove one of \
                         them",
                        account.quota, other_account.quota
                    );
                    refused.push(place, Problem::new("spec.provider.name", message));
                }
            }
        }
    }
}

fn shared_host<'p>(one: &'p Profile, other: &Profile) -> Option<&'p String> {
    one.hosts.iter().find(|host| other.hosts.contains(host) || other.serves(host))
}

/// The kind of a document that this version reads.
fn kind(document: &Value) -> Result<&str, Problem> {
    let text = |field: &str| document[field].as_str();
    let Some(kind) = text("kind") else {
        return Err(Problem::new("kind", format!("is required; write one of: {}", KINDS.join(", "))));
    };
    let Some(api) = text("apiVersion") else {
        let message = format!("is required; write {GROUP}/{VERSION}");
        return Err(Problem::new("apiVersion", message));
    };
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    if !KINDS.contains(&kind) || group != GROUP {
        let hint = did_you_mean(kind, KINDS);
        let message = format!(
            "{kind} of {api} is unknown{hint}; a quota file holds {} of {GROUP}/{VERSION}",
            KINDS.join(", ")
        );
        return Err(Problem::new("kind", message));
    }
    if version == VERSION {
        return Ok(kind);
    }
    let message = match rank(version) > rank(VERSION) {
        true => format!(
            "{version} is newer than this quotakeeper; it reads {VERSION}: upgrade it, or write \
             {GROUP}/{VERSION}"
        ),
        false => format!("{version} is unknown; write {GROUP}/{VERSION}"),
    };
    Err(Problem::new("apiVersion", message))
}

/// Order of Kubernetes' API versions, by maturity and then by number; none for other words.
fn rank(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let split = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (major, stage) = rest.split_at(split);
    let major = major.parse().ok()?;
    if stage.is_empty() {
        return Some((2, major, 0));
    }
    let beta = stage.strip_prefix("beta").map(|number| (1, number));
    let (maturity, number) = beta.or_else(|| Some((0, stage.strip_prefix("alpha")?)))?;
    Some((maturity, major, number.parse().ok()?))
}

/// A sentence about `extends` without the field that it begins with.
fn unprefixed(message: &str) -> &str {
    message.strip_prefix("extends: ").unwrap_or(message)
}
