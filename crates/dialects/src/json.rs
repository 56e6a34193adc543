//! Values by pointer from a JSON text of which only the beginning may be at hand: it is read as a stream, and
//! what was found before the text broke off counts. Only the requested values are stored.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest value that is read, in bytes; a longer one counts as absent.
const MAX_VALUE: usize = 4096;
/// Most values that one pointer with `*` yields.
const MAX_VALUES: usize = 64;

/// The first string, number or truth value at `pointer` (RFC 6901, `*` for any element or member), as text.
pub fn first(text: &[u8], pointer: &str) -> Option<String> {
    collect(text, pointer, 1).into_iter().next()
}

/// All strings, numbers and truth values at `pointer`, as text, the first 64 at most.
pub fn all(text: &[u8], pointer: &str) -> Vec<String> {
    collect(text, pointer, MAX_VALUES)
}

fn collect(text: &[u8], pointer: &str, most: usize) -> Vec<String> {
    let Some(steps) = steps(pointer) else {
        return Vec::new();
    };
    let mut search = Search { found: Vec::new(), most };
    let mut reader = serde_json::Deserializer::from_slice(text);
    // An error is the end of the text at hand, or of the search: what was found before it stands.
    let _ = At { steps: &steps, search: &mut search }.deserialize(&mut reader);
    search.found
}

/// The pointer's steps, unescaped; `None` if it is no pointer.
pub(crate) fn steps(pointer: &str) -> Option<Vec<String>> {
    let rest = if pointer.is_empty() {
        return Some(Vec::new());
    } else {
        pointer.strip_prefix('/')?
    };
    Some(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

/// Whether `pointer` is one that [`first`] and [`all`] can follow.
pub fn is_pointer(pointer: &str) -> bool {
    steps(pointer).is_some()
}

struct Search {
    found: Vec<String>,
    most: usize,
}

/// One place in the document, and the steps that are still to go from it.
struct At<'s> {
    steps: &'s [String],
    search: &'s mut Search,
}

impl At<'_> {
    fn keep<E: Error>(self, value: impl fmt::Display) -> Result<(), E> {
        if self.steps.is_empty() {
            let value = value.to_string();
            if value.len() <= MAX_VALUE {
                self.search.found.push(value);
            }
            if self.search.found.len() >= self.search.most {
                return Err(E::custom("found"));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.keep(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.keep(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.keep(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.keep(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.keep(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let step = self.steps.split_first();
        while let Some(key) = map.next_key::<String>()? {
            match step {
                Some((wanted, rest)) if wanted == "*" || *wanted == key => {
                    map.next_value_seed(At { steps: rest, search: &mut *self.search })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let step = self.steps.split_first();
        for index in 0_usize.. {
            let more = match step {
                Some((wanted, rest)) if wanted == "*" || *wanted == index.to_string() => {
                    seq.next_element_seed(At { steps: rest, search: &mut *self.search })?.is_some()
                }
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}
