//! How much a text may cost: YAML's brackets nest without end, and its aliases unfold to far more than is written.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::Error;

/// The most brackets that are parsed: the parser's work grows with the square of how deep they nest.
const BRACKETS: usize = 10_000;
/// The deepest that values may nest; a quota nests six deep.
const DEPTH: usize = 64;
/// The most values of a document once its aliases are unfolded.
const VALUES: usize = 100_000;

/// Refuses a text that would be costly to parse.
///
/// # Errors
/// A sentence with the bound.
pub(super) fn before_parsing(text: &str) -> Result<(), Error> {
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > BRACKETS {
        return Err(Error::TooMuch {
            message: format!("has more than {BRACKETS} brackets; split it"),
            line: None,
        });
    }
    Ok(())
}

/// Refuses a document that is too deep or unfolds to too much, without keeping any of it.
///
/// # Errors
/// What the library or a bound says.
pub(super) fn before_keeping(text: &str) -> Result<(), Error> {
    let mut measure = Measure { left: VALUES, exceeded: None };
    let node = Node { measure: &mut measure, depth: 0 };
    let Err(error) = node.deserialize(serde_yaml::Deserializer::from_str(text)) else { return Ok(()) };
    // The library has a bound of its own for aliases that name aliases.
    let unfolded = || error.to_string().starts_with("repetition limit exceeded").then(too_many);
    match measure.exceeded.or_else(unfolded) {
        Some(message) => Err(Error::TooMuch { message, line: error.location().map(|at| at.line()) }),
        None => Err(error.into()),
    }
}

fn too_many() -> String {
    format!("unfolds to more than {VALUES} values; write out what its aliases (*) repeat, or split it")
}

struct Measure {
    left: usize,
    /// The bound that was exceeded: the library wraps what a visitor says in words of its own.
    exceeded: Option<String>,
}

/// One value, looked at and forgotten.
struct Node<'m> {
    measure: &'m mut Measure,
    depth: usize,
}

impl Node<'_> {
    fn inner(&mut self) -> Node<'_> {
        Node { measure: self.measure, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let exceeded = if self.depth > DEPTH {
            Some(format!("is nested deeper than {DEPTH}; a quota nests six deep, is it another file?"))
        } else if self.measure.left == 0 {
            Some(too_many())
        } else {
            None
        };
        if exceeded.is_some() {
            self.measure.exceeded = exceeded;
            return Err(D::Error::custom("too much"));
        }
        self.measure.left -= 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(self.inner())?.is_some() {
            map.next_value_seed(self.inner())?;
        }
        Ok(())
    }

    /// A value with a tag of its own.
    fn visit_enum<A: EnumAccess<'de>>(mut self, tagged: A) -> Result<(), A::Error> {
        let ((), value) = tagged.variant_seed(self.inner())?;
        value.newtype_variant_seed(self.inner())
    }
}
