//! Where limits stand, from response headers. A figure that is malformed or implausible is as if it were absent;
//! a malformed structured field is ignored whole.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CONTENT_TYPE};
use jiff::{SignedDuration, Timestamp};
use memchr::memmem;
use sfv::{BareItem, Item, List, ListEntry, Parser};

use super::{Head, Observation};
use crate::instant::offset;
use crate::json;
use crate::profile::{HeaderFormat, LimitHeader, Profile, TimeFormat};

/// Most units that are believed: a quadrillion, within what a JSON number holds exactly.
const MAX_AMOUNT: u64 = 1_000_000_000_000_000;
/// A reset that is past by less belongs to a clock that is off; by more, to another notation.
const PAST_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);
/// Longest plausible time to a reset if the limit's window is not known: a month and a day.
const LONGEST_RESET: Duration = Duration::from_secs(32 * 24 * 60 * 60);

/// One state as written, before it is judged.
#[derive(Default)]
struct Figures {
    hard: Option<u64>,
    remaining: Option<u64>,
    resets_in: Option<SignedDuration>,
}

/// Observations from the profile's headers, and from the body where they stand there, in its order.
pub(super) fn observations(
    profile: &Profile,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    now: Timestamp,
) -> Vec<Observation> {
    // A cache repeats old figures (RFC 9111, 5.1: only a cache adds Age).
    let cached = text(headers, AGE.as_str()).is_some_and(|age| age != "0");
    if cached {
        return Vec::new();
    }
    profile.headers.iter().filter_map(|header| observe(profile, header, (headers, body), now)).collect()
}

/// Whether the state of a limit stands in the body of such a response: of JSON.
pub(super) fn needs_body(profile: &Profile, head: Head<'_>) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    let json = content_type.is_some_and(|value| memmem::find(&value, b"json").is_some());
    json && profile.headers.iter().any(|header| header.format() == HeaderFormat::Body)
}

fn observe(
    profile: &Profile,
    header: &LimitHeader,
    (headers, body): (&HeaderMap, Option<&[u8]>),
    now: Timestamp,
) -> Option<Observation> {
    if header.when.as_ref().is_some_and(|condition| !condition.holds(headers)) {
        return None;
    }
    let window = profile.tiers.iter().filter_map(|tier| tier.limit(&header.limit)?.window()).max();
    let figures = match header.format() {
        HeaderFormat::Separate => separate(header, headers, window, now),
        HeaderFormat::RateLimitFields => structured(header, headers, window),
        HeaderFormat::UsedOfLimit => used_of_limit(header, headers),
        HeaderFormat::KeyValues => key_values(header, headers, now),
        HeaderFormat::Body => body.map(|body| in_body(header, body)),
        HeaderFormat::Unknown => None,
    }?;
    // A limit of nothing is how some providers write "does not apply".
    let hard = figures.hard.filter(|hard| *hard > 0);
    let above = |remaining: u64| hard.is_some_and(|hard| remaining > hard);
    let observation = Observation {
        limit: header.limit.clone(),
        hard,
        remaining: figures.remaining.filter(|left| figures.hard != Some(0) && !above(*left)),
        resets_in: figures.resets_in.and_then(|reset| plausible(reset, window)),
        reset_means: header.reset_means.unwrap_or_default(),
    };
    let says_something = observation.hard.is_some() || observation.remaining.is_some();
    says_something.then_some(observation)
}

/// The time to a reset, if this limit can have it: at most two windows ahead (a minute at least, for clocks
/// that differ), and hardly past.
fn plausible(reset: SignedDuration, window: Option<Duration>) -> Option<Duration> {
    let longest = window.map_or(LONGEST_RESET, |window| (window * 2).max(Duration::from_secs(60)));
    match Duration::try_from(reset) {
        Ok(ahead) => (ahead <= longest).then_some(ahead),
        Err(_) => (reset >= -PAST_TOLERANCE).then_some(Duration::ZERO),
    }
}

fn separate(
    header: &LimitHeader,
    headers: &HeaderMap,
    window: Option<Duration>,
    now: Timestamp,
) -> Option<Figures> {
    let named = |name: &Option<String>| text(headers, name.as_deref()?);
    if let (Some(interval), Some(window)) = (named(&header.interval_millis).and_then(amount), window)
        && Duration::from_millis(interval) != window
    {
        return None;
    }
    let hard = named(&header.hard).and_then(amount);
    let used = named(&header.used).and_then(amount);
    let left_of = || Some(hard?.saturating_sub(used?));
    let reset = named(&header.reset).zip(header.reset_format);
    Some(Figures {
        hard,
        remaining: named(&header.remaining).and_then(amount).or_else(left_of),
        resets_in: reset.and_then(|(text, format)| offset(format, text, now)),
    })
}

/// Numbers at pointers into the body.
fn in_body(header: &LimitHeader, body: &[u8]) -> Figures {
    let at = |pointer: &Option<String>| {
        let number = json::first(body, pointer.as_deref()?)?.parse::<f64>().ok()?;
        (0.0..=MAX_AMOUNT as f64).contains(&number).then_some(number as u64)
    };
    let (hard, used) = (at(&header.hard), at(&header.used));
    let left_of = || Some(hard?.saturating_sub(used?));
    Figures { hard, remaining: at(&header.remaining).or_else(left_of), resets_in: None }
}

/// `RateLimit: "name";r=50;t=30` and `RateLimit-Policy: "name";q=100;w=60`.
fn structured(header: &LimitHeader, headers: &HeaderMap, window: Option<Duration>) -> Option<Figures> {
    let states = items(headers, "ratelimit").and_then(|items| policies(&items, "r", "t"));
    let policies = items(headers, "ratelimit-policy").and_then(|items| policies(&items, "q", "w"));
    let of_other_window = |policy: &Policy| matches!((policy.seconds, window), (Some(seconds), Some(window)) if Duration::from_secs(seconds) != window);
    let policies = policies.unwrap_or_default();
    let policy = chosen(header, &policies).filter(|policy| !of_other_window(policy));
    let state = chosen(header, states.as_deref().unwrap_or_default())
        .filter(|state| !policies.iter().any(|policy| policy.name == state.name && of_other_window(policy)));
    Some(Figures {
        hard: policy.map(|policy| policy.amount),
        remaining: state.map(|state| state.amount),
        resets_in: state.and_then(|state| Duration::from_secs(state.seconds?).try_into().ok()),
    })
}

/// One member of `RateLimit` or `RateLimit-Policy`.
struct Policy {
    name: String,
    amount: u64,
    seconds: Option<u64>,
}

/// The member for this limit: the policy that the profile names, else the one named as the limit, else the only
/// one. Of several with that name (one for each partition key) the one with the smallest amount.
fn chosen<'p>(header: &LimitHeader, policies: &'p [Policy]) -> Option<&'p Policy> {
    let named =
        |name: &str| policies.iter().filter(|policy| policy.name == name).min_by_key(|policy| policy.amount);
    match &header.policy {
        Some(name) => named(name),
        None => named(&header.limit).or_else(|| policies.first().filter(|_| policies.len() == 1)),
    }
}

fn items(headers: &HeaderMap, name: &str) -> Option<List> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    if lines.is_empty() {
        return None;
    }
    Parser::new(&lines.join(&b", "[..])).parse::<List>().ok()
}

/// Every member of a field, or none of them if one violates the draft.
fn policies(list: &List, amount: &str, seconds: &str) -> Option<Vec<Policy>> {
    list.iter()
        .map(|member| {
            let ListEntry::Item(item) = member else {
                return None;
            };
            let BareItem::String(name) = &item.bare_item else {
                return None;
            };
            Some(Policy {
                name: name.as_str().to_owned(),
                amount: parameter(item, amount)??,
                seconds: parameter(item, seconds)?,
            })
        })
        .collect()
}

/// A parameter that is a whole number; the inner `None` if it is absent, the outer if it is anything else.
fn parameter(item: &Item, name: &str) -> Option<Option<u64>> {
    match item.params.get(name) {
        None => Some(None),
        Some(BareItem::Integer(number)) => u64::try_from(i64::from(*number)).ok().map(Some),
        Some(_) => None,
    }
}

/// `18/5000`, or `api-usage=18/5000` with a key.
fn used_of_limit(header: &LimitHeader, headers: &HeaderMap) -> Option<Figures> {
    let value = text(headers, header.header.as_deref()?)?;
    let pair = match &header.key {
        Some(key) => value
            .split([';', ',', ' '])
            .find_map(|part| part.trim().strip_prefix(key.as_str())?.strip_prefix('='))?,
        None => value,
    };
    let (used, hard) = pair.split_once('/')?;
    let (used, hard) = (amount(used)?, amount(hard)?);
    Some(Figures { hard: Some(hard), remaining: Some(hard.saturating_sub(used)), resets_in: None })
}

/// `total=700; remaining=699; resets=50`.
fn key_values(header: &LimitHeader, headers: &HeaderMap, now: Timestamp) -> Option<Figures> {
    let value = text(headers, header.header.as_deref()?)?;
    let of = |key: &str| {
        let mut pairs = value.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| name.trim().eq_ignore_ascii_case(key).then(|| value.trim()))
    };
    let format = header.reset_format.unwrap_or(TimeFormat::DeltaSeconds);
    Some(Figures {
        hard: of("total").and_then(amount),
        remaining: of("remaining").and_then(amount),
        resets_in: of("resets").and_then(|text| offset(format, text, now)),
    })
}

/// A whole number of units. `-1` and anything else is unknown. The amount of `100, 100;w=60`, as drafts up to 06
/// of the RateLimit fields wrote it, is 100.
fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    let first = match text.split_once(',') {
        Some((first, policy)) if policy.contains(";w=") => first,
        _ => text,
    };
    if !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    first.parse().ok().filter(|amount| *amount <= MAX_AMOUNT)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
