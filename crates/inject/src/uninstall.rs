//! The review of the chart's pre-delete hook: a ConfigMap that Helm creates before it deletes anything. Helm waits for
//! the answer, so that running proxies can be told meanwhile. Without an operator nobody answers, and the API server
//! admits the ConfigMap: an uninstall never depends on pods that can't start.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::StatusCode;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionResponse, AdmissionReview, Operation};
use serde_json::Value;

use crate::review::{Unreadable, read, warnings};

/// Where the API server asks about the hook.
pub const PATH: &str = "/uninstall";
/// The entries of the ConfigMap: the release, the revision that it was rendered for, and for how many seconds proxies
/// are waited for.
const RELEASE: &str = "release";
const REVISION: &str = "revision";
const TIMEOUT: &str = "timeoutSeconds";
/// Where the ConfigMap does not say: how long proxies are waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest wait. The API server waits 30 s for the whole answer.
const MOST_PATIENCE: Duration = Duration::from_secs(15);

/// What the hook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The release.
    pub release: String,
    /// The revision that the hook was rendered for, from 1.
    pub revision: u64,
    /// How long proxies may take to hear of it.
    pub patience: Duration,
}

/// An answer that takes its time.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// What is done before an uninstall.
pub trait Uninstall: Send + Sync {
    /// Prepares for it, and returns a sentence for the person at Helm.
    ///
    /// # Errors
    /// A sentence: the uninstall should not go on, and what to do.
    fn prepare(&self, announcement: Announcement) -> Answering<'_>;
}

/// Answers a review of the hook.
///
/// # Errors
/// When it is not a review.
pub(crate) async fn answer(
    body: &[u8],
    uninstall: &dyn Uninstall,
) -> Result<AdmissionReview<DynamicObject>, Unreadable> {
    let (request, object) = read(body)?;
    let allowed = AdmissionResponse::from(&request);
    if request.operation != Operation::Create || request.dry_run {
        return Ok(allowed.into_review());
    }
    let response = match uninstall.prepare(announcement(&object)).await {
        Ok(sentence) => {
            let mut response = allowed;
            response.warnings = warnings(vec![sentence]);
            response
        }
        Err(sentence) => {
            let mut response = allowed.deny(sentence);
            response.result.code = StatusCode::FORBIDDEN.as_u16();
            "Forbidden".clone_into(&mut response.result.reason);
            response
        }
    };
    Ok(response.into_review())
}

fn announcement(object: &Value) -> Announcement {
    let entry = |name: &str| object["data"][name].as_str().unwrap_or_default();
    let patience = entry(TIMEOUT).parse().map_or(PATIENCE, Duration::from_secs).min(MOST_PATIENCE);
    Announcement {
        release: entry(RELEASE).to_owned(),
        revision: entry(REVISION).parse().unwrap_or(1),
        patience,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_hook_does_not_say_has_a_default() {
        let said = |data: Value| announcement(&json!({"data": data}));
        let whole = said(json!({"release": "q", "revision": "3", "timeoutSeconds": "5"}));
        let expected =
            Announcement { release: "q".to_owned(), revision: 3, patience: Duration::from_secs(5) };
        assert_eq!(whole, expected);
        assert_eq!(said(json!({"timeoutSeconds": "3600"})).patience, MOST_PATIENCE);
        let nothing = Announcement { release: String::new(), revision: 1, patience: PATIENCE };
        assert_eq!(said(json!({"revision": "?", "timeoutSeconds": "-1"})), nothing);
        assert_eq!(announcement(&Value::Null), nothing);
    }
}
