//! How many tokens a request may cost, as far as it says.

use super::json_scanner::{Note, Scanned};
use super::{BodyFacts, path_fits, without_query};
use crate::profile::{Media, Profile, Tokens, UsageRequest};

/// The parts of a request that its tokens are estimated from. Each is at least what the provider can make of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestSize {
    /// Bytes of its decoded body, without inlined media, white space between values, and the longer half of escapes.
    pub text_bytes: u64,
    /// The most tokens that its images and sounds cost.
    pub media_tokens: u64,
    /// The most output tokens of one completion that it allows; `None`: it names no bound.
    pub max_output: Option<u64>,
    /// Completions that it wants, at least 1.
    pub choices: u32,
    /// Nothing in it bounds its input.
    pub stored_input: bool,
}

/// What a body says of its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SizeFacts {
    text_bytes: u64,
    choices: Option<u32>,
    /// For each kind of media of the profile.
    media: Vec<MediaFound>,
    stored_input: bool,
    asks_for_usage: bool,
}

/// The media of one kind in a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct MediaFound {
    items: u64,
    /// Bytes of base64.
    encoded: u64,
}

/// What a value of a body says of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeFact {
    Choices,
    /// One of this kind of the profile's media.
    Media(usize),
    StoredInput,
    /// It asks for the usage of its stream, or says that it doesn't want it.
    AsksForUsage,
}

/// The pointers that a body's size is read from.
pub(super) fn wanted(tokens: &Tokens) -> impl Iterator<Item = (SizeFact, String, Note)> {
    let choices = tokens.choices.iter().map(|at| (SizeFact::Choices, at.clone(), Note::Last));
    let media = tokens.media.iter().enumerate().flat_map(|(kind, media)| {
        let note = || Note::Media { starts_with: media.starts_with.clone() };
        media.at.iter().map(move |at| (SizeFact::Media(kind), at.clone(), note()))
    });
    let stored = tokens.stored_input.iter().flat_map(|stored| {
        stored.at.iter().map(move |at| (SizeFact::StoredInput, at.clone(), Note::Any(stored.clone())))
    });
    let asked = tokens.usage.iter().filter_map(|usage| usage.asked_by.as_ref());
    let asked = asked.map(|asked| (SizeFact::AsksForUsage, format!("/{}", asked.member), Note::Present));
    choices.chain(media).chain(stored).chain(asked)
}

impl SizeFacts {
    pub(super) fn of_text(text_bytes: u64) -> Self {
        Self { text_bytes, ..Self::default() }
    }

    /// Nothing tells what a file of a form costs.
    pub(super) fn of_form(text_bytes: u64, has_files: bool) -> Self {
        Self { text_bytes, stored_input: has_files, ..Self::default() }
    }

    /// Adds what was found at one pointer.
    pub(super) fn add(&mut self, fact: SizeFact, found: &Scanned) {
        match fact {
            SizeFact::Choices => {
                let choices = found.last.as_deref().and_then(most_choices);
                self.choices = self.choices.max(choices);
            }
            SizeFact::Media(kind) => {
                if self.media.len() <= kind {
                    self.media.resize(kind + 1, MediaFound::default());
                }
                if let Some(media) = self.media.get_mut(kind) {
                    media.items = media.items.saturating_add(found.items);
                    media.encoded = media.encoded.saturating_add(found.left_out);
                }
            }
            SizeFact::StoredInput => self.stored_input |= found.any,
            SizeFact::AsksForUsage => self.asks_for_usage |= found.any,
        }
    }
}

/// A number of completions, rounded up; what is no number wants one.
fn most_choices(text: &str) -> Option<u32> {
    // The conversion stops at the bounds of the integer.
    text.parse::<f64>().ok().map(|number| number.ceil() as u32)
}

impl Media {
    fn cost(&self, found: MediaFound, model: Option<&str>) -> u64 {
        let each = found.items.saturating_mul(self.tokens_of(model).into());
        let decoded = found.encoded / 4 * 3 + 3;
        let by_length = self.bytes_per_token.map_or(0, |bytes| decoded.div_ceil(u64::from(bytes.max(1))));
        each.saturating_add(if found.encoded > 0 { by_length } else { 0 })
    }
}

impl Profile {
    /// How many tokens a call may cost whose body says this and whose model is known by now. `None`: its body was not
    /// read to its end, or was not measured.
    pub fn request_size(&self, path: &str, body: &BodyFacts, model: Option<&str>) -> Option<RequestSize> {
        let facts = body.size.as_ref().filter(|_| body.whole)?;
        let tokens = self.tokens.as_ref();
        let path = without_query(path);
        if tokens.is_some_and(|tokens| tokens.without_tokens.iter().any(|known| path_fits(known, path))) {
            return Some(RequestSize::NONE);
        }
        let no_output =
            tokens.is_some_and(|tokens| tokens.without_output.iter().any(|known| path_fits(known, path)));
        let kinds = tokens.iter().flat_map(|tokens| &tokens.media);
        let media = kinds.zip(&facts.media).map(|(media, found)| media.cost(*found, model));
        Some(RequestSize {
            text_bytes: facts.text_bytes,
            media_tokens: media.fold(0, u64::saturating_add),
            max_output: if no_output { Some(0) } else { body.max_output_tokens },
            choices: facts.choices.unwrap_or(1).max(1),
            stored_input: facts.stored_input,
        })
    }
}

impl Profile {
    /// What has to be added to a request whose body says this, so that its stream tells its usage; `None`: nothing.
    pub fn usage_request(&self, path: &str, body: &BodyFacts) -> Option<&UsageRequest> {
        let size = body.size.as_ref().filter(|_| body.whole && body.stream)?;
        let asked = self.tokens.as_ref()?.usage.as_ref()?.asked_by.as_ref()?;
        let path = without_query(path);
        let takes_it = asked.paths.iter().any(|known| path_fits(known, path));
        Some(asked).filter(|_| takes_it && !size.asks_for_usage)
    }
}

impl RequestSize {
    /// Of a request that costs no tokens, such as one without a body.
    pub const NONE: RequestSize =
        RequestSize { text_bytes: 0, media_tokens: 0, max_output: Some(0), choices: 1, stored_input: false };
}
