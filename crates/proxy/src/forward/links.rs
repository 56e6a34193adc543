//! URLs in the heads of answers to calls by base URL. What leads to the provider would leave the proxy there, without
//! the client's key and uncounted, so that it is changed to lead to the proxy; other hosts' URLs and bodies are left
//! alone. In hosts mode the provider's own URLs lead to the proxy.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Uri};

use crate::upstream::Origin;

/// Headers that hold one URL. Azure's long-running operations are polled at the last of them.
const URLS: [HeaderName; 3] =
    [header::LOCATION, header::CONTENT_LOCATION, HeaderName::from_static("operation-location")];

/// Where a provider is for a client by base URL.
#[derive(Debug)]
pub(super) struct BaseUrlView {
    /// The proxy's own base URL of the provider, without a slash at the end: with the host that the client named, or
    /// the path alone where it named none.
    base: String,
    /// The provider's name, which its paths begin with.
    provider: String,
}

impl BaseUrlView {
    /// The view of a client that named this `Host`.
    pub(super) fn new(provider: &str, host: Option<&str>) -> Self {
        let base = host.map_or_else(|| format!("/{provider}"), |host| format!("http://{host}/{provider}"));
        Self { base, provider: provider.to_owned() }
    }

    /// Changes the URLs of an answer that lead to `origin`.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap, origin: &Origin) {
        for name in URLS {
            let Some(value) = headers.get_mut(&name) else { continue };
            let changed = value.to_str().ok().and_then(|url| self.url(url, origin));
            if let Some(changed) = changed.and_then(|url| HeaderValue::from_str(&url).ok()) {
                *value = changed;
            }
        }
        if let header::Entry::Occupied(mut links) = headers.entry(header::LINK) {
            for value in links.iter_mut() {
                let changed = value.to_str().ok().map(|links| self.links(links, origin));
                if let Some(changed) = changed.and_then(|links| HeaderValue::from_str(&links).ok()) {
                    *value = changed;
                }
            }
        }
    }

    /// The URL for the client; `None` where it stays as it is.
    fn url(&self, url: &str, origin: &Origin) -> Option<String> {
        if url.starts_with('/') && !url.starts_with("//") {
            return Some(format!("/{}{url}", self.provider));
        }
        let absolute = match url.strip_prefix("//") {
            Some(_) => format!("{}:{url}", origin.scheme()),
            None => url.to_owned(),
        };
        // A fragment is for the client alone, and is no part of what is parsed.
        let uri: Uri = absolute.parse().ok()?;
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let named = Origin::parse(&format!("{scheme}://{authority}")).ok()?;
        if named != *origin {
            return None;
        }
        let rest = absolute.split_once("://")?.1;
        let rest = rest.find(['/', '?', '#']).map_or("", |end| &rest[end..]);
        Some(format!("{}{rest}", self.base))
    }

    /// The targets of a `Link` field (RFC 8288): each stands in angle brackets.
    fn links(&self, links: &str, origin: &Origin) -> String {
        let mut changed = String::with_capacity(links.len());
        let mut rest = links;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((url, after)) = after.split_once('>') else { break };
            let url = self.url(url, origin).unwrap_or_else(|| url.to_owned());
            changed.extend([before, "<", &url, ">"]);
            rest = after;
        }
        changed + rest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_of_the_provider_lead_to_the_proxy_and_others_stay() {
        let origin = Origin::parse("https://api.openai.com").unwrap();
        let view = BaseUrlView::new("openai", Some("127.0.0.1:15801"));
        for (given, changed) in [
            ("/v1/files/1", Some("/openai/v1/files/1")),
            ("https://api.openai.com/v1/x?a=b#c", Some("http://127.0.0.1:15801/openai/v1/x?a=b#c")),
            ("https://API.openai.com:443", Some("http://127.0.0.1:15801/openai")),
            ("//api.openai.com/v1", Some("http://127.0.0.1:15801/openai/v1")),
            ("https://api.openai.com?after=2", Some("http://127.0.0.1:15801/openai?after=2")),
            ("next?page=2", None),
            ("?page=2", None),
            ("http://api.openai.com/v1", None),
            ("https://files.example.com/v1", None),
            ("//files.example.com/v1", None),
            ("mailto:a@api.openai.com", None),
            ("", None),
        ] {
            assert_eq!(view.url(given, &origin).as_deref(), changed, "{given}");
        }
        let links = "<https://api.openai.com/x?page=2>; rel=\"next\", <https://else.example/>; rel=\"last\", </y>; rel=x";
        let expected = "<http://a:1/openai/x?page=2>; rel=\"next\", <https://else.example/>; rel=\"last\", </openai/y>; rel=x";
        assert_eq!(BaseUrlView::new("openai", Some("a:1")).links(links, &origin), expected);
        assert_eq!(
            BaseUrlView::new("openai", None).links("<https://api.openai.com/x>, <", &origin),
            "</openai/x>, <"
        );
    }
}
