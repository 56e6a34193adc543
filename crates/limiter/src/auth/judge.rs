//! The API server, as far as tokens are concerned: the keys that it publishes, and its word for one
//! token.

use std::collections::BTreeMap;
use std::future::Future;

use http::Request;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use quotakeeper_wire::bootstrap::AUDIENCE;
use serde::Deserialize;

use super::pods::SeenPod;
use super::token::BoundPod;

/// Where the issuer stands (OpenID Connect Discovery 1.0, section 4).
const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// Where the API server publishes the keys of ServiceAccount tokens.
const KEYS: &str = "/openid/v1/jwks";
/// The pod that a token is bound to, in what a review says of its user.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Who signs.
    pub issuer: String,
    /// The keys: a JSON Web Key Set (RFC 7517, section 5).
    pub jwks: String,
}

/// What a review says of a token that is valid for this limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// Whose it is: `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The pod that it is bound to, and that exists.
    pub pod: Option<BoundPod>,
}

/// Who knows about tokens.
pub trait Judge: Send + Sync + 'static {
    /// The issuer and its keys.
    ///
    /// # Errors
    /// Why they can't be had, as a sentence.
    fn keys(&self) -> impl Future<Output = Result<Published, String>> + Send;

    /// Whose token it is; the inner error: why it is nobody's.
    ///
    /// # Errors
    /// Why nobody can tell, as a sentence.
    fn review(&self, token: &str) -> impl Future<Output = Result<Result<Reviewed, String>, String>> + Send;

    /// A pod, where no watch has seen it yet; none: it does not exist.
    ///
    /// # Errors
    /// Why nobody can tell, as a sentence.
    fn pod(&self, pod: &BoundPod) -> impl Future<Output = Result<Option<SeenPod>, String>> + Send;
}

/// The cluster's API server.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
}

impl ApiServer {
    /// That of `client`.
    pub fn new(client: Client) -> ApiServer {
        ApiServer { client }
    }

    async fn get(&self, path: &'static str) -> Result<String, String> {
        let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        self.client.request_text(request).await.map_err(|error| format!("{path}: {error}"))
    }
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
}

impl Judge for ApiServer {
    async fn keys(&self) -> Result<Published, String> {
        let configuration = self.get(CONFIGURATION).await?;
        let Configuration { issuer } =
            serde_json::from_str(&configuration).map_err(|error| format!("{CONFIGURATION}: {error}"))?;
        Ok(Published { issuer, jwks: self.get(KEYS).await? })
    }

    async fn review(&self, token: &str) -> Result<Result<Reviewed, String>, String> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) },
            status: None,
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        // The error names the request's path, never its body.
        let answer = answer.map_err(|error| format!("no TokenReview: {error}"))?;
        Ok(judged(answer.status.unwrap_or_default()))
    }

    async fn pod(&self, pod: &BoundPod) -> Result<Option<SeenPod>, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        // A list of one: the limiter may list pods anyway, and needs no right to get them.
        let named = ListParams::default().fields(&format!("metadata.name={}", pod.pod));
        let found = pods.list_metadata(&named).await.map_err(|error| format!("no list of pods: {error}"))?;
        Ok(found.items.iter().filter_map(|found| SeenPod::of(&found.metadata)).find(|it| it.uid == pod.uid))
    }
}

fn judged(status: TokenReviewStatus) -> Result<Reviewed, String> {
    if status.authenticated != Some(true) {
        return Err(status.error.unwrap_or_else(|| "it is not valid".to_owned()));
    }
    // A server that does not know audiences would answer for any token (the API's own reference).
    if !status.audiences.is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE)) {
        return Err(format!("it is not for the audience {AUDIENCE}"));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let pod = bound_to(&name, &user.extra.unwrap_or_default());
    Ok(Reviewed { user: name, pod })
}

fn bound_to(user: &str, extra: &BTreeMap<String, Vec<String>>) -> Option<BoundPod> {
    let (namespace, service_account) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let one = |key| match extra.get(key)?.as_slice() {
        [value] => Some(value.clone()),
        _ => None,
    };
    Some(BoundPod {
        namespace: namespace.to_owned(),
        pod: one(POD_NAME)?,
        uid: one(POD_UID)?,
        service_account: service_account.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn status(changes: serde_json::Value) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true,
            "audiences": [AUDIENCE],
            "user": {
                "username": "system:serviceaccount:sales:runner",
                "extra": {POD_NAME: ["enrich-7"], POD_UID: ["7f1c"]},
            },
        });
        json_patch::merge(&mut status, &changes);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_review_names_the_pod_that_the_token_is_bound_to() {
        let reviewed = judged(status(json!({}))).unwrap();
        let pod = reviewed.pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.pod.as_str()), ("sales", "enrich-7"));
        assert_eq!((pod.uid.as_str(), pod.service_account.as_str()), ("7f1c", "runner"));
        // The operator's own token, or one that no pod holds.
        let reviewed = judged(status(json!({"user": {"extra": null}}))).unwrap();
        assert_eq!((reviewed.pod, reviewed.user.as_str()), (None, "system:serviceaccount:sales:runner"));
    }

    #[test]
    fn a_token_for_others_is_refused_also_by_a_server_that_knows_no_audiences() {
        for wrong in [
            json!({"authenticated": false}),
            json!({"authenticated": null}),
            json!({"audiences": null}),
            json!({"audiences": ["https://kubernetes.default.svc"]}),
        ] {
            assert!(judged(status(wrong.clone())).is_err(), "{wrong}");
        }
    }
}
