//! What an injected pod says of itself.

use serde_json::{Value, json};

use super::{Edit, EditError};
use crate::decide::Status;
use crate::names::{BODY_VOLUME, CA_VOLUME, DEFAULT_CONTAINER, KEY_VOLUME, SAFE_TO_EVICT};
use crate::plan::Plan;
use crate::pod;
use quotakeeper_api::names::{INJECTED, STATUS};

/// Label, status and the annotations that other programs read.
pub(crate) fn ensure(edit: &mut Edit, plan: &Plan, status: &Status) -> Result<(), EditError> {
    edit.set(&["metadata", "labels", INJECTED], json!("true"))?;
    // Strings, lists and maps with text keys always become JSON.
    let status = serde_json::to_string(status).unwrap_or_default();
    edit.set(&["metadata", "annotations", STATUS], json!(status))?;
    let first =
        pod::items(&edit.pod()["spec"]["containers"]).first().map(|first| pod::name(first).to_owned());
    if let Some(first) = first.filter(|_| pod::annotation(edit.pod(), DEFAULT_CONTAINER).is_none()) {
        edit.set(&["metadata", "annotations", DEFAULT_CONTAINER], json!(first))?;
    }
    let safe = safe_to_evict(edit.pod(), plan);
    edit.set(&["metadata", "annotations", SAFE_TO_EVICT], json!(safe))?;
    Ok(())
}

/// The volumes that were named before, and ours: nothing in them is worth keeping a node for.
fn safe_to_evict(pod: &Value, plan: &Plan) -> String {
    let before = pod::annotation(pod, SAFE_TO_EVICT).unwrap_or_default();
    let mut names: Vec<&str> = before.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let ours: &[&str] = if plan.by_hosts() { &[BODY_VOLUME, CA_VOLUME, KEY_VOLUME] } else { &[BODY_VOLUME] };
    for own in ours {
        if !names.contains(own) {
            names.push(own);
        }
    }
    names.join(",")
}
