//! Which endpoint, model and tier of service a request calls: what decides the limits that it draws on.
//!
//! `request/json_scanner.rs` and `request/multipart_scanner.rs` read bodies of any size in pieces;
//! `request/size.rs` holds what they say of the tokens that a call may cost.

pub(crate) mod json_scanner;
mod multipart_scanner;
mod size;

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use crate::profile::{Endpoint, Profile, ServiceTier};
use json_scanner::{JsonScanner, Note, Scanned};
use multipart_scanner::{MultipartScanner, parameter};
use size::SizeFact;
pub use size::{RequestSize, SizeFacts};

/// Longest model name that is believed, in bytes.
const MAX_MODEL: usize = 256;
/// The most places of a body that are read.
pub(crate) const MOST_POINTERS: usize = json_scanner::MAX_POINTERS;

/// What of a call decides which limits it draws on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CallShape {
    /// Name of the profile's endpoint that the call belongs to; none for all others.
    pub endpoint: Option<String>,
    /// The model as the request names it; `None` if no name was found.
    pub model: Option<String>,
    /// The tier of service, if the provider counts it apart.
    pub service_tier: Option<String>,
}

/// What a request's body says of the call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// The model, if a name was found.
    pub model: Option<String>,
    /// The tier of service, if one was found.
    pub service_tier: Option<String>,
    /// Whether the answer is to be an event stream.
    pub stream: bool,
    /// The most tokens that the answer may have, if that was found.
    pub max_output_tokens: Option<u64>,
    /// How many times the call costs what one of its kind does, in the provider's own units, if that was found.
    pub times: Option<u64>,
    /// What it says of the tokens that the call may cost, if it was measured.
    pub size: Option<SizeFacts>,
    /// Whether the body was a whole JSON text or form. With `false`, the facts are those that stood before the break.
    pub whole: bool,
}

/// Reads a decoded body in pieces of any size, in bounded memory.
#[derive(Debug)]
pub struct BodyReader {
    scanner: Scanner,
    /// What each of its values is.
    wanted: Vec<Fact>,
    /// Its size is wanted too.
    measures: bool,
}

/// What is wanted of a body beyond what decides the call's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nothing.
    Nothing,
    /// What the call costs in the provider's own units.
    Credits,
    /// That, and its size in tokens.
    Size,
}

/// What a value of a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Model,
    ServiceTier,
    Stream,
    MaxOutputTokens,
    /// The number of times that the call costs what one does …
    Times,
    /// … or what is counted as that.
    TimesCounted,
    Size(SizeFact),
}

#[derive(Debug)]
enum Scanner {
    Json(JsonScanner),
    Multipart(MultipartScanner),
}

impl BodyReader {
    /// Whether the body should name a model.
    pub fn reads_model(&self) -> bool {
        self.wanted.contains(&Fact::Model)
    }

    /// Reads the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.scanner {
            Scanner::Json(scanner) => scanner.push(bytes),
            Scanner::Multipart(scanner) => scanner.push(bytes),
        }
    }

    /// What the pieces have said.
    pub fn finish(self) -> BodyFacts {
        let (whole, size, found) = match self.scanner {
            Scanner::Json(scanner) => {
                let (whole, text_bytes, found) = scanner.finish();
                (whole, SizeFacts::of_text(text_bytes), found)
            }
            Scanner::Multipart(scanner) => {
                let form = scanner.finish();
                let size = SizeFacts::of_form(form.text_bytes, form.has_files);
                (form.whole, size, form.values.into_iter().map(Scanned::of_value).collect::<Vec<_>>())
            }
        };
        let size = self.measures.then_some(size);
        let mut facts = BodyFacts { whole, size, ..BodyFacts::default() };
        for (fact, found) in self.wanted.into_iter().zip(found) {
            if let (Fact::Size(fact), Some(size)) = (fact, &mut facts.size) {
                size.add(fact, &found);
                continue;
            }
            if fact == Fact::TimesCounted && found.items > 0 {
                facts.times = Some(found.items);
            }
            let Some(value) = found.last else { continue };
            match fact {
                Fact::Model => facts.model = believable(&value),
                Fact::ServiceTier => facts.service_tier = Some(value),
                Fact::Stream => facts.stream = value == "true",
                Fact::MaxOutputTokens => {
                    facts.max_output_tokens = value.parse().ok().max(facts.max_output_tokens)
                }
                Fact::Times => facts.times = value.parse().ok(),
                Fact::TimesCounted | Fact::Size(_) => {}
            }
        }
        facts
    }
}

impl Profile {
    /// Which endpoint and model a request calls. `path` may have a query; `body` is what its body says, as far as that
    /// was read.
    pub fn describe(&self, method: &Method, path: &str, body: &BodyFacts) -> CallShape {
        let endpoint = self.endpoint(method, path);
        if endpoint.is_some_and(|endpoint| endpoint.apart == Some(true)) {
            let endpoint = endpoint.map(|endpoint| endpoint.name.clone());
            return CallShape { endpoint, ..CallShape::default() };
        }
        let in_body = || body.model.clone().filter(|_| self.model_pointer().is_some());
        CallShape {
            endpoint: endpoint.map(|endpoint| endpoint.name.clone()),
            model: self.model_in_path(path).or_else(in_body),
            service_tier: body.service_tier.clone().filter(|tier| self.is_counted_apart(tier)),
        }
    }

    /// The reader for the body of a request with these headers, which may be JSON or a form; `None` if a body decides
    /// nothing with this provider, or the path says it all, and its size isn't wanted.
    pub fn body_reader(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        measure: Measure,
    ) -> Option<BodyReader> {
        let apart = self.endpoint(method, path).is_some_and(|endpoint| endpoint.apart == Some(true));
        let measures = measure == Measure::Size && !apart;
        let facts = if apart { Vec::new() } else { self.facts(path) };
        let facts = facts.into_iter().map(|(fact, at)| (fact, (at.to_owned(), Note::Last)));
        let tokens = self.tokens.iter().filter(|_| measures);
        let sizes = tokens.flat_map(size::wanted).map(|(fact, at, note)| (Fact::Size(fact), (at, note)));
        let times = self.times(method, path).filter(|_| measure != Measure::Nothing);
        let (wanted, pointers): (Vec<Fact>, Vec<(String, Note)>) =
            facts.chain(times.into_iter().flatten()).chain(sizes).unzip();
        if wanted.is_empty() && !measures {
            return None;
        }
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let scanner = match boundary(content_type) {
            Some(boundary) => Scanner::Multipart(MultipartScanner::new(&boundary, fields(&pointers))),
            None => Scanner::Json(JsonScanner::new(pointers)),
        };
        Some(BodyReader { scanner, wanted, measures })
    }

    /// What a body may say that matters, and where.
    fn facts(&self, path: &str) -> Vec<(Fact, &str)> {
        let in_path = self.model_in_path(path).is_some();
        let model = self.model_pointer().filter(|_| !in_path).map(|at| (Fact::Model, at));
        let tier = self.service_tier().map(|tier| (Fact::ServiceTier, tier.body.as_str()));
        let stream = self.stream.iter().filter_map(|stream| stream.requested.as_deref());
        let most = self.model.iter().flat_map(|model| &model.max_output_tokens);
        let asked =
            stream.map(|at| (Fact::Stream, at)).chain(most.map(|at| (Fact::MaxOutputTokens, at.as_str())));
        model.into_iter().chain(tier).chain(asked).collect()
    }

    /// Where the body says how many times the call costs what one does: a number, or the elements of an array.
    fn times(&self, method: &Method, path: &str) -> Option<[(Fact, (String, Note)); 2]> {
        let endpoint = self.endpoint(method, path).map(|endpoint| endpoint.name.as_str());
        let times = self.credit_cost(endpoint)?.times.as_ref()?;
        Some([
            (Fact::Times, (times.clone(), Note::Last)),
            (Fact::TimesCounted, (format!("{times}/*"), Note::Count)),
        ])
    }

    /// The path of a request as logs and Events may show it: the pattern that covers it, or `*`. Some providers have
    /// credentials in their paths, which no pattern names.
    pub fn shown_path(&self, method: &Method, path: &str) -> &str {
        let path = normal(without_query(path));
        let patterns =
            self.endpoints.iter().filter(|endpoint| endpoint.takes(method)).flat_map(|it| &it.paths);
        patterns.map(String::as_str).find(|pattern| path_fits(pattern, &path)).unwrap_or("*")
    }

    fn endpoint(&self, method: &Method, path: &str) -> Option<&Endpoint> {
        let path = normal(without_query(path));
        self.endpoints.iter().find(|endpoint| endpoint.covers(method, &path))
    }

    fn model_pointer(&self) -> Option<&str> {
        self.model.as_ref()?.body.as_deref()
    }

    fn service_tier(&self) -> Option<&ServiceTier> {
        self.model.as_ref()?.service_tier.as_ref()
    }

    fn is_counted_apart(&self, tier: &str) -> bool {
        self.service_tier().is_some_and(|known| known.counted_apart.iter().any(|apart| apart == tier))
    }

    fn model_in_path(&self, path: &str) -> Option<String> {
        let model = self.model.as_ref()?;
        let after = model.path_after.as_deref()?;
        let path = normal(without_query(path));
        let mut segments = path.split('/');
        segments.find(|segment| *segment == after)?;
        // A colon may be written as it is, or not.
        let segment = segments.next()?.replace("%3A", ":").replace("%3a", ":");
        let name = match model.path_until.as_deref() {
            Some(end) => segment.split(end).next().unwrap_or_default(),
            None => &segment,
        };
        believable(name)
    }
}

pub(crate) fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// The boundary of a form's parts, from its content type.
fn boundary(content_type: &str) -> Option<String> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    // RFC 2046 §5.1.1.
    let fits = |boundary: &String| (1..=70).contains(&boundary.len());
    parameter(content_type, "boundary")
        .filter(|boundary| essence.eq_ignore_ascii_case("multipart/form-data") && fits(boundary))
}

/// The names of a form's fields at pointers; a pointer into a field's value leads nowhere, and no field has its name.
fn fields(pointers: &[(String, Note)]) -> Vec<String> {
    pointers.iter().map(|(pointer, _)| pointer.strip_prefix('/').unwrap_or(pointer).to_owned()).collect()
}

fn believable(name: &str) -> Option<String> {
    (!name.is_empty() && name.len() <= MAX_MODEL).then(|| name.to_owned())
}

impl Endpoint {
    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|known| known == method.as_str())
    }

    fn covers(&self, method: &Method, path: &str) -> bool {
        self.takes(method) && self.paths.iter().any(|pattern| path_fits(pattern, path))
    }
}

/// A path as most servers understand it (RFC 3986 §6.2.2): without empty and dot segments, and with unreserved characters
/// that are not percent-encoded.
fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && !path.contains("//") && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/').map(decoded_unreserved) {
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

fn decoded_unreserved(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let digits =
            rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let unreserved = byte.map(char::from).filter(|it| it.is_ascii_alphanumeric() || "-._~".contains(*it));
        match unreserved {
            Some(character) => {
                text.push(character);
                rest = &rest[at + 3..];
            }
            None => {
                text.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

/// Whether `path` has the pattern's segments, `*` standing for any one; a slash at the end is no segment.
pub(crate) fn path_fits(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.trim_end_matches('/').split('/');
    let mut found = path.trim_end_matches('/').split('/');
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(want), Some(segment)) if want == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Model;

    fn profile(paths: &[&str]) -> Profile {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let endpoint = Endpoint { name: "search".to_owned(), paths, ..Endpoint::default() };
        Profile { endpoints: vec![endpoint], ..Profile::default() }
    }

    /// A provider takes these for the same, so a limit of the endpoint must, too.
    #[test]
    fn another_spelling_of_a_path_is_the_same_endpoint() {
        let profile = profile(&["/crm/*/search"]);
        let is_search = |path: &str| profile.endpoint(&Method::POST, path).is_some();
        for path in [
            "/crm/v3/search",
            "/crm//v3/search/",
            "/x/../crm/v3/search",
            "/crm/./v3/%73earch?a=//",
            "/%63rm/v%33/search",
            "/../../crm/v3/search",
        ] {
            assert!(is_search(path), "{path}");
        }
        for path in
            ["/crm/v3%2Fsearch", "/crm/v3/../search", "/crm/v3/search/more", "/crm/v3/se%", "/crm/v3/%é%73"]
        {
            assert!(!is_search(path), "{path}");
        }
    }

    /// Else the call would be counted as one of another model.
    #[test]
    fn another_spelling_of_a_path_has_the_same_model() {
        let model =
            Model { path_after: Some("models".into()), path_until: Some(":".into()), ..Model::default() };
        let profile = Profile { model: Some(model), ..Profile::default() };
        for path in
            ["/v1/models/m-2:generate", "/v1//%6dodels/m%2D2%3Agenerate?x", "/v1/x/../models/./m-2:generate"]
        {
            let shape = profile.describe(&Method::POST, path, &BodyFacts::default());
            assert_eq!(shape.model.as_deref(), Some("m-2"), "{path}");
        }
    }

    #[test]
    fn what_no_pattern_names_of_a_path_is_not_shown() {
        let profile = profile(&["/bot*/send", "/crm/*/search"]);
        let shown = |path: &str| profile.shown_path(&Method::GET, path).to_owned();
        assert_eq!(shown("/crm/key-123/search?key=secret"), "/crm/*/search");
        assert_eq!(shown("/bot123456:AAF-SECRET-TOKEN/sendMessage"), "*");
    }
}
