//! What authentication needs of the API server: the keys that it publishes, reviews of tokens, and pods.

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

/// The path of the issuer (OpenID Connect Discovery 1.0, section 4).
const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// The path of the keys of ServiceAccount tokens.
const KEYS: &str = "/openid/v1/jwks";
/// The keys of a reviewed user's extra fields that name the pod that the token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The published issuer and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The issuer.
    pub issuer: String,
    /// The keys: a JSON Web Key Set (RFC 7517, section 5).
    pub jwks: String,
}

/// The review of a token that is valid for this limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// Its user: `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The pod that it is bound to, and that exists.
    pub pod: Option<BoundPod>,
}

/// The part of the API server that authentication uses.
pub trait ClusterApi: Send + Sync + 'static {
    /// The issuer and its keys.
    ///
    /// # Errors
    /// Why they can't be fetched, as a sentence.
    fn keys(&self) -> impl Future<Output = Result<Published, String>> + Send;

    /// Reviews a token; the inner error: why it is not valid.
    ///
    /// # Errors
    /// Why the API server did not answer, as a sentence.
    fn review(&self, token: &str) -> impl Future<Output = Result<Result<Reviewed, String>, String>> + Send;

    /// Looks up a pod that no watch has shown yet; none: it does not exist.
    ///
    /// # Errors
    /// Why the API server did not answer, as a sentence.
    fn pod(&self, pod: &BoundPod) -> impl Future<Output = Result<Option<SeenPod>, String>> + Send;
}

/// The cluster's API server.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
}

impl ApiServer {
    /// The API server of `client`.
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

impl ClusterApi for ApiServer {
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
        Ok(reviewed(answer.status.unwrap_or_default()))
    }

    async fn pod(&self, pod: &BoundPod) -> Result<Option<SeenPod>, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        // A list of one pod: the limiter has the right to list pods, and needs none to get them.
        let named = ListParams::default().fields(&format!("metadata.name={}", pod.pod));
        let found = pods.list_metadata(&named).await.map_err(|error| format!("no list of pods: {error}"))?;
        Ok(found.items.iter().filter_map(|found| SeenPod::of(&found.metadata)).find(|it| it.uid == pod.uid))
    }
}

fn reviewed(status: TokenReviewStatus) -> Result<Reviewed, String> {
    if status.authenticated != Some(true) {
        return Err(status.error.unwrap_or_else(|| "it is not valid".to_owned()));
    }
    // A server that does not know audiences accepts a token for any (the API's own reference).
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
        let review = reviewed(status(json!({}))).unwrap();
        let pod = review.pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.pod.as_str()), ("sales", "enrich-7"));
        assert_eq!((pod.uid.as_str(), pod.service_account.as_str()), ("7f1c", "runner"));
        // The operator's own token, or one that no pod holds.
        let review = reviewed(status(json!({"user": {"extra": null}}))).unwrap();
        assert_eq!((review.pod, review.user.as_str()), (None, "system:serviceaccount:sales:runner"));
    }

    #[test]
    fn a_token_for_others_is_refused_also_by_a_server_that_knows_no_audiences() {
        for wrong in [
            json!({"authenticated": false}),
            json!({"authenticated": null}),
            json!({"audiences": null}),
            json!({"audiences": ["https://kubernetes.default.svc"]}),
        ] {
            assert!(reviewed(status(wrong.clone())).is_err(), "{wrong}");
        }
    }
}
