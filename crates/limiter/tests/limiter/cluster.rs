//! A cluster that signs tokens, publishes its keys and reviews tokens, and counts how often it is asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use quotakeeper_limiter::auth::cluster_api::{ClusterApi, Published, Reviewed};
use quotakeeper_limiter::auth::pods::SeenPod;
use quotakeeper_limiter::auth::token::BoundPod;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A key of the cluster, by its id.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    kind: Arc<Kind>,
}

enum Kind {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub fn rsa(id: &str) -> Key {
        let pair = RsaKeyPair::from_der(include_bytes!("../signs_test_tokens.der")).unwrap();
        Key { id: id.to_owned(), kind: Arc::new(Kind::Rsa(Box::new(pair))) }
    }

    pub fn ecdsa(id: &str) -> Key {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Key { id: id.to_owned(), kind: Arc::new(Kind::Ecdsa(Box::new(pair))) }
    }

    pub fn algorithm(&self) -> &'static str {
        match &*self.kind {
            Kind::Rsa(_) => "RS256",
            Kind::Ecdsa(_) => "ES256",
        }
    }

    /// The public half as a JSON Web Key.
    pub fn public(&self) -> Value {
        match &*self.kind {
            Kind::Rsa(pair) => {
                let RsaPublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({
                    "kty": "RSA", "use": "sig", "kid": self.id, "alg": "RS256", "n": base64(n), "e": base64(e),
                })
            }
            Kind::Ecdsa(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({
                    "kty": "EC", "use": "sig", "kid": self.id, "alg": "ES256", "crv": "P-256",
                    "x": base64(x), "y": base64(y),
                })
            }
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "kid": self.id});
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &*self.kind {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Kind::Ecdsa(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", base64(signature))
    }
}

pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a pod's token; its UID is made of its name.
pub fn claims(namespace: &str, pod: &str) -> Value {
    claims_of(namespace, pod, "runner")
}

/// Of a pod of this ServiceAccount.
pub fn claims_of(namespace: &str, pod: &str, account: &str) -> Value {
    let now = unix_seconds();
    json!({
        "aud": ["quotakeeper.dev/limiter"], "iss": ISSUER, "iat": now, "nbf": now, "exp": now + 3600,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "kubernetes.io": {
            "namespace": namespace,
            "pod": {"name": pod, "uid": uid(pod)},
            "serviceaccount": {"name": account, "uid": "5e41"},
            "node": {"name": "node-1", "uid": "90de"},
        },
    })
}

pub fn uid(pod: &str) -> String {
    format!("uid-of-{pod}")
}

/// The label of an injected pod.
pub fn injected() -> BTreeMap<String, String> {
    [("quotakeeper.dev/injected".to_owned(), "true".to_owned())].into()
}

/// A pod of the Job that is named as it is.
pub fn seen(namespace: &str, pod: &str) -> SeenPod {
    SeenPod { uid: uid(pod), workload: Some(format!("{namespace}/Job/{pod}").into()), labels: injected() }
}

/// The same pod as its watch shows it.
pub fn object(namespace: &str, pod: &str) -> PartialObjectMeta<Pod> {
    let job =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": pod, "uid": "job", "controller": true}]);
    let metadata = json!({
        "namespace": namespace, "name": pod, "uid": uid(pod), "ownerReferences": job, "labels": injected(),
    });
    PartialObjectMeta { metadata: serde_json::from_value(metadata).unwrap(), ..Default::default() }
}

/// The API server. Clones are the same.
#[derive(Clone)]
pub struct Cluster {
    pub key: Key,
    published: Arc<Mutex<Vec<Value>>>,
    reviewed: Arc<Mutex<BTreeMap<String, Reviewed>>>,
    pub keys_asked: Arc<AtomicUsize>,
    pub reviews_asked: Arc<AtomicUsize>,
}

impl Cluster {
    pub fn new(key: Key) -> Cluster {
        Cluster {
            published: Arc::new(Mutex::new(vec![key.public()])),
            key,
            reviewed: Arc::default(),
            keys_asked: Arc::default(),
            reviews_asked: Arc::default(),
        }
    }

    pub fn publish(&self, key: Value) {
        self.published.lock().unwrap().push(key);
    }

    /// A token of a pod, signed by the cluster's first key.
    pub fn token(&self, namespace: &str, pod: &str) -> String {
        self.key.sign(&claims(namespace, pod))
    }

    /// A token of a pod of this ServiceAccount, which a review confirms.
    pub fn token_of(&self, namespace: &str, pod: &str, account: &str) -> String {
        let token = self.key.sign(&claims_of(namespace, pod, account));
        self.vouch(&token, &format!("system:serviceaccount:{namespace}:{account}"), None);
        token
    }

    /// Sets the review of this token.
    pub fn vouch(&self, token: &str, user: &str, pod: Option<BoundPod>) {
        let reviewed = Reviewed { user: user.to_owned(), pod };
        self.reviewed.lock().unwrap().insert(token.to_owned(), reviewed);
    }

    pub fn reviews(&self) -> usize {
        self.reviews_asked.load(Ordering::Relaxed)
    }
}

impl ClusterApi for Cluster {
    async fn keys(&self) -> Result<Published, String> {
        self.keys_asked.fetch_add(1, Ordering::Relaxed);
        let jwks = json!({"keys": *self.published.lock().unwrap()}).to_string();
        Ok(Published { issuer: ISSUER.to_owned(), jwks })
    }

    async fn pod(&self, pod: &BoundPod) -> Result<Option<SeenPod>, String> {
        let reviewed = self.reviewed.lock().unwrap();
        let mut known = reviewed.values().filter_map(|reviewed| reviewed.pod.as_ref());
        let found = known.any(|known| known == pod).then(|| seen(&pod.namespace, &pod.pod));
        let labels = if pod.pod.starts_with("plain") { BTreeMap::new() } else { injected() };
        Ok(found.map(|seen| SeenPod { labels, ..seen }))
    }

    async fn review(&self, token: &str) -> Result<Result<Reviewed, String>, String> {
        self.reviews_asked.fetch_add(1, Ordering::Relaxed);
        let reviewed = self.reviewed.lock().unwrap().get(token).cloned();
        Ok(reviewed.ok_or_else(|| "the pod does not exist".to_owned()))
    }
}
