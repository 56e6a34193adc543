//! What calls cost in the provider's own units.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Profile;

/// What the calls of an endpoint cost in the provider's own units, which limits of `Credits` count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditCost {
    /// The endpoint whose calls cost this. Default: every call that no entry before this one covers. Example: `enrich`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub endpoint: Option<String>,

    /// Credits of a call, or of each of those that `times` counts. Default: 1. Example: `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000), extend("format" = "int32"))]
    pub each: Option<u32>,

    /// A parameter of the query that makes calls dearer. Default: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dearer: Option<DearerBy>,

    /// JSON pointer (RFC 6901) into the request's body: to a number, or to an array whose elements are counted. The call
    /// costs so many times `each`. Default: it costs `each` once. Example: `/details`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub times: Option<String>,

    /// How many times it costs `each` if the body says no whole number at `times`, names no element there, or can't be
    /// read: what the API does by default, or the most that it takes. Required with `times`. Example: `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000), extend("format" = "int32"))]
    pub otherwise: Option<u32>,

    /// Where the answer says what the call has cost. What `each` and `times` say is held until then, and counts where
    /// the answer says nothing. Default: it doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<ToldCredits>,
}

/// A parameter of the query by which calls cost more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DearerBy {
    /// Name of the parameter. Example: `page`.
    #[schemars(length(min = 1, max = 128))]
    pub parameter: String,

    /// What stands in place of `each` from which number on, the lowest first. A call that has the parameter and no whole
    /// number there costs as much as the dearest step.
    #[schemars(length(min = 1, max = 16))]
    pub steps: Vec<CreditStep>,
}

/// What calls cost from a number on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditStep {
    /// The lowest number that costs this. Example: `101`.
    #[schemars(range(min = 0, max = 1_000_000_000), extend("format" = "int32"))]
    pub from: u32,

    /// Credits of a call, or of each of those that `times` counts. Example: `3`.
    #[schemars(range(min = 0, max = 1_000_000_000), extend("format" = "int32"))]
    pub each: u32,
}

impl DearerBy {
    /// What stands in place of `each` for a call with this path and query, if anything does.
    fn each(&self, path: &str) -> Option<u32> {
        let query = path.split_once('?')?.1;
        let values = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == self.parameter).then_some(value)
        });
        let each = values.map(|value| match value.parse::<u64>() {
            Ok(number) => {
                self.steps.iter().rev().find(|step| u64::from(step.from) <= number).map(|step| step.each)
            }
            Err(_) => self.steps.iter().map(|step| step.each).max(),
        });
        // Which of several the API reads is not known.
        each.flatten().max()
    }
}

/// Where an answer says what its call has cost in the provider's own units. A fraction counts as the next whole number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToldCredits {
    /// JSON pointers (RFC 6901) to the number in the answer's body; the first that is there counts.
    /// Default: not in the body. Example: `[/extensions/cost/actualQueryCost]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 256)))]
    pub at: Vec<String>,

    /// Name of a response header with the number; what the body says stands before it. Default: not in a header.
    /// Example: `x-credits-used`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub header: Option<String>,
}

impl CreditCost {
    /// What a call with this path and query costs whose body says this at `times`.
    fn of(&self, path: &str, times: Option<u64>) -> u64 {
        let times = match self.times {
            Some(_) => times.unwrap_or(self.otherwise.unwrap_or(1).into()),
            None => 1,
        };
        let dearer = self.dearer.as_ref().and_then(|dearer| dearer.each(path));
        times.saturating_mul(dearer.or(self.each).unwrap_or(1).into())
    }
}

impl Profile {
    /// Whether it is known what calls cost in the provider's own units.
    pub fn has_credits(&self) -> bool {
        !self.credits.is_empty()
    }

    /// Whether some answers tell what calls have cost in the provider's own units.
    pub fn tells_credits(&self) -> bool {
        self.credits.iter().any(|cost| cost.told.is_some())
    }

    /// What a call to this endpoint costs; the first entry that covers it counts.
    pub(crate) fn credit_cost(&self, endpoint: Option<&str>) -> Option<&CreditCost> {
        self.credits.iter().find(|cost| cost.endpoint.is_none() || cost.endpoint.as_deref() == endpoint)
    }

    /// The credits of a call to this endpoint, with this path and query, whose body says this at the place where it
    /// counts: 0 where nothing says what it costs.
    pub fn credits(&self, endpoint: Option<&str>, path: &str, times: Option<u64>) -> u64 {
        self.credit_cost(endpoint).map_or(0, |cost| cost.of(path, times))
    }

    /// Where the answer to such a call says what it has cost.
    pub fn told_credits(&self, endpoint: Option<&str>) -> Option<&ToldCredits> {
        self.credit_cost(endpoint)?.told.as_ref()
    }
}
