//! The profiles that are built in: `providers/*.yaml`, embedded as text and parsed on demand. The name of the
//! file is the name of the provider.

use crate::profile::Profile;
use crate::suggestion::did_you_mean;

/// Name and text of each embedded profile, in alphabetical order; written by `build.rs`.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// Why the catalogue has no such profile.
#[derive(Debug, thiserror::Error)]
pub enum UnknownProvider {
    /// No embedded profile has that name.
    #[error("provider `{asked}` is unknown{hint}; use one of: {known}")]
    Name {
        /// The name that was asked for.
        asked: String,
        /// The catalogue's names, separated by commas.
        known: String,
        /// The nearest name as a question, or nothing.
        hint: String,
    },
    /// The embedded text is not a profile: a defect of this build.
    #[error("the built-in profile `{0}` cannot be read; this build is broken, install another version")]
    Unreadable(String, #[source] serde_yaml::Error),
}

/// Names of the embedded profiles, in alphabetical order.
pub fn names() -> Vec<&'static str> {
    EMBEDDED.iter().map(|(name, _)| *name).collect()
}

/// The embedded profile of that name.
///
/// # Errors
/// [`UnknownProvider`], whose message lists the names and the nearest one.
pub fn find(name: &str) -> Result<Profile, UnknownProvider> {
    let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) else {
        return Err(UnknownProvider::Name {
            asked: name.to_owned(),
            known: names().join(", "),
            hint: did_you_mean(name, names()),
        });
    };
    serde_yaml::from_str(text).map_err(|error| UnknownProvider::Unreadable(name.to_owned(), error))
}
