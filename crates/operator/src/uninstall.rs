//! Opens the gate before an uninstall, when the API server asks about the chart's pre-delete hook: if Helm has
//! recorded the uninstall, and not otherwise. The rights to read Helm's record are hooks too.

use std::time::Duration;

use kube::Client;
use quotakeeper_inject::uninstall::{Announcement, Answering, Uninstall};
use tracing::{info, warn};

use crate::limiter_view::Source;
use crate::open_gate;
use crate::release::{NoProof, Release};

/// How long a request to the API server is tried: with the wait for the proxies that is less than the 30 s for which
/// the API server waits.
const PATIENCE: Duration = Duration::from_secs(6);

/// What opens the gate.
pub(crate) struct GateOpener {
    client: Client,
    namespace: String,
    source: Source,
}

impl Uninstall for GateOpener {
    fn prepare(&self, announcement: Announcement) -> Answering<'_> {
        Box::pin(async move {
            let outcome = self.open(announcement).await;
            match &outcome {
                Ok(sentence) => info!("an uninstall is announced: {sentence}"),
                Err(sentence) => warn!("an uninstall is announced: {sentence}"),
            }
            outcome
        })
    }
}

impl GateOpener {
    /// Opens it in `namespace`; `source` is the limiter, which says how many proxies know.
    pub(crate) fn new(client: Client, namespace: &str, source: Source) -> Self {
        Self { client, namespace: namespace.to_owned(), source }
    }

    async fn open(&self, announcement: Announcement) -> Result<String, String> {
        let Self { client, namespace, source } = self;
        let Announcement { release, revision, patience } = announcement;
        let release = Release { name: release, revision };
        if let Err(why) = open_gate::proof(client, namespace, &release, PATIENCE).await {
            return Ok(stays_closed(&why, namespace));
        }
        let until = open_gate::open(client, namespace, PATIENCE).await.map_err(|error| {
            format!(
                "the gate can't be opened: {error}; try again, or go on without: helm uninstall --no-hooks, after \
                 which calls of running pods wait until the pods are restarted"
            )
        })?;
        Ok(match open_gate::told(client, namespace, source, patience).await {
            Ok(opened) => opened.sentence(until, patience),
            Err(error) => {
                format!("the gate is open until {until}; whether the proxies know is not known: {error}")
            }
        })
    }
}

fn stays_closed(why: &NoProof, namespace: &str) -> String {
    format!(
        "the gate stays closed: {why}. To remove Quotakeeper without Helm, first run kubectl -n {namespace} exec \
         deploy/quotakeeper-operator -- /quotakeeper open-gate --yes --wait"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API server cuts warnings at 256 bytes.
    #[test]
    fn what_to_do_is_not_cut_off() {
        let why = NoProof::NoRelease { name: "quotakeeper".to_owned(), namespace: "quotakeeper".to_owned() };
        let length = format!("quotakeeper: {}", stays_closed(&why, "quotakeeper")).len();
        assert!(length <= 256, "{length}");
    }
}
