//! Rules between the fields of an `ApiQuota`: each once as CEL, for the API server, and once in
//! Rust, for `quotakeeper run` and the operator. Both have the same sentence for the same field;
//! the documents of `tests/documents` hold them against each other.
//!
//! The CEL keeps to what Kubernetes 1.33 has and to constant or bounded cost. `amount` is an
//! int-or-string, whose length the API server's estimate ignores: no `matches`, `size` of a copy or
//! conversion on it, only the ends of the text.

pub mod allocation;

use kube::core::{Reason, Rule};

use super::{
    Account, Amount, ApiQuotaSpec, ConsumerNamespaces, Enforcement, Limit, NamespacesFrom, OnExceeded,
    Pacing, PacingAlgorithm, Unit,
};
use quotakeeper_dialects::calendar::Calendar;

use crate::bounded;
use crate::problem::Problem;

/// Names of providers and limits.
pub const NAME: &str = "must be lower-case letters, digits and inner hyphens, for example \
    `tier-requests`";
/// Names of limits, where those of allocations may be meant.
pub const LIMIT_OF_ANY: &str = "must be the name of a limit, for example `daily`, or of an allocation and \
    a limit that it declares, for example `sales/sales-budget`";
/// The provider's immutability.
pub const PROVIDER_STAYS: &str = "can't be changed; create another ApiQuota for the other provider";
/// The account's id.
pub const ACCOUNT_ID: &str = "must be letters, digits and any of . _ : @ - inside, for example \
    `org-9f2c`";
/// `account.organization`
pub const ORGANIZATION: &str = "must be as answers name it: printable ASCII characters without spaces around them, for \
    example `acme-inc-9f2c`";
/// Share and reserve together.
pub const SOMETHING_LEFT: &str = "leaves less than 1 % of the account; raise sharePercent or lower \
    reservePercent";
/// An amount with a Kubernetes milli suffix, as the API server writes it.
pub const AMOUNT_MILLI: &str = "m means a thousandth; write M for millions, as in 2M";
/// An amount with a binary suffix.
pub const AMOUNT_BINARY: &str = "Ki, Mi and Gi count in 1024s; write 10k for thousands or 2M for \
    millions";
/// Any other text that is no amount.
pub const AMOUNT_FORM: &str = "must be a whole number of at most 9 digits, or one with k for \
    thousands or M for millions, for example 500, 10k or 2M";
/// A number that is no amount.
pub const AMOUNT_RANGE: &str = "must be between 1 and 1000000000000000";
/// A limit with neither a window nor a period.
pub const WINDOW_NEEDED: &str = "is required, or period; write how many seconds the window lasts, for \
    example 60, or period: Month";
/// A window and a period.
pub const WINDOW_OR_PERIOD: &str = "and period are two lengths of one limit; remove one of them";
/// A window where none can be.
pub const WINDOW_FORBIDDEN: &str = "has no meaning for unit ConcurrentRequests; remove it";
/// A period where none can be.
pub const PERIOD_FORBIDDEN: &str = "has no meaning for unit ConcurrentRequests; remove it";
/// A time zone without a period.
pub const ZONE_FORBIDDEN: &str = "has no meaning without period; write period: Day, Week or Month, or \
    remove it";
/// A way of counting a period.
pub const COUNTING_OF_PERIOD: &str = "has no meaning with period, which begins anew at its edge; remove it";
/// A reserve where the cost of a call is known before.
pub const RESERVE_FORBIDDEN: &str = "is only read for tokens and Dollars, whose use is known when a call \
    has ended; remove it";
/// Dollars beyond what can be counted.
pub const DOLLARS_RANGE: &str = "must be at most 10000000 for unit Dollars";
/// A text that is no amount of dollars.
pub const DOLLARS_FORM: &str = "must be dollars as a whole number or a decimal in quotes with at most six \
    places, more than 0 and at most 10000000, for example 500 or \"412.50\"";
/// A way of counting where none can be.
pub const COUNTING_FORBIDDEN: &str = "has no meaning for unit ConcurrentRequests; remove it";
/// A selector is missing.
pub const SELECTOR_NEEDED: &str = "is required with from: Selector; write which labels the \
    namespaces have, for example {matchLabels: {team: gtm}}";
/// A selector too many.
pub const SELECTOR_FORBIDDEN: &str = "is only read with from: Selector; write from: Selector or \
    remove it";
/// A burst with even pacing.
pub const BURST_FORBIDDEN: &str = "has no meaning with algorithm LeakyBucket, which sends evenly; \
    remove it or write algorithm: TokenBucket";
/// A burst above a limit.
pub const BURST_FITS: &str = "is larger than the amount of a limit of Requests; write at most the \
    smallest amount";
/// A queue where calls are rejected.
pub const QUEUE_FORBIDDEN: &str = "has no meaning with onExceeded Reject, where no call waits; \
    remove it or write onExceeded: Queue";

fn rule(cel: &str, message: &'static str) -> Rule {
    Rule::new(cel).message(message).reason(Reason::FieldValueInvalid)
}

fn forbidden(cel: &str, message: &'static str, field: &str) -> Rule {
    let rule = Rule::new(cel).message(message).field_path(field);
    rule.reason(Reason::FieldValueForbidden)
}

fn required(cel: &str, message: &'static str, field: &str) -> Rule {
    let rule = Rule::new(cel).message(message).field_path(field);
    rule.reason(Reason::FieldValueRequired)
}

/// A name is a DNS label.
pub fn name() -> Rule {
    rule("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", NAME)
}

/// A limit of the quota or, behind its name, of an allocation.
pub fn limit_of_any() -> Rule {
    rule("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)?$')", LIMIT_OF_ANY)
}

/// The provider of a quota stays: the ledger's history belongs to it.
pub fn provider_stays() -> Rule {
    rule("self == oldSelf", PROVIDER_STAYS)
}

/// An account's id has no slash: it is part of the ledger's key.
pub fn account_id() -> Rule {
    rule("self.matches('^[A-Za-z0-9]([-A-Za-z0-9._:@]*[A-Za-z0-9])?$')", ACCOUNT_ID)
}

/// An account's organisation is what a header can hold; another would be named by no answer.
pub fn organization() -> Rule {
    rule("self.matches('^[!-~]([ -~]*[!-~])?$')", ORGANIZATION)
}

/// Share and reserve leave at least a hundredth of the account.
pub fn something_left() -> Rule {
    rule(
        "!has(self.sharePercent) || !has(self.reservePercent) || \
         self.sharePercent * (100 - self.reservePercent) >= 100",
        SOMETHING_LEFT,
    )
    .field_path(".reservePercent")
}

/// `2m` is not two million.
pub fn amount_milli() -> Rule {
    rule("type(self) != string || !self.endsWith('m')", AMOUNT_MILLI)
}

/// `2Ki` is not two thousand.
pub fn amount_binary() -> Rule {
    rule("type(self) != string || !self.endsWith('i')", AMOUNT_BINARY)
}

/// A text ends with a digit, `k` or `M`; the pattern of the schema sees to the rest.
pub fn amount_form() -> Rule {
    rule(
        "type(self) != string || ['0','1','2','3','4','5','6','7','8','9','k','M','m','i']\
         .exists(end, self.endsWith(end))",
        AMOUNT_FORM,
    )
}

/// A number is at least 1 and far below an overflow.
pub fn amount_range() -> Rule {
    rule("type(self) != int || (self >= 1 && self <= 1000000000000000)", AMOUNT_RANGE)
}

/// All but concurrency is counted in a window or period.
pub fn window_needed() -> Rule {
    required(
        "self.unit == 'ConcurrentRequests' || has(self.windowSeconds) || has(self.period)",
        WINDOW_NEEDED,
        ".windowSeconds",
    )
}

/// A limit has one length.
pub fn window_or_period() -> Rule {
    forbidden(
        "self.unit == 'ConcurrentRequests' || !has(self.windowSeconds) || !has(self.period)",
        WINDOW_OR_PERIOD,
        ".windowSeconds",
    )
}

/// Concurrency has no period.
pub fn period_forbidden() -> Rule {
    forbidden("self.unit != 'ConcurrentRequests' || !has(self.period)", PERIOD_FORBIDDEN, ".period")
}

/// Only a period has a time zone.
pub fn zone_forbidden() -> Rule {
    forbidden("has(self.period) || !has(self.timeZone)", ZONE_FORBIDDEN, ".timeZone")
}

/// A period is counted in one way.
pub fn counting_of_period() -> Rule {
    forbidden(
        "self.unit == 'ConcurrentRequests' || !has(self.period) || !has(self.countedAs)",
        COUNTING_OF_PERIOD,
        ".countedAs",
    )
}

/// Only what is settled later is reserved.
pub fn reserve_forbidden() -> Rule {
    forbidden(
        "!has(self.reserve) || self.unit in ['InputTokens', 'OutputTokens', 'TotalTokens', 'Dollars']",
        RESERVE_FORBIDDEN,
        ".reserve",
    )
}

/// Dollars keep far below what an engine could overflow on.
pub fn dollars_range() -> Rule {
    rule("self.unit != 'Dollars' || type(self.amount) != int || self.amount <= 10000000", DOLLARS_RANGE)
        .field_path(".amount")
}

/// Concurrency has no window.
pub fn window_forbidden() -> Rule {
    forbidden(
        "self.unit != 'ConcurrentRequests' || !has(self.windowSeconds)",
        WINDOW_FORBIDDEN,
        ".windowSeconds",
    )
}

/// Concurrency has no way of counting.
pub fn counting_forbidden() -> Rule {
    forbidden("self.unit != 'ConcurrentRequests' || !has(self.countedAs)", COUNTING_FORBIDDEN, ".countedAs")
}

/// `Selector` needs a selector.
pub fn selector_needed() -> Rule {
    required("self.from != 'Selector' || has(self.selector)", SELECTOR_NEEDED, ".selector")
}

/// Only `Selector` has one.
pub fn selector_forbidden() -> Rule {
    forbidden("self.from == 'Selector' || !has(self.selector)", SELECTOR_FORBIDDEN, ".selector")
}

/// Even pacing has no burst.
pub fn burst_forbidden() -> Rule {
    forbidden(
        "!has(self.algorithm) || self.algorithm != 'LeakyBucket' || !has(self.burst)",
        BURST_FORBIDDEN,
        ".burst",
    )
}

/// A burst fits into each declared limit; amounts that are text are only compared in Rust.
pub fn burst_fits() -> Rule {
    rule(
        "!has(self.pacing) || !has(self.pacing.burst) || !has(self.limits) || \
         self.limits.all(limit, limit.unit != 'Requests' || type(limit.amount) != int || \
         self.pacing.burst <= limit.amount)",
        BURST_FITS,
    )
    .field_path(".pacing.burst")
}

/// Nothing waits where calls are rejected.
pub fn queue_forbidden() -> Rule {
    forbidden(
        "!has(self.onExceeded) || self.onExceeded != 'Reject' || !has(self.maxQueueSeconds)",
        QUEUE_FORBIDDEN,
        ".maxQueueSeconds",
    )
}

/// What the rules say about a new `ApiQuota`; what its schema says is checked apart.
pub(crate) fn problems(spec: &ApiQuotaSpec) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.unless(is_name(&spec.provider.name), "spec.provider.name", NAME);
    if let Some(account) = &spec.account {
        of_account(account, &mut found);
    }
    for (index, limit) in spec.limits.iter().enumerate() {
        of_limit(limit, &format!("spec.limits[{index}]"), &mut found);
    }
    for (index, used) in spec.used.iter().enumerate() {
        let named = used.limit.split_once('/').map_or_else(
            || is_name(&used.limit),
            |(allocation, limit)| is_name(allocation) && is_name(limit),
        );
        found.unless(named, format!("spec.used[{index}].limit"), LIMIT_OF_ANY);
    }
    if let Some(namespaces) = spec.consumers.as_ref().and_then(|it| it.namespaces.as_ref()) {
        of_namespaces(namespaces, &mut found);
    }
    allocation::of_allocations(&spec.allocations, &mut found);
    if let Some(pacing) = &spec.pacing {
        of_pacing(pacing, spec, &mut found);
    }
    if let Some(enforcement) = &spec.enforcement {
        of_enforcement(enforcement, &mut found);
    }
    found.0
}

/// What the rules say about changing `old` into `new`.
pub fn change_problems(new: &ApiQuotaSpec, old: &ApiQuotaSpec) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    let same = new.provider.name == old.provider.name;
    found.unless(same, "spec.provider.name", PROVIDER_STAYS);
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn unless(&mut self, holds: bool, field: impl Into<String>, message: &str) {
        if !holds {
            self.0.push(Problem::new(field, message));
        }
    }
}

fn of_account(account: &Account, found: &mut Found) {
    let id = account.id.as_deref().is_none_or(is_account_id);
    found.unless(id, "spec.account.id", ACCOUNT_ID);
    let organization = account.organization.as_deref().is_none_or(is_organization);
    found.unless(organization, "spec.account.organization", ORGANIZATION);
    if let (Some(share), Some(reserve)) = (account.share_percent, account.reserve_percent) {
        let left = i64::from(share) * (100 - i64::from(reserve));
        found.unless(left >= 100, "spec.account.reservePercent", SOMETHING_LEFT);
    }
}

fn of_limit(limit: &Limit, at: &str, found: &mut Found) {
    found.unless(is_name(&limit.name), format!("{at}.name"), NAME);
    if let Err(message) = limit.amount.of(limit.unit) {
        found.unless(false, format!("{at}.amount"), &message);
    }
    let [window, period, zone, counting] = [
        limit.window_seconds.is_some(),
        limit.period.is_some(),
        limit.time_zone.is_some(),
        limit.counted_as.is_some(),
    ];
    if limit.unit == Unit::ConcurrentRequests {
        found.unless(!window, format!("{at}.windowSeconds"), WINDOW_FORBIDDEN);
        found.unless(!period, format!("{at}.period"), PERIOD_FORBIDDEN);
        found.unless(!counting, format!("{at}.countedAs"), COUNTING_FORBIDDEN);
    } else {
        found.unless(window || period, format!("{at}.windowSeconds"), WINDOW_NEEDED);
        found.unless(!window || !period, format!("{at}.windowSeconds"), WINDOW_OR_PERIOD);
        found.unless(!period || !counting, format!("{at}.countedAs"), COUNTING_OF_PERIOD);
    }
    found.unless(period || !zone, format!("{at}.timeZone"), ZONE_FORBIDDEN);
    if let (Some(period), Some(zone)) = (limit.period, &limit.time_zone)
        && let Err(unknown) = Calendar::new(period.into(), zone)
    {
        found.unless(false, format!("{at}.timeZone"), &unknown.to_string());
    }
    let reserves = limit.reserve.is_none() || limit.unit.is_settled_later();
    found.unless(reserves, format!("{at}.reserve"), RESERVE_FORBIDDEN);
}

fn of_namespaces(namespaces: &ConsumerNamespaces, found: &mut Found) {
    let field = "spec.consumers.namespaces.selector";
    match (namespaces.from, &namespaces.selector) {
        (NamespacesFrom::Selector, None) => found.unless(false, field, SELECTOR_NEEDED),
        (NamespacesFrom::Same | NamespacesFrom::All, Some(_)) => {
            found.unless(false, field, SELECTOR_FORBIDDEN);
        }
        _ => {}
    }
    if let Some(selector) = &namespaces.selector {
        found.0.extend(bounded::selector_problems(selector, field));
    }
}

fn of_pacing(pacing: &Pacing, spec: &ApiQuotaSpec, found: &mut Found) {
    let Some(burst) = spec.burst() else { return };
    let smooth = pacing.algorithm == Some(PacingAlgorithm::LeakyBucket);
    found.unless(!smooth, "spec.pacing.burst", BURST_FORBIDDEN);
    let requests = spec.limits.iter().filter(|limit| limit.unit == Unit::Requests);
    let fits = requests.filter_map(|limit| Amount::units(&limit.amount).ok()).all(|amount| burst <= amount);
    found.unless(fits, "spec.pacing.burst", BURST_FITS);
}

fn of_enforcement(enforcement: &Enforcement, found: &mut Found) {
    let queues = enforcement.on_exceeded != Some(OnExceeded::Reject);
    let bounded = enforcement.max_queue_seconds.is_some();
    found.unless(queues || !bounded, "spec.enforcement.maxQueueSeconds", QUEUE_FORBIDDEN);
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    has_inner(name, allowed, |byte| byte == b'-')
}

fn is_organization(text: &str) -> bool {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    printable && !text.is_empty() && text.trim() == text
}

fn is_account_id(id: &str) -> bool {
    has_inner(id, |byte| byte.is_ascii_alphanumeric(), |byte| b"-._:@".contains(&byte))
}

/// Whether `text` consists of allowed bytes and, except at its ends, inner ones.
fn has_inner(text: &str, allowed: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().all(|end| end.is_some_and(&allowed))
        && text.bytes().all(|byte| allowed(byte) || inner(byte))
}
