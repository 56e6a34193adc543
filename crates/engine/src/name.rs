//! Names that travel between components: text with a type of its own, so that the name of a quota can't
//! be passed where the key of an account is expected.

/// Defines a type for names of one kind: text that is cheap to clone, and the same text in JSON and in
/// the ledger.
#[macro_export]
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self("".into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        // As text is compared and hashed, so is the name.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                *self.0 == **other
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

name_type! {
    /// The workload that draws on an account, and that shares it fairly with others:
    /// `namespace/kind/name`, or the program's name without a cluster.
    Consumer
}

name_type! {
    /// A part of a quota for a set of pods, by its name in the quota.
    AllocationName
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_name_is_its_text_in_json_in_maps_and_in_messages() {
        let name = Consumer::from("gtm/Job/enrich");
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, r#""gtm/Job/enrich""#);
        assert_eq!(serde_json::from_str::<Consumer>(&json).unwrap(), name);
        assert_eq!(BTreeMap::from([(name.clone(), 1)]).get("gtm/Job/enrich"), Some(&1));
        assert_eq!(format!("{name} {name:?}"), r#"gtm/Job/enrich "gtm/Job/enrich""#);
    }
}
