//! What answers say of a limit: written by the provider as header text, rounded as providers round, and read by the
//! proxy with a profile.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use quotakeeper_dialects::Head;
use quotakeeper_dialects::profile::{Profile, ResetMeans};
use quotakeeper_engine::event::Observation;

use crate::scenario::{Headers, Reset, Rounding};

/// When the world begins by the provider's calendar, in seconds since 1970.
const BEGINS: i64 = 1_790_000_000;

/// Where a limit stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) amount: u64,
    pub(crate) remaining: u64,
    pub(crate) resets_in: Duration,
}

/// The headers of an answer that is written at `now` on the provider's monotonic clock, in nanoseconds.
pub(crate) fn written(style: &Headers, standing: Standing, now: u64) -> HeaderMap {
    let Standing { amount, remaining, resets_in } = standing;
    let wall = Timestamp::new(BEGINS, 0).unwrap_or_default()
        + SignedDuration::from_secs(style.clock_ahead)
        + SignedDuration::from_nanos(i64::try_from(now).unwrap_or(i64::MAX));
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set("date", wall.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    set("x-limit", amount.to_string());
    set("x-remaining", remaining.to_string());
    let resets_in = resets_in + style.reset_is_late_by;
    match style.reset {
        Reset::Untold => {}
        Reset::Seconds => set("x-reset", rounded(style.rounding, resets_in.as_nanos()).to_string()),
        Reset::Epoch => {
            let at = u128::try_from(wall.as_nanosecond()).unwrap_or(0) + resets_in.as_nanos();
            set("x-reset", rounded(style.rounding, at).to_string());
        }
    }
    headers
}

fn rounded(rounding: Rounding, nanos: u128) -> u128 {
    const SECOND: u128 = 1_000_000_000;
    match rounding {
        Rounding::Down => nanos / SECOND,
        Rounding::Nearest => (nanos + SECOND / 2) / SECOND,
        Rounding::Up => nanos.div_ceil(SECOND),
    }
}

/// The profile that says what the headers mean of a limit.
pub(crate) fn profile(style: &Headers, limit: &str, window: Duration) -> Profile {
    let format = match style.reset {
        Reset::Seconds => "DeltaSeconds",
        Reset::Untold | Reset::Epoch => "EpochSeconds",
    };
    let profile = serde_json::json!({
        "tiers": [{"name": "only", "limits": [
            {"name": limit, "unit": "Requests", "amount": 1, "windowSeconds": window.as_secs().max(1)},
        ]}],
        "headers": [{
            "limit": limit, "hard": "x-limit", "remaining": "x-remaining", "reset": "x-reset",
            "resetFormat": format, "resetMeans": "WindowEnd",
        }],
    });
    serde_json::from_value(profile).unwrap_or_default()
}

/// What a proxy reads in them; its own calendar is another.
pub(crate) fn read(profile: &Profile, headers: &HeaderMap) -> Vec<Observation> {
    let head = Head { status: StatusCode::OK, headers, endpoint: None };
    let reading = profile.read(head, None, Timestamp::UNIX_EPOCH);
    let translate = |seen: quotakeeper_dialects::Observation| Observation {
        limit: seen.limit,
        hard: seen.hard,
        remaining: seen.remaining,
        ends_in: seen.resets_in.filter(|_| seen.reset_means == ResetMeans::WindowEnd),
    };
    reading.observations.into_iter().map(translate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_read_to_within_its_rounding_whatever_the_clock() {
        let standing = Standing { amount: 60, remaining: 12, resets_in: Duration::from_millis(7_400) };
        for reset in [Reset::Seconds, Reset::Epoch] {
            for rounding in [Rounding::Down, Rounding::Nearest, Rounding::Up] {
                for clock_ahead in [-300, 0, 300] {
                    let style = Headers { reset, rounding, clock_ahead, reset_is_late_by: Duration::ZERO };
                    let headers = written(&style, standing, 123_456_700_000);
                    let seen = read(&profile(&style, "requests", Duration::from_secs(30)), &headers);
                    assert_eq!(seen.len(), 1);
                    assert_eq!((seen[0].hard, seen[0].remaining), (Some(60), Some(12)));
                    let ends_in = seen[0].ends_in.unwrap_or_default().as_millis();
                    assert!((6_400..9_400).contains(&ends_in), "{style:?}: {ends_in}");
                }
            }
        }
    }
}
