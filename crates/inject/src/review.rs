//! One AdmissionReview, answered.

use std::time::Duration;

use http::StatusCode;
use kube::Client;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use quotakeeper_api::workload::{self, Controller};
use serde_json::Value;
use tokio::time::Instant;

use crate::decide::{Decision, Input, decide};
use crate::jobs::owner_of_job;
use crate::pod;
use crate::requested_quotas::{Requested, requested};
use crate::settings::Settings;
use crate::view::{Namespace, View};
use quotakeeper_api::names::{DISABLED, INJECT};

/// A decision that may rest on watches that lag behind the API server is made again after this.
const BETWEEN: Duration = Duration::from_millis(100);
/// The longest warning in bytes that the API server passes on uncut.
const LONGEST_WARNING: usize = 256;

/// Not a review.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the request is not an AdmissionReview: {0}; only an API server calls this")]
    Review(#[from] serde_json::Error),
    #[error("the AdmissionReview has no request; only an API server calls this")]
    Empty,
    #[error("the request has more values than a pod of its length; only an API server calls this")]
    Dense,
}

/// Values that a review of no length may have, and the most of one of any length. A value takes many times the memory
/// of the two bytes that it may have as JSON.
const FEW_VALUES: usize = 1_000;
const MOST_VALUES: usize = 200_000;
/// Values of pods take more bytes than this: `"f:name":{},` are two.
const BYTES_A_VALUE: usize = 4;

/// Whether there are far more values than in a pod of this length, by commas and opening brackets.
fn is_dense(body: &[u8]) -> bool {
    let most = (FEW_VALUES + body.len() / BYTES_A_VALUE).min(MOST_VALUES);
    let (mut values, mut in_string, mut escaped) = (0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values > most
}

/// The request of a review, and its object. The object stays raw: typed metadata would lose fields of later versions.
pub(crate) fn read(body: &[u8]) -> Result<(AdmissionRequest<DynamicObject>, Value), Unreadable> {
    if is_dense(body) {
        return Err(Unreadable::Dense);
    }
    let mut review: Value = serde_json::from_slice(body)?;
    let object = review.pointer_mut("/request/object").map(Value::take).unwrap_or_default();
    let review: AdmissionReview<DynamicObject> = serde_json::from_value(review)?;
    Ok((review.try_into().map_err(|_| Unreadable::Empty)?, object))
}

/// A request to admit a pod.
pub(crate) struct Request {
    request: AdmissionRequest<DynamicObject>,
    pod: Value,
}

impl Request {
    pub(crate) fn read(body: &[u8]) -> Result<Request, Unreadable> {
        let (request, pod) = read(body)?;
        Ok(Request { request, pod })
    }

    /// A refusal that the next try may not meet.
    pub(crate) fn unavailable(&self, sentence: &str) -> AdmissionReview<DynamicObject> {
        self.deny(sentence, StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable").into_review()
    }

    /// The decision about the pod, by watches that know of it what the API server knew; they are waited for with this
    /// patience.
    pub(crate) async fn decide(
        &self,
        view: &dyn View,
        client: &Client,
        settings: &Settings,
        patience: Duration,
    ) -> Decision {
        if self.request.operation != Operation::Create || self.request.resource.resource != "pods" {
            return Decision::Unchanged;
        }
        let name = self.request.namespace.clone().unwrap_or_default();
        let owner = match workload::job(&pod::metadata(&self.pod)) {
            Some(job) => owner_of_job(client, &name, &job).await,
            None => None,
        };
        let begun = Instant::now();
        loop {
            let known = view.namespace(&name);
            let namespace =
                known.clone().unwrap_or_else(|| Namespace { name: name.clone(), ..Default::default() });
            let decision = self.once(&namespace, view, settings, owner.as_ref());
            // A file often holds namespace, quota and Job, and the Job's pods come before the watches tell.
            let lags = match &decision {
                Decision::Denied { unsettled, .. } => *unsettled || known.is_none(),
                Decision::Unchanged => self.lacks_the_label(&namespace) && name != settings.namespace,
                Decision::Skipped { .. } | Decision::Patch { .. } => known.is_none(),
            };
            if !lags || begun.elapsed() >= patience {
                self.log(&decision);
                return decision;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    fn once(
        &self,
        namespace: &Namespace,
        view: &dyn View,
        settings: &Settings,
        job_owner: Option<&Controller>,
    ) -> Decision {
        decide(&Input { pod: &self.pod, namespace, view, settings, job_owner })
    }

    /// Whether nothing asks for the proxy, though the API server has found something: the namespace's label.
    fn lacks_the_label(&self, namespace: &Namespace) -> bool {
        let disabled = pod::label(&self.pod, INJECT) == Some(DISABLED);
        !disabled && requested(&self.pod, namespace) == Ok(Requested::Nothing)
    }

    /// A decision as an answer.
    pub(crate) fn respond(&self, decision: Decision) -> AdmissionReview<DynamicObject> {
        let mut allowed = AdmissionResponse::from(&self.request);
        let response = match decision {
            Decision::Unchanged => allowed,
            Decision::Skipped { reason } => {
                allowed.warnings = warnings(vec![reason]);
                allowed
            }
            Decision::Denied { sentence, .. } => self.deny(&sentence, StatusCode::FORBIDDEN, "Forbidden"),
            Decision::Patch { patch, warnings: told, .. } => match allowed.with_patch(patch) {
                Ok(mut response) => {
                    response.warnings = warnings(told);
                    response
                }
                Err(error) => {
                    self.deny(&error.to_string(), StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
                }
            },
        };
        response.into_review()
    }

    fn deny(&self, sentence: &str, code: StatusCode, reason: &str) -> AdmissionResponse {
        let mut response = AdmissionResponse::from(&self.request).deny(sentence);
        response.result.code = code.as_u16();
        response.result.reason = reason.to_owned();
        response
    }

    fn log(&self, decision: &Decision) {
        let namespace = self.request.namespace.as_deref().unwrap_or_default();
        let metadata = &self.pod["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or_default();
        let dry_run = self.request.dry_run;
        match decision {
            Decision::Patch { status, .. } => {
                tracing::info!(namespace, name, dry_run, consumer = %status.consumer, "injected");
            }
            Decision::Unchanged => tracing::debug!(namespace, name, dry_run, "unchanged"),
            Decision::Skipped { reason } => tracing::info!(namespace, name, dry_run, reason, "skipped"),
            Decision::Denied { sentence, .. } => tracing::info!(namespace, name, dry_run, sentence, "denied"),
        }
    }
}

/// Sentences as the API server passes them on.
pub(crate) fn warnings(sentences: Vec<String>) -> Option<Vec<String>> {
    let told = sentences.into_iter().map(|sentence| {
        let mut warning = format!("quotakeeper: {sentence}");
        if warning.len() > LONGEST_WARNING {
            let end = warning.floor_char_boundary(LONGEST_WARNING - '…'.len_utf8());
            warning.truncate(end);
            warning.push('…');
        }
        warning
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then_some(told)
}
