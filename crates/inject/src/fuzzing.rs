//! Reviews whose bytes a fuzzer makes up.

use serde_json::Value;

use crate::review;

/// The pod of a review, as the webhook reads it; `None`: the bytes are no review.
#[must_use]
pub fn pod_of_review(body: &[u8]) -> Option<Value> {
    review::read(body).ok().map(|(_, pod)| pod)
}
