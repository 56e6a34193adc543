//! What is checked of limits that count tokens or money, of periods, and of what is known of models.

use super::Check;
use crate::calendar::{Calendar, DEFAULT_ZONE};
use crate::decimal;
use crate::profile::{Charged, Limit, Partition, Unit};

/// Most dollars that a limit may allow.
const MAX_DOLLARS: u64 = 10_000_000;
/// Longest window: a leap year.
const MAX_WINDOW: u32 = 366 * 24 * 60 * 60;

impl Check<'_> {
    /// The window or period of a limit.
    pub(super) fn limit_window(&mut self, field: &str, limit: &Limit) {
        let at = format!("{field}.windowSeconds");
        match (limit.unit, limit.window_seconds, limit.period) {
            (Unit::ConcurrentRequests, Some(_), _) => {
                self.problem(at, "concurrency has no window; remove it")
            }
            (Unit::ConcurrentRequests, None, Some(_)) => {
                self.problem(format!("{field}.period"), "concurrency has no period; remove it");
            }
            (Unit::ConcurrentRequests, None, None) => {}
            (_, Some(_), Some(_)) => {
                self.problem(at, "and `period` are two lengths of one limit; remove one of them");
            }
            (_, None, None) => {
                self.problem(at, "is missing; write the window's length in seconds, such as 60");
            }
            (_, Some(seconds), None) => self.require(
                (1..=MAX_WINDOW).contains(&seconds),
                at,
                format!("{seconds} is out of range; write 1 to {MAX_WINDOW}"),
            ),
            (_, None, Some(period)) => {
                let zone = limit.time_zone.as_deref().unwrap_or(DEFAULT_ZONE);
                if let Err(unknown) = Calendar::new(period, zone) {
                    self.problem(format!("{field}.timeZone"), unknown.to_string());
                }
            }
        }
        self.require(
            limit.time_zone.is_none() || limit.period.is_some(),
            format!("{field}.timeZone"),
            "has no effect without `period`; set that too, or remove it",
        );
    }

    /// The amounts of single models.
    pub(super) fn limit_per_model(&mut self, field: &str, limit: &Limit) {
        self.require(
            limit.per_model.is_empty() || limit.partition == Some(Partition::Model),
            format!("{field}.perModel"),
            "has no effect unless models are counted apart; set `partition: Model`, or remove it",
        );
        for (index, own) in limit.per_model.iter().enumerate() {
            let at = format!("{field}.perModel[{index}]");
            self.require(own.amount > 0, format!("{at}.amount"), "is 0; write how much they may use");
            let pattern = own.models.iter().any(|model| model.contains('*'));
            let message = "is a pattern; give its models a class in `model.classes` and name that";
            self.require(!pattern, format!("{at}.models"), message);
        }
    }

    /// How a limit counts tokens.
    pub(super) fn limit_tokens(&mut self, field: &str, limit: &Limit) {
        let tokens = matches!(limit.unit, Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens);
        let given = [
            ("charged", limit.charged.is_some()),
            ("formula", limit.formula.is_some()),
            ("weights", limit.weights.is_some()),
        ];
        for (part, _) in given.into_iter().filter(|(_, given)| *given && !tokens) {
            let message = format!("has no meaning for unit {:?}; remove it", limit.unit);
            self.problem(format!("{field}.{part}"), message);
        }
        self.require(
            limit.charged() != Charged::AtArrival || limit.formula.is_some(),
            format!("{field}.formula"),
            "is missing; with `charged: AtArrival` say how the provider counts a call that arrives, such as {bytesPerToken: 4, output: Added}",
        );
        if let Some(bytes) = limit.formula.as_ref().and_then(|formula| formula.bytes_per_token) {
            self.require(
                (1..=100).contains(&bytes),
                format!("{field}.formula.bytesPerToken"),
                format!("{bytes} is out of range; write 1 to 100"),
            );
        }
        if let Some(weights) = &limit.weights {
            let all = [weights.input, weights.cached, weights.cache_write, weights.output];
            self.require(
                all.iter().flatten().all(|weight| *weight <= 1000),
                format!("{field}.weights"),
                "has a weight above 1000; write 0 to 1000",
            );
            self.require(
                all.iter().any(|weight| *weight != Some(0)),
                format!("{field}.weights"),
                "are all 0, so nothing is counted; remove the limit, or give one kind of token a weight",
            );
        }
        if limit.unit == Unit::Dollars {
            self.require(
                limit.amount <= MAX_DOLLARS,
                format!("{field}.amount"),
                format!("{} is out of range; write 1 to {MAX_DOLLARS} whole dollars", limit.amount),
            );
            self.require(
                self.profile.has_prices() || self.profile.extends.is_some(),
                format!("{field}.unit"),
                "Dollars need the prices of models; add `models` with `prices` to the profile",
            );
        }
    }

    /// What is known of models, and the list of prices.
    pub(super) fn known_models(&mut self) {
        let profile = self.profile;
        for (index, known) in profile.models.iter().enumerate() {
            let field = format!("models[{index}]");
            self.require(
                !known.names.is_empty(),
                format!("{field}.names"),
                "is empty; name at least one model, such as `gpt-4o*`",
            );
            self.models(&format!("{field}.names"), &known.names);
            for (number, name) in known.names.iter().enumerate() {
                // A call is looked up by the name under which its model is counted.
                let counted = profile.model_class(name.trim_end_matches('*'));
                let by_class = counted != name.trim_end_matches('*') || profile.is_model_class(counted);
                self.require(
                    !name.ends_with('*') || by_class || profile.extends.is_some(),
                    format!("{field}.names[{number}]"),
                    format!("`{name}` is of no class; add one that covers it to `model.classes`, or write whole names"),
                );
            }
            for (part, text) in known.prices.iter().flat_map(|prices| prices.texts()) {
                self.require(
                    decimal::millionths(text).is_some_and(|price| price <= 10_000_000_000_000),
                    format!("{field}.prices.{part}"),
                    format!("`{text}` is no price; write dollars with at most six places, such as \"0.15\""),
                );
            }
        }
        let priced = profile.models.iter().any(|known| known.prices.is_some());
        self.require(
            !priced || profile.prices.is_some() || profile.extends.is_some(),
            "prices",
            "is missing; say from when and where the prices of `models` are, such as {asOf: 2026-11, source: https://example.com/pricing}",
        );
    }
}
