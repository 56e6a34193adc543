//! Writes Events. Each has its own text: the name of the object is derived from what it says and whom it concerns, so
//! that a new leader finds what the one before has written, and nothing is added to an Event of another text.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::cluster::{Cluster, FIELD_MANAGER, WriteError};
use crate::event_reason::EventReason;
use crate::status::words::clipped;

/// The most Events that wait to be written; more are dropped.
const MOST_QUEUED: usize = 1000;
/// The most Events written in a round, and the time between two.
const MOST_WRITES: usize = 40;
const WRITE_INTERVAL: Duration = Duration::from_millis(50);
/// The API server takes notes of at most 1 kB.
const LONGEST_NOTE: usize = 1000;
/// Names of objects have at most 253 bytes; an Event's ends with a digest of 17.
const LONGEST_OBJECT: usize = 230;
/// The most Events whose repetitions are counted.
const MOST_COUNTED: usize = 10_000;
/// Who writes them.
const INSTANCE: &str = "operator";

/// An Event that is due.
#[derive(Clone, Debug)]
pub(crate) struct DueEvent {
    /// Its reason, which its type follows from.
    pub(crate) reason: EventReason,
    /// Its text.
    pub(crate) note: String,
    /// Its object.
    pub(crate) regarding: ObjectReference,
    /// What is written once for an object, whatever its note says then; none: each text is an Event, and the same text
    /// is counted.
    pub(crate) once: Option<String>,
}

impl DueEvent {
    /// The name of its object.
    fn name(&self) -> String {
        let ObjectReference { kind, name, uid, .. } = &self.regarding;
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let identity = self.once.as_ref().unwrap_or(&self.note);
        let parts = [&text(kind), &text(name), &text(uid), self.reason.word(), identity].map(str::to_owned);
        let digest = ring::digest::digest(&ring::digest::SHA256, parts.join("\n").as_bytes());
        let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let mut object = text(name);
        object.truncate(object.floor_char_boundary(LONGEST_OBJECT));
        format!("{}.{hex}", object.trim_end_matches(|end: char| !end.is_ascii_alphanumeric()))
    }

    fn object(&self, at: Timestamp) -> Event {
        let namespace = self.regarding.namespace.clone();
        Event {
            metadata: ObjectMeta { name: Some(self.name()), namespace, ..ObjectMeta::default() },
            event_time: Some(MicroTime(at)),
            action: Some(self.reason.word().to_owned()),
            reason: Some(self.reason.word().to_owned()),
            note: Some(clipped(&self.note, LONGEST_NOTE)),
            type_: Some(if self.reason.is_warning() { "Warning" } else { "Normal" }.to_owned()),
            regarding: Some(self.regarding.clone()),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(INSTANCE.to_owned()),
            ..Event::default()
        }
    }
}

/// The Events that wait to be written.
pub(crate) struct EventWriter {
    client: Client,
    queue: VecDeque<DueEvent>,
    /// How often this leader has written each, by namespace and name.
    counts: BTreeMap<(String, String), i32>,
}

impl EventWriter {
    pub(crate) fn new(client: Client) -> EventWriter {
        EventWriter { client, queue: VecDeque::new(), counts: BTreeMap::new() }
    }

    /// Adds an Event to those that wait.
    pub(crate) fn push(&mut self, event: DueEvent) {
        if self.queue.len() >= MOST_QUEUED {
            let DueEvent { reason, note, .. } = event;
            debug!(reason = reason.word(), note, "too many Events wait to be written; one is dropped");
            return;
        }
        self.queue.push_back(event);
    }

    /// Writes some of the Events that wait.
    pub(crate) async fn write(&mut self, cluster: &Cluster) {
        for _ in 0..MOST_WRITES {
            let Some(event) = self.queue.pop_front() else { return };
            if let Err(error) = self.write_one(cluster, &event).await {
                warn!(reason = event.reason.word(), %error, "an Event can't be written, and is dropped");
            }
            sleep(WRITE_INTERVAL).await;
        }
    }

    async fn write_one(&mut self, cluster: &Cluster, due: &DueEvent) -> Result<(), WriteError> {
        let namespace = due.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = Timestamp::now();
        let object = due.object(now);
        let key = (namespace, due.name());
        let created = cluster.write("Event", events.create(&PostParams::default(), &object)).await;
        match created {
            Err(error) if error.is_conflict() && due.once.is_some() => Ok(()),
            Err(error) if error.is_conflict() => {
                let count = self.counts.get(&key).map_or(2, |count| count.saturating_add(1));
                let series = EventSeries { count, last_observed_time: MicroTime(now) };
                let patch = Patch::Merge(json!({"series": series}));
                let parameters = PatchParams::default();
                cluster.write("Event", events.patch(&key.1, &parameters, &patch)).await?;
                self.counted(key, count);
                Ok(())
            }
            created => {
                created?;
                self.counted(key, 1);
                Ok(())
            }
        }
    }

    fn counted(&mut self, key: (String, String), count: i32) {
        if self.counts.len() >= MOST_COUNTED {
            self.counts.clear();
        }
        self.counts.insert(key, count);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(uid: &str, note: &str, once: Option<&str>) -> DueEvent {
        let regarding = ObjectReference {
            kind: Some("Job".to_owned()),
            name: Some("enrich".to_owned()),
            namespace: Some("gtm".to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let once = once.map(str::to_owned);
        DueEvent { reason: EventReason::ProviderPaused, note: note.to_owned(), regarding, once }
    }

    #[test]
    fn each_text_and_each_object_has_an_event_of_its_own() {
        let name = |uid, note| event(uid, note, None).name();
        assert_eq!(name("a", "until 14:03:10"), name("a", "until 14:03:10"), "the next leader finds it");
        assert_ne!(name("a", "until 14:03:10"), name("a", "until 14:03:27"));
        assert_ne!(name("a", "until 14:03:10"), name("b", "until 14:03:10"), "another Job of that name");
        let once = |note| event("a", note, Some("crm")).name();
        assert_eq!(once("1 pod without a proxy"), once("2 pods without a proxy"));
    }

    #[test]
    fn a_name_is_one_that_the_api_server_takes() {
        let mut long = event("a", "n", None);
        long.regarding.name = Some("a-.".repeat(84));
        let name = long.name();
        assert!(name.len() <= 253, "{name}");
        let (object, digest) = name.rsplit_once('.').unwrap();
        assert!(object.ends_with(|end: char| end.is_ascii_alphanumeric()), "{name}");
        assert_eq!(digest.len(), 16);
    }
}
