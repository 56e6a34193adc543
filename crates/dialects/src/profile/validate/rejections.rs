//! What makes a rejection acceptable.

use jiff::tz::TimeZone;

use super::Check;
use crate::profile::{BodyCondition, Rejection, ScopeKind, WaitSource};

impl Check<'_> {
    pub(super) fn rejection(&mut self, field: &str, rejection: &Rejection) {
        self.require(
            !rejection.statuses.is_empty(),
            format!("{field}.statuses"),
            "is empty; write at least one HTTP status, such as 429",
        );
        self.statuses(&format!("{field}.statuses"), &rejection.statuses);
        for (index, endpoint) in rejection.endpoints.iter().enumerate() {
            self.endpoint_name(&format!("{field}.endpoints[{index}]"), endpoint);
        }
        if let Some(endpoint) = &rejection.endpoint {
            self.endpoint_name(&format!("{field}.endpoint"), endpoint);
            self.require(
                rejection.scope == Some(ScopeKind::Endpoint),
                format!("{field}.endpoint"),
                "has no effect with this scope; set `scope: Endpoint`, or remove it",
            );
        }
        for (index, condition) in rejection.headers.iter().enumerate() {
            self.header_name(&format!("{field}.headers[{index}].name"), &condition.name);
        }
        for (index, condition) in rejection.body.iter().enumerate() {
            self.body_condition(&format!("{field}.body[{index}]"), condition);
        }
        let unconditional = rejection.headers.is_empty() && rejection.body.is_empty();
        let success = rejection.statuses.iter().any(|status| (200..300).contains(status));
        self.require(
            !(unconditional && success),
            field,
            "would take every success for a rejection; add a condition on a header or the body",
        );
        match (rejection.scope, &rejection.limit) {
            (Some(ScopeKind::Limit), None) => self
                .problem(format!("{field}.limit"), "is missing; name the limit, or choose another `scope`"),
            (_, Some(limit)) => self.limit_name(&format!("{field}.limit"), limit),
            (_, None) => {}
        }
        for (index, limit) in rejection.exhausted.iter().enumerate() {
            self.limit_name(&format!("{field}.exhausted[{index}]"), limit);
        }
        if let Some(place) = &rejection.shared_with {
            self.pointer(&format!("{field}.sharedWith.body"), &place.body);
        }
        for (index, source) in rejection.wait.iter().enumerate() {
            self.wait_source(&format!("{field}.wait[{index}]"), source);
        }
        let longest = rejection.minimum_seconds.max(rejection.cooldown_seconds).unwrap_or_default();
        let maximum = rejection.maximum_seconds.unwrap_or(3600);
        self.require(
            longest <= maximum,
            format!("{field}.maximumSeconds"),
            format!("{maximum} is less than the minimum or cooldown of {longest}; write at least {longest}"),
        );
        if let Some(name) = &rejection.reason_header {
            self.header_name(&format!("{field}.reasonHeader"), name);
        }
        if let Some(pointer) = &rejection.reason_body {
            self.pointer(&format!("{field}.reasonBody"), pointer);
        }
    }

    fn body_condition(&mut self, field: &str, condition: &BodyCondition) {
        match &condition.at {
            Some(pointer) => self.pointer(&format!("{field}.at"), pointer),
            None => {
                self.require(
                    condition.equals.is_empty(),
                    format!("{field}.equals"),
                    "needs a place in the body; set `at`, or use `contains`",
                );
                self.require(
                    condition.within_seconds.is_none(),
                    format!("{field}.withinSeconds"),
                    "needs a place in the body; set `at`, or remove it",
                );
                self.require(!condition.contains.is_empty(), field, "is empty; set `at` or `contains`");
            }
        }
    }

    fn wait_source(&mut self, field: &str, source: &WaitSource) {
        let places = [&source.header, &source.body, &source.reset_of, &source.midnight_of]
            .iter()
            .filter(|place| place.is_some())
            .count();
        self.require(
            places == 1,
            field,
            "must have exactly one of `header`, `body`, `resetOf` and `midnightOf`; keep one",
        );
        if let Some(zone) = &source.midnight_of {
            let message =
                format!("`{zone}` is not a time zone of POSIX; write one such as `PST8PDT,M3.2.0,M11.1.0`");
            self.require(TimeZone::posix(zone).is_ok(), format!("{field}.midnightOf"), message);
        }
        if let Some(name) = &source.header {
            self.header_name(&format!("{field}.header"), name);
        }
        if let Some(pointer) = &source.body {
            self.pointer(&format!("{field}.body"), pointer);
        }
        if let Some(limit) = &source.reset_of {
            self.limit_name(&format!("{field}.resetOf"), limit);
        }
        self.time_format(&format!("{field}.format"), source.format);
    }
}
