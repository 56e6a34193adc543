//! Helm's own record of a release: whether it is being uninstalled.
//!
//! Helm (3 and 4) keeps a Secret, or with `HELM_DRIVER=configmap` a ConfigMap, for each revision, and
//! labels it with the release's status before it makes the hooks of an uninstall. Only its metadata is
//! asked for: the content holds the values of the release. When it was written is the API server's word: Helm's label
//! `modifiedAt` may be that of an earlier revision.

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

/// How many revisions are looked at, from the one on that the chart was rendered as. A rollback makes a
/// newer revision with the hooks of an older one; Helm keeps ten of them unless it is configured otherwise.
/// The hook's Role in the chart names as many.
pub const REVISIONS: u64 = 32;
/// An uninstall that was begun longer ago has failed.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// The release that a hook was rendered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its revision, from 1.
    pub revision: u64,
}

/// The metadata of one revision's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The revision.
    pub revision: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was last written, by the API server's clock.
    pub written: Option<Timestamp>,
}

/// Why there is no proof that a release is being uninstalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// Helm knows of no such release.
    #[error("Helm has no release {name} in the namespace {namespace}")]
    NoRelease {
        /// The release.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// It stands, as far as Helm knows.
    #[error("Helm's release {name} is {status}, not uninstalling")]
    Standing {
        /// The release.
        name: String,
        /// Helm's word for how it is.
        status: String,
    },
    /// An uninstall was begun and has not ended.
    #[error("the uninstall of Helm's release {name} was begun {when}, more than {} minutes from now", RECENT.as_mins())]
    NotNow {
        /// The release.
        name: String,
        /// When, as RFC 3339.
        when: Timestamp,
    },
    /// The rights to read its record are not there: they are hooks too.
    #[error("the operator may not read Helm's record of the release {name}")]
    NotAllowed {
        /// The release.
        name: String,
    },
    /// The records can't be read.
    #[error("Helm's record of the release {name} can't be read: {why}")]
    Unreadable {
        /// The release.
        name: String,
        /// Why.
        why: String,
    },
}

impl Release {
    /// The names of its records that are looked at, by revision.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = (u64, String)> + use<'_> {
        let last = self.revision.saturating_add(REVISIONS);
        (self.revision..last)
            .map(|revision| (revision, format!("sh.helm.release.v1.{}.v{revision}", self.name)))
    }

    /// Reads its newest record; none: it has none.
    ///
    /// # Errors
    /// When that can't be determined.
    pub async fn newest(&self, client: &Client, namespace: &str) -> kube::Result<Option<Record>> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for (revision, name) in self.records().rev() {
            let found = match metadata(&secrets, &name).await? {
                Some(found) => Some(found),
                None => metadata(&maps, &name).await?,
            };
            if let Some(found) = found {
                return Ok(Some(Record::of(revision, found)));
            }
        }
        Ok(None)
    }

    /// Whether its newest record proves that it is being uninstalled now.
    ///
    /// # Errors
    /// [`NoProof`].
    pub fn is_going(&self, namespace: &str, newest: Option<&Record>, now: Timestamp) -> Result<(), NoProof> {
        let name = || self.name.clone();
        let label = |key: &str| newest.and_then(|record| record.labels.get(key)).map(String::as_str);
        if label("owner") != Some("helm") || label("name") != Some(&self.name) {
            return Err(NoProof::NoRelease { name: name(), namespace: namespace.to_owned() });
        }
        let status = label("status").unwrap_or("in no known state");
        if status != "uninstalling" {
            return Err(NoProof::Standing { name: name(), status: status.to_owned() });
        }
        let begun = newest.and_then(|record| record.written).unwrap_or(Timestamp::MIN);
        if now.duration_since(begun).abs() > RECENT {
            return Err(NoProof::NotNow { name: name(), when: begun });
        }
        Ok(())
    }
}

impl Record {
    fn of(revision: u64, metadata: ObjectMeta) -> Record {
        let written = metadata.managed_fields.unwrap_or_default();
        let written = written.into_iter().filter_map(|fields| Some(fields.time?.0)).max();
        Record { revision, labels: metadata.labels.unwrap_or_default(), written }
    }
}

async fn metadata<K>(api: &Api<K>, name: &str) -> kube::Result<Option<ObjectMeta>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let found: Option<PartialObjectMeta<K>> = api.get_metadata_opt(name).await?;
    Ok(found.map(|found| found.metadata))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        "2026-11-03T14:03:10Z".parse().unwrap()
    }

    fn release() -> Release {
        Release { name: "quotakeeper".to_owned(), revision: 3 }
    }

    fn record(changes: &[(&str, &str)]) -> Record {
        let labels = [
            ("owner", "helm"),
            ("name", "quotakeeper"),
            ("status", "uninstalling"),
            ("version", "3"),
            // Of an earlier revision.
            ("modifiedAt", "1693714580"),
        ];
        let labels =
            labels.iter().chain(changes).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Record { revision: 3, labels: labels.collect(), written: Some(now()) }
    }

    fn written(seconds_ago: i64) -> String {
        let metadata = serde_json::json!({"labels": record(&[]).labels, "managedFields": [
            {"manager": "helm", "time": now() - SignedDuration::from_hours(50)},
            {"manager": "helm", "time": now() - SignedDuration::from_secs(seconds_ago)},
            {"manager": "unknown"},
        ]});
        let record = Record::of(3, serde_json::from_value(metadata).unwrap());
        let outcome = release().is_going("tools", Some(&record), now());
        outcome.map_or_else(|why| why.to_string(), |()| "going".to_owned())
    }

    fn said(changes: &[(&str, &str)]) -> String {
        let outcome = release().is_going("tools", Some(&record(changes)), now());
        outcome.map_or_else(|why| why.to_string(), |()| "going".to_owned())
    }

    #[test]
    fn only_an_uninstall_of_this_moment_is_a_proof() {
        assert_eq!(said(&[]), "going");
        assert_eq!(
            release().is_going("tools", None, now()).unwrap_err().to_string(),
            "Helm has no release quotakeeper in the namespace tools"
        );
        assert!(said(&[("owner", "me")]).starts_with("Helm has no release"));
        assert!(said(&[("name", "another")]).starts_with("Helm has no release"));
        for status in ["deployed", "failed", "pending-install", "uninstalled", ""] {
            let sentence = format!("Helm's release quotakeeper is {status}, not uninstalling");
            assert_eq!(said(&[("status", status)]), sentence);
        }
        for ago in [0, 600, -600] {
            assert_eq!(written(ago), "going", "{ago}");
        }
        for ago in [601, -601, 86_400] {
            assert!(written(ago).contains("was begun"), "{ago}");
        }
        let unknown = Record { written: None, ..record(&[]) };
        let why = release().is_going("tools", Some(&unknown), now()).unwrap_err().to_string();
        assert!(why.contains("was begun"), "{why}");
    }

    #[test]
    fn the_revisions_after_a_rollback_are_looked_at_too() {
        let release = release();
        let names: Vec<_> = release.records().map(|(_, name)| name).collect();
        assert_eq!(names.len(), 32);
        assert_eq!(names[0], "sh.helm.release.v1.quotakeeper.v3");
        assert_eq!(names[31], "sh.helm.release.v1.quotakeeper.v34");
    }
}
