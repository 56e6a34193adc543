//! Models that share a limit, as the provider's rejections have named them.
//!
//! Each of them had a counter of its own until then, with a past of its own. From then on the calls of all draw on each
//! of these counters, so that each counts them all.

use std::collections::BTreeMap;

/// Models that are known to share limits, at most: providers choose the names, and each call draws on the counters of
/// all that it shares with.
const NAMES_AT_MOST: usize = 64;

/// Which models share a limit.
#[derive(Debug, Default)]
pub(super) struct SharedLimits {
    /// The name under which a model is known together with those that it shares with.
    by_model: BTreeMap<String, String>,
}

impl SharedLimits {
    /// As of a snapshot.
    pub(super) fn restored(by_model: BTreeMap<String, String>) -> SharedLimits {
        SharedLimits { by_model }
    }

    /// Models that share, each with the name under which all that share are known.
    pub(super) fn by_model(&self) -> &BTreeMap<String, String> {
        &self.by_model
    }

    /// Takes the models for one from now on, under the name of `limit`. Returns whether they were not yet: also where
    /// too many are known already.
    pub(super) fn join(&mut self, model: &str, limit: &str) -> bool {
        let (old, name) = (self.name(model).to_owned(), self.name(limit).to_owned());
        let more = [model, limit].iter().filter(|name| !self.by_model.contains_key(**name)).count();
        if old == name || self.by_model.len() + more > NAMES_AT_MOST {
            return false;
        }
        self.by_model.values_mut().filter(|known| **known == old).for_each(|known| known.clone_from(&name));
        for one in [model, limit] {
            self.by_model.insert(one.to_owned(), name.clone());
        }
        true
    }

    /// Takes a model for one with the limit of which its name is a snapshot, if that is known.
    pub(super) fn join_snapshot(&mut self, model: &str) {
        if let Some(limit) = snapshot_of(model).filter(|limit| self.by_model.contains_key(*limit)) {
            self.join(model, limit);
        }
    }

    /// The name of all models that share with this one.
    pub(super) fn name<'n>(&'n self, model: &'n str) -> &'n str {
        self.by_model.get(model).map_or(model, String::as_str)
    }

    /// The models that share with this one, without itself.
    pub(super) fn others<'n>(&'n self, model: &'n str) -> impl Iterator<Item = &'n str> {
        let name = self.by_model.get(model);
        let all = self.by_model.iter().filter(move |(_, known)| Some(*known) == name);
        all.map(|(one, _)| one.as_str()).filter(move |one| *one != model)
    }
}

/// The name of which this one is a snapshot, by the custom of OpenAI and Anthropic: `m-latest`, `m-2026-08-01` and
/// `m-20260801` draw on the limit of `m`.
pub(super) fn snapshot_of(model: &str) -> Option<&str> {
    let is_date = |date: &str| {
        let digits = date.bytes().filter(u8::is_ascii_digit).count();
        let dashes = date.bytes().filter(|byte| *byte == b'-').count();
        digits == 8 && (date.len() == 8 || date.len() == 10 && dashes == 2)
    };
    let dated = |length: usize| {
        let (name, date) = model.split_at_checked(model.len().checked_sub(length)?)?;
        name.strip_suffix('-').filter(|name| !name.is_empty() && is_date(date))
    };
    model.strip_suffix("-latest").or_else(|| dated(10)).or_else(|| dated(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_is_transitive() {
        let mut shared = SharedLimits::default();
        assert_eq!(shared.name("a"), "a");
        assert!(shared.join("a", "m") && shared.join("b", "n"));
        assert!(!shared.join("a", "m") && !shared.join("m", "a") && !shared.join("a", "a"));
        assert_eq!((shared.name("a"), shared.name("m"), shared.name("b")), ("m", "m", "n"));
        assert!(shared.join("m", "b"));
        assert!(["a", "b", "m", "n"].iter().all(|model| shared.name(model) == "n"));
        assert_eq!(shared.others("a").collect::<Vec<_>>(), ["b", "m", "n"]);
        assert_eq!(shared.others("c").count(), 0);
    }

    #[test]
    fn a_snapshot_draws_on_the_limit_of_its_alias() {
        for model in ["m-latest", "m-2026-08-01", "m-20260801"] {
            assert_eq!(snapshot_of(model), Some("m"));
        }
        for model in ["m", "m-2", "-20260801", "m-2026-8-01", "m-mini", "20260801", "é-2026-08-1", ""] {
            assert_eq!(snapshot_of(model), None, "{model}");
        }
        let mut shared = SharedLimits::default();
        shared.join_snapshot("m-2026-08-01");
        assert_eq!(shared.name("m-2026-08-01"), "m-2026-08-01", "nobody has named that limit");
        shared.join("a", "m");
        shared.join_snapshot("m-2026-08-01");
        assert_eq!(shared.name("m-2026-08-01"), "m");
    }

    #[test]
    fn it_is_bounded() {
        let mut shared = SharedLimits::default();
        for number in 0..200 {
            shared.join(&format!("model-{number}"), "m");
        }
        assert_eq!(shared.others("m").count(), NAMES_AT_MOST - 1);
        assert_eq!(shared.name("model-199"), "model-199");
    }
}
