//! Which endpoint and model a request calls: what decides the limits that it draws on.

use http::Method;

use crate::json;
use crate::profile::{Endpoint, Profile};

/// Longest model name that is believed, in bytes.
const MAX_MODEL: usize = 256;

/// What of a call decides which limits it draws on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CallShape {
    /// Name of the profile's endpoint that the call belongs to; none for all others.
    pub endpoint: Option<String>,
    /// The model as the request names it; `None` if no name was found.
    pub model: Option<String>,
}

impl Profile {
    /// Which endpoint and model a request calls. `path` may have a query; `body` may be the beginning of the
    /// body only, and a model that is not in it is none.
    pub fn describe(&self, method: &Method, path: &str, body: Option<&[u8]>) -> CallShape {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.covers(method, path));
        CallShape {
            endpoint: endpoint.map(|endpoint| endpoint.name.clone()),
            model: self.model_in_path(path).or_else(|| self.model_in_body(body?)),
        }
    }

    /// Whether [`Profile::describe`] can make use of a body.
    pub fn model_is_in_body(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.body.is_some())
    }

    fn model_in_path(&self, path: &str) -> Option<String> {
        let model = self.model.as_ref()?;
        let after = model.path_after.as_deref()?;
        let mut segments = path.split('/');
        segments.find(|segment| *segment == after)?;
        let segment = segments.next()?;
        let name = match model.path_until.as_deref() {
            Some(end) => segment.split(end).next().unwrap_or_default(),
            None => segment,
        };
        believable(name)
    }

    fn model_in_body(&self, body: &[u8]) -> Option<String> {
        let pointer = self.model.as_ref()?.body.as_deref()?;
        believable(&json::first(body, pointer)?)
    }
}

fn believable(name: &str) -> Option<String> {
    (!name.is_empty() && name.len() <= MAX_MODEL).then(|| name.to_owned())
}

impl Endpoint {
    fn covers(&self, method: &Method, path: &str) -> bool {
        let method_fits =
            self.methods.is_empty() || self.methods.iter().any(|known| known == method.as_str());
        method_fits && self.paths.iter().any(|pattern| path_fits(pattern, path))
    }
}

/// Whether `path` has the pattern's segments, `*` standing for any one; a slash at the end is no segment.
fn path_fits(pattern: &str, path: &str) -> bool {
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
