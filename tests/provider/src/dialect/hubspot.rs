//! HubSpot: a thousand contacts, the `X-HubSpot-RateLimit-*` headers (none on search) and the errors.
//!
//! Searching ignores filters: what is found is not what is tested.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Asked, Refusal, Reply, left};
use crate::counting::{Limit, LimitState};

const CONTACTS: u64 = 1_000;
const DAY_MILLIS: u64 = 86_400_000;
const CREATED: &str = "2026-01-01T00:00:00.000Z";

/// The first limit of a day or longer is the daily one, the first shorter one the burst.
pub(super) fn headers(
    endpoint: Option<&str>,
    states: &[(Limit, LimitState)],
    sequence: u64,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-hubspot-correlation-id", correlation_id(sequence))];
    if endpoint.is_some() {
        return headers;
    }
    if let Some((limit, state)) = states.iter().find(|(limit, _)| limit.window_millis < DAY_MILLIS) {
        headers.push(("x-hubspot-ratelimit-max", limit.count.to_string()));
        headers.push(("x-hubspot-ratelimit-remaining", left(limit, state).to_string()));
        headers.push(("x-hubspot-ratelimit-interval-milliseconds", limit.window_millis.to_string()));
    }
    if let Some((limit, state)) = states.iter().find(|(limit, _)| limit.window_millis >= DAY_MILLIS) {
        headers.push(("x-hubspot-ratelimit-daily", limit.count.to_string()));
        headers.push(("x-hubspot-ratelimit-daily-remaining", left(limit, state).to_string()));
    }
    headers
}

fn correlation_id(sequence: u64) -> String {
    format!("00000000-0000-4000-8000-{sequence:012x}")
}

pub(super) fn refusal(refusal: &Refusal<'_>) -> Value {
    let correlation_id = correlation_id(refusal.sequence);
    if refusal.status == 429 {
        let policy = match refusal.exceeded.map(|(limit, _)| limit.window_millis) {
            Some(DAY_MILLIS..) => "DAILY",
            Some(..=1_000) => "SECONDLY",
            _ => "TEN_SECONDLY_ROLLING",
        };
        return json!({
            "status": "error", "message": format!("You have reached your {} limit.", policy.to_lowercase()),
            "errorType": "RATE_LIMIT", "correlationId": correlation_id, "policyName": policy,
            "groupName": "publicapi:private-apps:api-calls-v3:counting-provider",
        });
    }
    let category = match refusal.status {
        401 => "INVALID_AUTHENTICATION",
        404 => "OBJECT_NOT_FOUND",
        500.. => "INTERNAL_ERROR",
        _ => "VALIDATION_ERROR",
    };
    json!({"status": "error", "message": refusal.message, "correlationId": correlation_id, "category": category})
}

pub(super) fn page(asked: &Asked<'_>) -> Reply {
    let number = |name: &str| query_value(asked.query, name).and_then(|value| value.parse().ok());
    let (results, paging) = slice(number("after"), number("limit"));
    let mut body = json!({"results": results});
    if let Some(paging) = paging {
        body["paging"] = paging;
    }
    Reply::json(StatusCode::OK, &body)
}

pub(super) fn search(asked: &Asked<'_>) -> Reply {
    // `after` comes as a string from the SDK, as a number from others.
    let after = &asked.body["after"];
    let after = after.as_u64().or_else(|| after.as_str().and_then(|text| text.parse().ok()));
    let (results, paging) = slice(after, asked.body["limit"].as_u64());
    let mut body = json!({"total": CONTACTS, "results": results});
    if let Some(paging) = paging {
        body["paging"] = paging;
    }
    Reply::json(StatusCode::OK, &body)
}

pub(super) fn create(asked: &Asked<'_>) -> Reply {
    let id = CONTACTS + asked.sequence;
    let properties = asked.body["properties"].as_object().cloned().unwrap_or_default();
    Reply::json(StatusCode::CREATED, &record(id, properties))
}

pub(super) fn contact(id: &str, asked: &Asked<'_>) -> Reply {
    match id.parse() {
        Ok(number @ 1..=CONTACTS) => Reply::json(StatusCode::OK, &stored(number)),
        _ => {
            let correlation_id = correlation_id(asked.sequence);
            let body = json!({
                "status": "error", "message": "resource not found", "correlationId": correlation_id,
                "category": "OBJECT_NOT_FOUND",
            });
            Reply::json(StatusCode::NOT_FOUND, &body)
        }
    }
}

pub(super) fn batch_read(asked: &Asked<'_>) -> Reply {
    let inputs = asked.body["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let id_of = |input: &Value| input["id"].as_str()?.parse().ok().filter(|id| (1..=CONTACTS).contains(id));
    let results: Vec<Value> = inputs.iter().filter_map(id_of).map(stored).collect();
    let now = asked.wall.to_string();
    let body = json!({"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now});
    Reply::json(StatusCode::OK, &body)
}

fn slice(after: Option<u64>, limit: Option<u64>) -> (Vec<Value>, Option<Value>) {
    let after = after.unwrap_or(0).min(CONTACTS);
    let last = (after + limit.unwrap_or(10).min(100)).min(CONTACTS);
    let results = (after + 1..=last).map(stored).collect();
    let link = format!("https://api.hubapi.com/crm/v3/objects/contacts?after={last}");
    (results, (last < CONTACTS).then(|| json!({"next": {"after": last.to_string(), "link": link}})))
}

fn stored(id: u64) -> Value {
    let properties = json!({
        "email": format!("contact{id}@example.com"), "firstname": format!("Contact {id}"), "lastname": "Example",
    });
    record(id, properties.as_object().cloned().unwrap_or_default())
}

fn record(id: u64, mut properties: Map<String, Value>) -> Value {
    for (name, value) in
        [("createdate", CREATED), ("lastmodifieddate", CREATED), ("hs_object_id", id.to_string().as_str())]
    {
        properties.insert(name.to_owned(), json!(value));
    }
    json!({
        "id": id.to_string(), "properties": properties, "createdAt": CREATED, "updatedAt": CREATED, "archived": false,
    })
}

fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}
