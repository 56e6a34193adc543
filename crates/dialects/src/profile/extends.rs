//! How a profile inherits from another.

use super::Profile;

/// Longest chain of `extends`.
const MAX_DEPTH: usize = 8;

/// Why a profile's inheritance cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendsError {
    /// No provider has the name in `extends`.
    #[error("extends: provider `{0}` does not exist; create it, or name one that exists")]
    Unknown(String),
    /// The chain comes back to a provider that is already in it.
    #[error("extends: `{0}` extends itself by way of others; remove one `extends` of the circle")]
    Cyclic(String),
    /// The chain is longer than eight providers.
    #[error("extends: the chain at `{0}` is longer than {MAX_DEPTH} providers; extend a nearer one")]
    TooDeep(String),
}

impl Profile {
    /// The profile with everything that it inherits, and `extends` gone. `find` looks a provider up by name.
    ///
    /// # Errors
    /// [`ExtendsError`] if a name is unknown, comes twice, or the chain is too long.
    pub fn resolve(&self, find: impl Fn(&str) -> Option<Self>) -> Result<Self, ExtendsError> {
        let mut resolved = self.clone();
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = resolved.extends.take() {
            if seen.contains(&name) {
                return Err(ExtendsError::Cyclic(name));
            }
            if seen.len() == MAX_DEPTH {
                return Err(ExtendsError::TooDeep(name));
            }
            let base = find(&name).ok_or_else(|| ExtendsError::Unknown(name.clone()))?;
            resolved.inherit(base);
            seen.push(name);
        }
        Ok(resolved)
    }

    fn inherit(&mut self, base: Self) {
        if self.hosts.is_empty() {
            self.base_url = self.base_url.take().or(base.base_url);
            // Another address is another provider, with other models and prices.
            if self.models.is_empty() {
                self.models = base.models;
                self.prices = self.prices.take().or(base.prices);
            }
        }
        if self.tiers.is_empty() {
            // Nobody has checked figures of its own against the base's document.
            self.verified = self.verified.take().or(base.verified);
        }
        self.rejections.extend(base.rejections);
        replace_empty(&mut self.hosts, base.hosts);
        replace_empty(&mut self.credentials, base.credentials);
        replace_empty(&mut self.organization_headers, base.organization_headers);
        replace_empty(&mut self.endpoints, base.endpoints);
        replace_empty(&mut self.credits, base.credits);
        replace_empty(&mut self.tiers, base.tiers);
        replace_empty(&mut self.headers, base.headers);
        self.model = self.model.take().or(base.model);
        self.tokens = self.tokens.take().or(base.tokens);
        self.stream = self.stream.take().or(base.stream);
        self.rejected_calls = self.rejected_calls.or(base.rejected_calls);
        self.retry = self.retry.take().or(base.retry);
        self.max_call_seconds = self.max_call_seconds.or(base.max_call_seconds);
        self.client = self.client.take().or(base.client);
        self.extends = base.extends;
    }
}

fn replace_empty<T>(mine: &mut Vec<T>, inherited: Vec<T>) {
    if mine.is_empty() {
        *mine = inherited;
    }
}
