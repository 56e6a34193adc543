//! What makes a profile acceptable: each problem names its field and what to write instead.

mod credits;
mod rejections;
mod token_limits;
mod tokens;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use http::{HeaderName, Method};

use super::{HeaderFormat, Limit, LimitHeader, Partition, Profile, TimeFormat};
use crate::json;

/// Most units that a limit may allow: a quadrillion, within what a JSON number holds exactly.
const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

/// Why a profile is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `tiers[0].limits[1].amount`.
    pub field: String,
    /// One sentence with the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

impl Profile {
    /// Whether the profile is acceptable. References to limits and endpoints are checked only where nothing is
    /// inherited: [`Profile::resolve`] first.
    ///
    /// # Errors
    /// Every problem found, in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut check = Check { profile: self, problems: Vec::new() };
        check.addresses();
        check.endpoints_and_model();
        check.known_models();
        check.tokens();
        check.credits();
        check.tiers();
        for (index, header) in self.headers.iter().enumerate() {
            check.limit_header(&format!("headers[{index}]"), header);
        }
        for (index, rejection) in self.rejections.iter().enumerate() {
            check.rejection(&format!("rejections[{index}]"), rejection);
        }
        check.stream();
        check.retry();
        if check.problems.is_empty() { Ok(()) } else { Err(check.problems) }
    }
}

struct Check<'p> {
    profile: &'p Profile,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { field: field.into(), message: message.into() });
    }

    fn require(&mut self, holds: bool, field: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.problem(field, message);
        }
    }

    fn addresses(&mut self) {
        let profile = self.profile;
        for (index, host) in profile.hosts.iter().enumerate() {
            let message = format!(
                "`{host}` is not a host name; write it without scheme, port and path, such as `api.example.com` or `*.example.com`"
            );
            let name = host.strip_prefix("*.").unwrap_or(host);
            self.require(is_host(name), format!("hosts[{index}]"), message);
            let top = format!(
                "`{host}` stands for all names of a top-level domain; name the provider's own, such as `*.example.com`"
            );
            self.require(name == *host || name.contains('.'), format!("hosts[{index}]"), top);
        }
        if let Some(base) = &profile.base_url {
            let message = format!(
                "`{}` is not an origin; write scheme and host without a path, such as `https://api.example.com`",
                base.upstream
            );
            self.require(is_origin(&base.upstream), "baseUrl.upstream", message);
            let plain = format!(
                "`{}` would carry credentials unencrypted to another network; write https://, or a host of the cluster or of \
                 this machine (`NAME.NAMESPACE.svc`, a private address)",
                base.upstream
            );
            self.require(!is_plain_and_far(&base.upstream), "baseUrl.upstream", plain);
            self.require(
                !base.variables.is_empty(),
                "baseUrl.variables",
                "is empty; name at least one variable, or leave out `baseUrl`",
            );
            if let Some(prefix) = &base.path_prefix {
                self.require(
                    is_path(prefix) && !prefix.ends_with('/'),
                    "baseUrl.pathPrefix",
                    format!("`{prefix}` is not a path without a last `/`; write one such as `/v1`"),
                );
            }
            for (index, variable) in base.variables.iter().enumerate() {
                let field = format!("baseUrl.variables[{index}]");
                let message = format!(
                    "`{}` cannot name an environment variable; use letters, digits and `_`, such as `OPENAI_BASE_URL`",
                    variable.name
                );
                self.require(is_variable(&variable.name), format!("{field}.name"), message);
                if let Some(path) = &variable.path {
                    self.require(
                        is_path(path),
                        format!("{field}.path"),
                        format!("`{path}` is not a path; begin it with `/`, such as `/v1`"),
                    );
                }
            }
        }
        for (index, credential) in profile.credentials.iter().enumerate() {
            self.header_name(&format!("credentials[{index}].header"), &credential.header);
        }
        for (index, name) in profile.organization_headers.iter().enumerate() {
            self.header_name(&format!("organizationHeaders[{index}]"), name);
        }
    }

    fn endpoints_and_model(&mut self) {
        let profile = self.profile;
        self.unique("endpoints", profile.endpoints.iter().map(|endpoint| &endpoint.name));
        for (index, endpoint) in profile.endpoints.iter().enumerate() {
            let field = format!("endpoints[{index}]");
            self.name(&format!("{field}.name"), &endpoint.name);
            self.methods(&format!("{field}.methods"), &endpoint.methods);
            self.require(
                !endpoint.paths.is_empty(),
                format!("{field}.paths"),
                "is empty; give at least one path, such as `/v1/search`",
            );
            for (number, path) in endpoint.paths.iter().enumerate() {
                let whole = path.split('/').all(|segment| segment == "*" || !segment.contains('*'));
                let message = format!(
                    "`{path}` is not a path pattern; begin it with `/` and let `*` stand for a whole segment, such as `/v1/*/search`"
                );
                self.require(is_path(path) && whole, format!("{field}.paths[{number}]"), message);
            }
        }
        let Some(model) = &profile.model else { return };
        self.require(
            model.body.is_some() || model.path_after.is_some(),
            "model",
            "names no place; set `body` or `pathAfter`",
        );
        if let Some(pointer) = &model.body {
            self.pointer("model.body", pointer);
        }
        for (index, pointer) in model.max_output_tokens.iter().enumerate() {
            self.pointer(&format!("model.maxOutputTokens[{index}]"), pointer);
        }
        self.require(
            model.path_until.is_none() || model.path_after.is_some(),
            "model.pathUntil",
            "has no effect by itself; set `pathAfter` too",
        );
        if let Some(tier) = &model.service_tier {
            self.pointer("model.serviceTier.body", &tier.body);
            self.require(
                !tier.counted_apart.is_empty(),
                "model.serviceTier.countedApart",
                "is empty; name the tiers that have limits of their own, or remove `serviceTier`",
            );
        }
        self.unique("model.classes", model.classes.iter().map(|class| &class.name));
        for (index, class) in model.classes.iter().enumerate() {
            let field = format!("model.classes[{index}].models");
            self.require(
                !class.models.is_empty(),
                &field,
                "is empty; name at least one model, such as `gpt-4o*`",
            );
            self.models(&field, &class.models);
        }
    }

    fn tiers(&mut self) {
        let profile = self.profile;
        let inherits = profile.extends.is_some();
        self.require(
            inherits || !profile.tiers.is_empty(),
            "tiers",
            "is empty; write at least one tier, named `default` where the provider has no plans",
        );
        self.unique("tiers", profile.tiers.iter().map(|tier| &tier.name));
        for (index, tier) in profile.tiers.iter().enumerate() {
            let field = format!("tiers[{index}]");
            self.name(&format!("{field}.name"), &tier.name);
            self.require(
                !tier.limits.is_empty(),
                format!("{field}.limits"),
                "is empty; write at least one limit",
            );
            self.unique(&format!("{field}.limits"), tier.limits.iter().map(|limit| &limit.name));
            for (number, limit) in tier.limits.iter().enumerate() {
                self.limit(&format!("{field}.limits[{number}]"), limit);
            }
        }
    }

    fn limit(&mut self, field: &str, limit: &Limit) {
        self.name(&format!("{field}.name"), &limit.name);
        self.require(
            (1..=MAX_AMOUNT).contains(&limit.amount),
            format!("{field}.amount"),
            format!("{} is out of range; write 1 to {MAX_AMOUNT}", limit.amount),
        );
        self.limit_window(field, limit);
        self.limit_tokens(field, limit);
        self.limit_per_model(field, limit);
        if let Some(burst) = limit.burst {
            self.require(
                (1..=limit.amount).contains(&burst),
                format!("{field}.burst"),
                format!("{burst} is out of range; write 1 to the limit's amount, {}", limit.amount),
            );
        }
        if let Some(millis) = limit.delivery_millis {
            self.require(
                (1..=60_000).contains(&millis),
                format!("{field}.deliveryMillis"),
                format!("{millis} is out of range; write 1 to 60000"),
            );
        }
        let profile = self.profile;
        if let Some(endpoint) = &limit.endpoint {
            self.endpoint_name(&format!("{field}.endpoint"), endpoint);
        }
        self.models(&format!("{field}.models"), &limit.models);
        let by_model = limit.partition == Some(Partition::Model) || !limit.models.is_empty();
        self.require(
            !by_model || profile.model.is_some() || profile.extends.is_some(),
            field,
            "counts by model, but nothing says where a request names its model; add `model` to the profile",
        );
    }

    fn limit_header(&mut self, field: &str, header: &LimitHeader) {
        self.limit_name(&format!("{field}.limit"), &header.limit);
        let named = [
            ("hard", &header.hard),
            ("remaining", &header.remaining),
            ("used", &header.used),
            ("reset", &header.reset),
            ("intervalMillis", &header.interval_millis),
            ("header", &header.header),
        ];
        for (part, name) in named {
            let Some(name) = name else { continue };
            let at = format!("{field}.{part}");
            match header.format() {
                HeaderFormat::Body => self.pointer(&at, name),
                _ => self.header_name(&at, name),
            }
        }
        if let Some(condition) = &header.when {
            self.header_name(&format!("{field}.when.name"), &condition.name);
        }
        match header.format() {
            HeaderFormat::Separate => {
                let some = header.hard.is_some() || header.remaining.is_some();
                self.require(some, field, "names no header; set `hard` or `remaining`, or another `format`");
                self.require(header.used.is_none() || header.hard.is_some(), format!("{field}.used"), "what is left follows from it only with `hard`; set that too");
                self.require(header.reset.is_none() || header.reset_format.is_some(), format!("{field}.resetFormat"), "is missing; say how `reset` is written, such as `DeltaSeconds`");
            }
            HeaderFormat::UsedOfLimit | HeaderFormat::KeyValues => {
                self.require(header.header.is_some(), format!("{field}.header"), "is missing; name the response header");
            }
            HeaderFormat::Body => {
                let some = header.remaining.is_some() || header.hard.is_some();
                let message = "names no place in the body; set `hard` or `remaining` to a JSON pointer, such as /limit/left";
                self.require(some, field, message);
                let elsewhere = header.reset.is_some() || header.interval_millis.is_some() || header.header.is_some();
                self.require(!elsewhere, field, "has figures in headers; remove those, or `format: Body`");
            }
            HeaderFormat::RateLimitFields => {}
            HeaderFormat::Unknown => self.problem(format!("{field}.format"), "is not known to this version, the headers are ignored; use Separate, RateLimitFields, UsedOfLimit, KeyValues or Body, or a newer version"),
        }
        self.time_format(&format!("{field}.resetFormat"), header.reset_format);
    }

    fn stream(&mut self) {
        let Some(stream) = &self.profile.stream else {
            return;
        };
        if let Some(pointer) = &stream.requested {
            self.pointer("stream.requested", pointer);
        }
        for (index, pointer) in stream.errors.iter().enumerate() {
            let message = "a JSON pointer begins with `/`; write for example `/error`";
            self.require(json::is_pointer(pointer), format!("stream.errors[{index}]"), message.to_owned());
        }
        for (index, known) in stream.statuses.iter().enumerate() {
            let message = format!("{} is not an HTTP status; write 100 to 599", known.status);
            self.require(
                (100..=599).contains(&known.status),
                format!("stream.statuses[{index}].status"),
                message,
            );
        }
    }

    fn retry(&mut self) {
        let Some(retry) = &self.profile.retry else {
            return;
        };
        self.methods("retry.methods", &retry.methods);
        self.statuses("retry.unprocessedStatuses", &retry.unprocessed_statuses);
        for (field, name) in [
            ("retry.idempotencyHeader", &retry.idempotency_header),
            ("retry.adviceHeader", &retry.advice_header),
        ] {
            if let Some(name) = name {
                self.header_name(field, name);
            }
        }
    }

    fn endpoint_name(&mut self, field: &str, name: &str) {
        let profile = self.profile;
        let known = profile.endpoints.iter().any(|known| known.name == name);
        self.require(
            known || profile.extends.is_some(),
            field,
            format!("endpoint `{name}` does not exist; add it to `endpoints` or name one that is there"),
        );
    }

    fn limit_name(&mut self, field: &str, name: &str) {
        let profile = self.profile;
        let known = profile.tiers.iter().any(|tier| tier.limit(name).is_some());
        self.require(
            known || profile.extends.is_some(),
            field,
            format!("no tier has a limit `{name}`; name one that is there"),
        );
    }

    fn name(&mut self, field: &str, name: &str) {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=63).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with('-')
            && !name.ends_with('-');
        self.require(
            fits,
            field,
            format!("`{name}` is not a name; use up to 63 small letters, digits and `-`, such as `tier-1`"),
        );
    }

    fn header_name(&mut self, field: &str, name: &str) {
        self.require(
            HeaderName::try_from(name).is_ok(),
            field,
            format!("`{name}` is not a header name; use letters, digits and `-`, such as `retry-after`"),
        );
    }

    fn pointer(&mut self, field: &str, pointer: &str) {
        self.require(
            json::is_pointer(pointer) && !pointer.is_empty(),
            field,
            format!("`{pointer}` is not a JSON pointer; begin it with `/`, such as `/error/code`"),
        );
    }

    fn time_format(&mut self, field: &str, format: Option<TimeFormat>) {
        self.require(format != Some(TimeFormat::Unknown), field, "is not known to this version, the time is ignored; use DeltaSeconds, DeltaMillis, EpochSeconds, EpochMillis, GoDuration, Rfc3339, HttpDate, RetryAfter or Prose, or a newer version");
    }

    fn methods(&mut self, field: &str, methods: &[String]) {
        for (index, method) in methods.iter().enumerate() {
            let fits = Method::try_from(method.as_str()).is_ok()
                && !method.bytes().any(|byte| byte.is_ascii_lowercase());
            self.require(
                fits,
                format!("{field}[{index}]"),
                format!("`{method}` is not a method; write it in capitals, such as `POST`"),
            );
        }
    }

    fn statuses(&mut self, field: &str, statuses: &[u16]) {
        for (index, status) in statuses.iter().enumerate() {
            self.require(
                (100..=599).contains(status),
                format!("{field}[{index}]"),
                format!("{status} is not an HTTP status; write 100 to 599"),
            );
        }
    }

    fn models(&mut self, field: &str, models: &[String]) {
        for (index, model) in models.iter().enumerate() {
            let star_last = model.find('*').is_none_or(|at| at == model.len() - 1);
            self.require(
                star_last && !model.is_empty(),
                format!("{field}[{index}]"),
                format!("`{model}` is not a model's name; `*` may stand at its end only, such as `gpt-4o*`"),
            );
        }
    }

    fn unique<'n>(&mut self, field: &str, names: impl Iterator<Item = &'n String>) {
        let mut seen = HashSet::new();
        for name in names {
            self.require(
                seen.insert(name),
                field,
                format!("`{name}` is there twice; give each its own name"),
            );
        }
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn is_origin(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<http::Uri>() else {
        return false;
    };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    scheme && host && uri.path_and_query().is_none_or(|rest| rest == "/") && !origin.ends_with('/')
}

/// Whether an origin is without TLS and not of this cluster, machine or network: names without a dot and those that
/// end in `.svc`, `.local`, `.internal`, `.localhost`, `.test` or `.home.arpa` (RFC 6761, 6762, 8375, ICANN's `.internal`),
/// and private addresses (RFC 1918, 4193).
fn is_plain_and_far(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<http::Uri>() else { return false };
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|it| it.to_canonical()) {
        Ok(IpAddr::V4(v4)) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
        Ok(IpAddr::V6(v6)) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            let near = [".svc", ".local", ".internal", ".localhost", ".test", ".home.arpa"];
            name.contains('.') && !near.iter().any(|end| name.ends_with(end))
        }
    }
}

fn is_variable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(plain) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}
