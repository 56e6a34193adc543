//! Which calls a pause holds: those that the provider counts together with the one that it rejected.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::CallClass;

/// Which calls a pause holds: those that all of its parts cover. Without parts it is the whole account.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The calls that this limit covers. A limit that the account does not enforce covers all calls, so that
    /// the other parts have to say which of them the provider counts together.
    pub limit: Option<String>,
    /// The calls of an endpoint.
    pub endpoint: Selector,
    /// The calls that name a model.
    pub model: Selector,
}

/// A scope as text: a word for the account, as all versions read it, and otherwise the parts.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(Whole),
    Parts {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<String>,
        #[serde(default, skip_serializing_if = "Selector::is_any")]
        endpoint: Selector,
        #[serde(default, skip_serializing_if = "Selector::is_any")]
        model: Selector,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Whole {
    Account,
}

/// A scope in the ledger, whose format has no names and leaves nothing out.
type Stored = (Option<String>, Option<String>, Option<String>);

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Scope { limit, endpoint, model } = self.clone();
        if !serializer.is_human_readable() {
            let text = |selector: &Selector| selector.text().map(str::to_owned);
            let stored: Stored = (limit, text(&endpoint), text(&model));
            stored.serialize(serializer)
        } else if self.is_account() {
            Written::Whole(Whole::Account).serialize(serializer)
        } else {
            Written::Parts { limit, endpoint, model }.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        if !deserializer.is_human_readable() {
            let (limit, endpoint, model) = Stored::deserialize(deserializer)?;
            let selector = |text: Option<String>| text.map_or(Selector::Any, Selector::from);
            return Ok(Scope { limit, endpoint: selector(endpoint), model: selector(model) });
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Whole(Whole::Account) => Scope::account(),
            Written::Parts { limit, endpoint, model } => Scope { limit, endpoint, model },
        })
    }
}

/// Which calls one part of a scope covers, by what they name. As text: the name, or nothing for
/// [`Selector::Unnamed`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Selector {
    /// All calls.
    #[default]
    Any,
    /// The calls that name none.
    Unnamed,
    /// The calls that name this one.
    Named(String),
}

impl Selector {
    /// The calls that name the same as one that names this.
    pub fn same_as(name: Option<&String>) -> Selector {
        name.map_or(Selector::Unnamed, |name| Selector::from(name.clone()))
    }

    /// Whether it covers all calls.
    pub fn is_any(&self) -> bool {
        *self == Selector::Any
    }

    /// Whether it covers a call that names this.
    pub fn covers(&self, name: Option<&str>) -> bool {
        match self {
            Selector::Any => true,
            Selector::Unnamed => name.is_none(),
            Selector::Named(wanted) => name == Some(wanted),
        }
    }

    /// As text; `None`: it covers all calls.
    pub fn text(&self) -> Option<&str> {
        match self {
            Selector::Any => None,
            Selector::Unnamed => Some(""),
            Selector::Named(name) => Some(name),
        }
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Selector {
        if name.is_empty() { Selector::Unnamed } else { Selector::Named(name) }
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.text().unwrap_or_default().to_owned()
    }
}

impl Scope {
    /// All calls of the account.
    pub fn account() -> Scope {
        Scope::default()
    }

    /// The calls that a limit covers.
    pub fn limit(name: impl Into<String>) -> Scope {
        Scope { limit: Some(name.into()), ..Scope::default() }
    }

    /// The calls of an endpoint.
    pub fn endpoint(name: impl Into<String>) -> Scope {
        Scope { endpoint: Selector::from(name.into()), ..Scope::default() }
    }

    /// The calls that name a model.
    pub fn model(name: impl Into<String>) -> Scope {
        Scope { model: Selector::from(name.into()), ..Scope::default() }
    }

    /// The same, of the model that a call of this class names.
    pub fn of_model_of(self, class: &CallClass) -> Scope {
        Scope { model: Selector::same_as(class.model.as_ref()), ..self }
    }

    /// The same, of the endpoint of a call of this class.
    pub fn of_endpoint_of(self, class: &CallClass) -> Scope {
        Scope { endpoint: Selector::same_as(class.endpoint.as_ref()), ..self }
    }

    /// Whether it is all calls of the account.
    pub fn is_account(&self) -> bool {
        *self == Scope::default()
    }

    /// Whether endpoint and model of a call of this class are within it. Which calls a limit covers is known to
    /// the account alone.
    pub fn covers_class(&self, class: &CallClass) -> bool {
        self.endpoint.covers(class.endpoint.as_deref()) && self.model.covers(class.model.as_deref())
    }
}

/// For people: `all calls`, `limit requests`, `endpoint search`, `limit requests, model gpt-4o`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_account() {
            return f.write_str("all calls");
        }
        let part = |what: &str, selector: &Selector| match selector {
            Selector::Any => None,
            Selector::Unnamed => Some(format!("calls without {what}")),
            Selector::Named(name) => Some(format!("{what} {name}")),
        };
        let limit = self.limit.as_ref().map(|name| format!("limit {name}"));
        let parts = [limit, part("endpoint", &self.endpoint), part("model", &self.model)];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn class(endpoint: Option<&str>, model: Option<&str>) -> CallClass {
        CallClass { endpoint: endpoint.map(str::to_owned), model: model.map(str::to_owned), allocation: None }
    }

    #[test]
    fn a_scope_covers_what_all_of_its_parts_cover() {
        let chat = class(Some("chat"), Some("gpt-4o"));
        let (models, unnamed) = (class(Some("models"), None), class(None, None));
        assert!(Scope::account().covers_class(&chat) && Scope::account().covers_class(&unnamed));
        assert!(Scope::model("gpt-4o").covers_class(&chat));
        assert!(!Scope::model("gpt-4o-mini").covers_class(&chat));
        assert!(!Scope::model("gpt-4o").covers_class(&models), "a call without a model");
        assert!(!Scope::endpoint("models").of_model_of(&chat).covers_class(&models));
        let without = Scope::limit("tokens").of_model_of(&models);
        assert!(without.covers_class(&unnamed) && !without.covers_class(&chat));
    }

    #[test]
    fn people_read_all_of_its_parts() {
        let chat = class(Some("chat"), Some("gpt-4o"));
        for (scope, text) in [
            (Scope::account(), "all calls"),
            (Scope::limit("requests"), "limit requests"),
            (Scope::limit("requests").of_model_of(&chat), "limit requests, model gpt-4o"),
            (Scope::model("gpt-4o").of_endpoint_of(&chat), "endpoint chat, model gpt-4o"),
            (Scope::limit("tokens").of_model_of(&class(None, None)), "limit tokens, calls without model"),
        ] {
            assert_eq!(scope.to_string(), text);
            let json = serde_json::to_string(&scope).unwrap();
            assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), scope, "{json}");
        }
    }
}
