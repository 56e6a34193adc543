//! How long calls last at most, by their models.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::AccountConfig;

/// The longest calls of an account.
#[derive(Debug)]
pub(super) struct LongestCalls {
    /// Of a model that may be any.
    any: Duration,
    /// Of models that are known.
    by_model: BTreeMap<String, Duration>,
}

impl LongestCalls {
    pub(super) fn of(config: &AccountConfig) -> LongestCalls {
        let of_model = |name: &String| (name.clone(), config.longest_call_of(name));
        LongestCalls { any: config.longest_call(), by_model: config.models.keys().map(of_model).collect() }
    }

    /// How long a call of this model lasts at most; `None`: its model is not known.
    pub(super) fn of_model(&self, model: Option<&str>) -> Duration {
        model.and_then(|model| self.by_model.get(model)).copied().unwrap_or(self.any)
    }

    /// The same of a call of one of these models; none: of any.
    pub(super) fn of_models(&self, models: &[String]) -> Duration {
        models.iter().map(|model| self.of_model(Some(model))).max().unwrap_or(self.any)
    }
}
